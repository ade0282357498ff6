"""Words: known answers, addressing, and everything drawn from them."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpref.ref import random
from lpref.ref.errors import WordsError

FF = 0xFFFFFFFF
# Random123 1.14, tests/kat_vectors: philox4x32 10
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((FF, FF, FF, FF), (FF, FF), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def literal_philox(counter, key):
    """The algorithm in Python integers, one block."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & FF, p0 >> 32 ^ c3 ^ k1, p0 & FF
        k0, k1 = (k0 + 0x9E3779B9) & FF, (k1 + 0xBB67AE85) & FF
    return c0, c1, c2, c3


@pytest.mark.parametrize(("counter", "key", "block"), KNOWN)
def test_random123_known_answers(counter, key, block):
    assert tuple(random.philox4x32(np.array(counter, np.uint32), key).tolist()) == block == literal_philox(counter, key)


@given(
    seed=st.integers(0, 2**64 - 1), stream=st.integers(0, FF), step=st.integers(0, FF),
    start=st.integers(0, 2**65), count=st.integers(0, 40), r=st.sampled_from([8, 16, 32]),
)  # fmt: skip
def test_element_is_its_bits_of_its_block(seed, stream, step, start, count, r):
    found = random.bits(seed, stream, step, start, count, r)
    assert found.dtype == np.uint32
    assert found.shape == (count,)
    for i in range(start, start + count):
        g, j = divmod(i, 128 // r)
        block = literal_philox((g & FF, g >> 32, step, stream), (seed & FF, seed >> 32))
        whole = sum(lane << 32 * n for n, lane in enumerate(block))
        assert found[i - start] == (whole >> r * j) & ((1 << r) - 1)


def test_words_are_the_lanes_in_order():
    assert random.words(0, 0, 0, 0, 4).tolist() == list(KNOWN[0][2])
    assert random.words(7, 8, 9, 3, 6).tolist() == random.words(7, 8, 9, 0, 12)[3:9].tolist()


def test_index_beyond_2_32():
    start = 4 * 2**32
    assert random.words(1, 2, 3, start, 4).tolist() == list(literal_philox((0, 1, 3, 2), (1, 0)))
    assert random.words(1, 2, 3, start - 4, 8).tolist() == [
        *literal_philox((FF, 0, 3, 2), (1, 0)), *literal_philox((0, 1, 3, 2), (1, 0)),
    ]  # fmt: skip


def test_stream_is_sha256():
    site = "h.0.attn.qkv/fprop/a/round@1"
    assert random.stream(site) == int.from_bytes(hashlib.sha256(site.encode()).digest()[:4], "little")
    assert (
        random.WordAddress(5, 6, site).bits(7, 16, 3).tolist()
        == random.bits(5, random.stream(site), 6, 3, 7, 16).tolist()
    )


def test_colliding_sites_raise(monkeypatch):
    assert len(random.check_streams(["a", "b", "a"])) == 2
    monkeypatch.setattr(random, "stream", lambda site: 1)
    with pytest.raises(WordsError, match="'a' and 'b' share the stream 1"):
        random.check_streams(["a", "b"])


@pytest.mark.parametrize(
    "bad", [(-1, 0, 0, 0, 1, 8), (2**64, 0, 0, 0, 1, 8), (0, 2**32, 0, 0, 1, 8), (0, 0, 2**32, 0, 1, 8), (0, 0, 0, -1, 1, 8),
            (0, 0, 0, 0, 1, 4), (0, 0, 0, 2**66, 1, 32)],
)  # fmt: skip
def test_bad_address_raises(bad):
    with pytest.raises(WordsError):
        random.bits(*bad)


@pytest.mark.parametrize("draw", [random.signs, random.uniform, random.normal])
def test_draws_do_not_depend_on_where_they_start(draw):
    address = random.WordAddress(1, 2, "init/w")
    whole = draw(address, 21)
    for start, n in ((0, 21), (3, 8), (4, 5), (20, 1), (7, 0)):
        assert draw(address, n, start=start).tobytes() == whole[start : start + n].tobytes()


def test_signs_are_the_top_bits():
    address = random.WordAddress(3, 0, "s")
    assert random.signs(address, 64).tolist() == [-1.0 if b >= 128 else 1.0 for b in address.bits(64, 8)]


def test_uniform_is_on_its_grid():
    u = random.uniform(random.WordAddress(3, 0, "u"), 4096)
    assert u.dtype == np.float32
    assert float(u.min()) >= 0
    assert float(u.max()) < 1
    assert np.array_equal(u * 2**24, np.rint(u * 2**24))


def test_normal_is_normal():
    """Kolmogorov-Smirnov at 1e-6: sqrt(n) D < 2.7 (the words are fixed, so this cannot flake)."""
    from math import erf, sqrt

    x = np.sort(random.normal(random.WordAddress(3, 0, "n"), 20000, std=2.0).astype(np.float64) / 2)
    cdf = np.array([0.5 * (1 + erf(v / sqrt(2))) for v in x])
    assert sqrt(x.size) * np.max(np.abs(cdf - (np.arange(x.size) + 0.5) / x.size)) < 2.7


@given(n=st.integers(0, 20), bound=st.integers(1, 2**32), start=st.integers(0, 100))
def test_integers_are_scaled_words(n, bound, start):
    address = random.WordAddress(9, 1, "data")
    w = [int(v) for v in address.bits(2 * n, 32, 2 * start)]
    expected = [int(Fraction((w[2 * i] | w[2 * i + 1] << 32) * bound, 2**64)) for i in range(n)]
    assert random.integers(address, n, bound, start).tolist() == expected


def test_permutation():
    a = random.permutation(random.WordAddress(9, 1, "data"), 1000)
    assert sorted(a.tolist()) == list(range(1000))
    assert a.tolist() != random.permutation(random.WordAddress(9, 2, "data"), 1000).tolist()

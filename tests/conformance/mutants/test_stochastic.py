"""Mistakes of stochastic rounding to E4M3 and bfloat16: biased, short, shared and misplaced words."""

from __future__ import annotations

import numpy as np
import pytest
from planted_mistakes import accepted, caught, pairs


def e4m3(x: np.ndarray, words: np.ndarray, flaw: str = "") -> np.ndarray:
    """float32 -> E4M3, variant A with 8 bits: up iff floor(nu 2^8) + R >= 2^8."""
    bits = 8
    r = (words & 0xFF).astype(np.int64)
    if flaw == "one word for two elements":
        r = np.repeat(r[::2], 2)[: r.size]
    if flaw == "the next element's word":
        r = np.roll(r, -1)
    if flaw == "adds one to the word":
        r = r + 1
    if flaw == "uses four of the eight bits":
        r = r & 0xF0
    if flaw == "reverses the bits":
        r = np.array([int(f"{v:08b}"[::-1], 2) for v in range(256)])[r]
    if flaw == "one word for the whole call":
        r = np.full_like(r, r[0])
    u = x.view(np.uint32)
    sign, a = (u >> 24 & 0x80).astype(np.int64), (u & 0x7FFFFFFF).astype(np.int64)
    exponent = (a >> 23) - 127
    significand = (a & 0x7FFFFF) | np.where(exponent == -127, 0, 0x800000)
    discarded = np.minimum(20 + np.maximum(-6 - exponent, 0), 40)
    if flaw == "subnormals at the bit of normals":
        significand = np.where(exponent < -6, (significand + (r << 12)) >> 20 << 20, significand)
        r = np.where(exponent < -6, 0, r)
    kept, rest = significand >> discarded, significand & ((1 << discarded) - 1)
    nu = rest >> (discarded - bits)
    if flaw == "rounds nu to nearest":
        nu = (rest + (1 << (discarded - bits - 1))) >> (discarded - bits)
    if flaw == "compares with the word":
        up = nu > r
    elif flaw == "compares with the word, at least":
        up = nu >= r
    elif flaw == "adds before the sign is taken off":
        up = np.where(sign > 0, 256 - nu + r < 256, nu + r >= 256) & (rest > 0)
    else:
        up = nu + r >= 256
    if flaw == "ties to even below one half of a word":
        up = np.where(nu == 0, False, up) | ((rest * 2 == 1 << discarded) & (kept % 2 == 1))
    if flaw == "nearest even in place of stochastic":
        up = (rest * 2 > 1 << discarded) | ((rest * 2 == 1 << discarded) & (kept % 2 == 1))
    code = kept + up + (np.maximum(exponent, -6) + 6) * 8
    code = np.where((code > 0x7E) & (a <= 0x7F800000), 0x7E, np.where(a > 0x7F800000, 0x7F, code))
    return (code | sign).astype(np.uint8)


def bfloat16(x: np.ndarray, words: np.ndarray, flaw: str = "") -> np.ndarray:
    """float32 -> bfloat16 by adding the word below the kept bits; 16 bits, all that are discarded: unbiased."""
    r = words & np.uint32(0xFFFF)
    if flaw == "eight of sixteen bits":
        r = r & np.uint32(0xFF00)
    if flaw == "signed word":
        r = r.astype(np.uint32) - np.uint32(0x8000) + np.uint32(0x8000) * (r > 0x7FFF)
    u = x.view(np.uint32)
    code = (u + r) >> 16
    code = np.where(np.isnan(x), u >> 16 | 0x40, np.where(np.isinf(x), u >> 16, code))
    if flaw == "overflow wraps into NaN":
        code = np.where(np.isfinite(x) & ((code & 0x7FFF) == 0x7F80), code | 1, code)
    return code.astype(np.uint16)


SUBJECTS = {
    "E4M3": (e4m3, {"format": "e4m3", "word_bits": 8}, (
        "adds one to the word", "uses four of the eight bits", "reverses the bits", "one word for two elements", "the next element's word",
        "one word for the whole call", "subnormals at the bit of normals", "rounds nu to nearest", "compares with the word",
        "compares with the word, at least", "adds before the sign is taken off", "nearest even in place of stochastic",
        "ties to even below one half of a word",
    )),
    "bfloat16": (bfloat16, {"format": "bfloat16", "word_bits": 16, "overflow": "to_infinity"}, (
        "eight of sixteen bits", "signed word", "overflow wraps into NaN",
    )),
}  # fmt: skip


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_right_implementation_passes(subject: str) -> None:
    cast, against, _ = SUBJECTS[subject]
    accepted(cast, rounding="stochastic", **against)


@pytest.mark.parametrize(("subject", "flaw"), pairs(SUBJECTS))
def test_the_mistake_is_caught(subject: str, flaw: str) -> None:
    cast, against, _ = SUBJECTS[subject]
    caught(lambda x, words: cast(x, words, flaw), ", word 0x", rounding="stochastic", **against)

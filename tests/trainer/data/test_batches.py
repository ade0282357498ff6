"""Batches: a function of (seed, step, position) alone."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.errors import DataError
from lpref.trainer.data import ImageData, TokenData
from lpref.trainer.data.batches import check_length, train_batch, uniform_integers, valid_batches


def tokens(n: int, m: int = 500) -> TokenData:
    return TokenData(
        "t", "0" * 64, np.arange(n, dtype=np.uint16), np.arange(m, dtype=np.uint16), 65536, byte_level=False
    )


def images(n: int) -> ImageData:
    x = np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1)
    return ImageData("i", "0" * 64, x, np.arange(n), x[:7], np.arange(7), n)


@pytest.mark.parametrize("data", [tokens(1000), images(37)], ids=["tokens", "images"])
@pytest.mark.parametrize("parts", [1, 2, 3, 6, 12])
def test_any_number_of_workers_sees_the_same_samples(data: TokenData | ImageData, parts: int) -> None:
    for step in (0, 1, 5, 1000):
        whole = train_batch(data, 16, 12, 7, step, 0, 12)
        pieces = [train_batch(data, 16, 12, 7, step, i * 12 // parts, 12 // parts) for i in range(parts)]
        assert np.array_equal(whole.inputs, np.concatenate([p.inputs for p in pieces]))
        assert np.array_equal(whole.targets, np.concatenate([p.targets for p in pieces]))


def test_windows_are_shifted_by_one_and_stay_inside() -> None:
    data = tokens(20)
    for step in range(50):
        batch = train_batch(data, 16, 4, 1, step, 0, 4)
        assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
        assert batch.targets.max() <= 19
    first = np.concatenate([train_batch(data, 16, 8, 1, s, 0, 8).inputs[:, 0] for s in range(50)])
    assert set(first) == {0, 1, 2, 3}  # every admissible offset, the last one included


def test_every_epoch_is_a_permutation() -> None:
    data = images(30)
    seen = np.concatenate([train_batch(data, 0, 10, 3, step, 0, 10).targets for step in range(6)])
    assert sorted(seen[:30]) == sorted(seen[30:]) == list(range(30))
    assert not np.array_equal(seen[:30], seen[30:])


def test_seed_and_step_matter() -> None:
    data = tokens(60000)
    base = train_batch(data, 16, 8, 1, 0, 0, 8).inputs
    assert not np.array_equal(base, train_batch(data, 16, 8, 2, 0, 0, 8).inputs)
    assert not np.array_equal(base, train_batch(data, 16, 8, 1, 1, 0, 8).inputs)


def test_uniform_integers_cover_the_range_evenly() -> None:
    draws = uniform_integers(1, "x", 0, 0, 6000, 6)
    assert np.bincount(draws, minlength=6).min() > 880  # expected 1000, standard deviation 29: four of them
    assert np.array_equal(draws[100:200], uniform_integers(1, "x", 0, 100, 100, 6))


def test_validation_windows_are_fixed_and_span_the_part() -> None:
    data = tokens(1000, 500)
    rows = np.concatenate([b.inputs for b in valid_batches(data, 16, 10, 4)])
    assert rows.shape == (10, 16)
    assert rows[0, 0] == 0
    assert rows[-1, -1] == 498  # its target is the last token
    assert np.concatenate([b.inputs for b in valid_batches(tokens(1000, 40), 16, 10, 4)]).shape[0] == 2
    assert sum(b.tokens for b in valid_batches(images(30), 0, 1, 4)) == 7


def test_too_short_is_an_error() -> None:
    check_length(tokens(17, 17), 16)
    with pytest.raises(DataError, match="validation part has 16 tokens, a window needs 17"):
        check_length(tokens(100, 16), 16)
    assert valid_batches(tokens(17, 17), 16, 5, 4)[0].inputs.shape == (1, 16)

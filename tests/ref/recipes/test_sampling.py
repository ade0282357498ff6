"""Row sampling: probabilities, their words, and that the weighted sum over kept rows is unbiased."""

from __future__ import annotations

from itertools import product as each
from types import SimpleNamespace

import numpy as np
import pytest

from lpref.accel.reference import ReferenceBackend
from lpref.ref.errors import NonFiniteError
from lpref.ref.quantize import lookup
from lpref.ref.recipes import Context, GemmSpec, LinearRecipe, Sampling, Slot, linear_backward, linear_forward, sampling
from lpref.ref.recipes.sampling import GRID, chosen, probabilities

OPS = ReferenceBackend("exact")


def layer(micro: int = 0):
    return SimpleNamespace(ctx=Context(seed=3, step=5, site="h", micro=micro))


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_probabilities_fill_the_budget(share: float, seed: int) -> None:
    """Their sum is share x rows, up to the rounding up of each to the grid and of the float64 sums."""
    scores = np.exp(3 * np.random.default_rng(seed).standard_normal(64))
    p = probabilities(scores, share)
    assert ((p > 0) & (p <= 1)).all()
    assert (p * GRID == np.rint(p * GRID)).all()
    assert 0 <= p.sum() - share * 64 <= 64 / GRID + 64 * 2**-46
    free = p < 1
    ratio = p[free] / scores[free]
    assert not free.any() or np.ptp(ratio) <= 2 / GRID / scores[free].min()  # proportional, where not capped


def test_rows_without_a_score_are_never_kept_and_one_row_with_all_of_it_always() -> None:
    assert probabilities(np.zeros(4), 0.5).tolist() == [0, 0, 0, 0]
    assert probabilities(np.array([0.0, 5.0, 0.0, 0.0]), 0.5).tolist() == [0, 1, 0, 0]
    assert probabilities(np.ones(8), 1.0).tolist() == [1.0] * 8


@pytest.mark.parametrize("p", [2.0**-24, 3 * 2.0**-24, 0.3, 0.5, 1 - 2.0**-24, 1.0])
def test_a_probability_is_exactly_the_share_of_words_that_keep(p: float) -> None:
    on_grid = np.ceil(p * GRID) / GRID
    threshold = on_grid * GRID  # w div 2^8 runs over 0 .. 2^24 - 1, each 256 times
    assert threshold == int(threshold)
    assert int(threshold) / GRID == on_grid


def test_words_are_those_of_the_global_batch_and_of_the_part() -> None:
    s = Sampling("leverage", "k", 0.5)
    rng = np.random.default_rng(0)
    scores = {"hi": rng.random(8), "lo": rng.random(8)}
    found = chosen(s, scores, layer(), "wgrad.a")
    words = layer().ctx.words("wgrad.a.lo", "sampling").bits(8, 32)
    p = probabilities(np.concatenate(list(scores.values())), 0.5)[8:]
    np.testing.assert_array_equal(found["lo"].index, np.flatnonzero((words >> 8) < p * GRID))
    np.testing.assert_array_equal(found["lo"].weight, (1 / p[found["lo"].index]).astype(np.float32))
    later = sampling._words(layer(micro=2), "wgrad.a", "lo", 8)
    np.testing.assert_array_equal(later, layer().ctx.words("wgrad.a.lo", "sampling").bits(8, 32, 16) >> 8)


def test_top_keeps_the_largest_and_all_ties() -> None:
    s = Sampling("top", "other", 0.25, ("a",), "amax")
    scores = {"": np.array([5.0, 1, 5, 3, 5, 2, 0, 4])}
    assert chosen(s, scores, layer(), "dgrad.a")[""].index.tolist() == [0, 2, 4]
    assert chosen(s, {"": np.array([5.0, 1, 6, 3])}, layer(), "dgrad.a")[""].index.tolist() == [2]
    assert chosen(s, {"": np.array([5.0, 1, 6, 3])}, layer(), "dgrad.a")[""].weight is None


def test_scores_must_be_finite() -> None:
    with pytest.raises(NonFiniteError, match=r"rows without a finite score"):
        chosen(Sampling(), {"": np.array([1.0, np.inf])}, layer(), "wgrad.a")


def gradients(x, w, dy, s: dict[str, Sampling | None], monkeypatch=None, kept=None):
    linear = LinearRecipe(dgrad=GemmSpec(sampling=s.get("dgrad")), wgrad=GemmSpec(sampling=s.get("wgrad")))
    if kept is not None:  # word 0 keeps every row that can be kept, the largest word none below probability 1
        monkeypatch.setattr(sampling, "_words", lambda layer, path, part, rows: np.where(kept, 0.0, GRID - 1))
    _, saved = linear_forward(x, w, linear, layer().ctx, OPS)
    return linear_backward(dy, saved, linear, layer().ctx, OPS)


def small(rows: int = 4):
    """Rows of dY and X whose norms are powers of two: every p is one, and the sums are exact in float32."""
    rng = np.random.default_rng(1)
    x = np.zeros((rows, 3), np.float32)
    dy = np.zeros((rows, 2), np.float32)
    x[np.arange(rows), rng.integers(0, 3, rows)] = 1
    dy[np.arange(rows), rng.integers(0, 2, rows)] = [1, 1, 2, 4][:rows]
    return x, np.eye(2, 3, dtype=np.float32), dy


def test_the_sum_over_kept_rows_is_unbiased(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all 2^M keep decisions, each with its probability, the mean of dW and dX is the full product, to the last bit."""
    x, w, dy = small()
    s = {"dgrad": Sampling("leverage", "other", 0.5, ("a",)), "wgrad": Sampling("leverage", "k", 0.5)}
    p = probabilities(np.array([1.0, 1, 2, 4]), 0.5)
    assert p.tolist() == [0.25, 0.25, 0.5, 1.0]
    dx, dw = np.zeros((4, 3)), np.zeros((2, 3))
    for kept in each([False, True], repeat=4):
        chance = float(np.prod(np.where(kept, p, 1 - p)))
        got = gradients(x, w, dy, s, monkeypatch, np.array(kept))
        dx, dw = dx + chance * got.dx, dw + chance * got.dw
    np.testing.assert_array_equal(dx, dy @ w)
    np.testing.assert_array_equal(dw, dy.T @ x)


def test_the_whole_share_is_the_full_product() -> None:
    rng = np.random.default_rng(2)
    x, w, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((8, 6), (5, 6), (8, 5)))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    plain = gradients(x, w, dy, {})
    for kind in ("top", "leverage"):
        same = dy / np.abs(dy) if kind == "leverage" else dy  # equal norms: every p is 1 at once
        want = plain if kind == "top" else gradients(x, w, same, {})
        got = gradients(x, w, same, {"dgrad": Sampling(kind, "other", 1.0, ("a",)), "wgrad": Sampling(kind, "k", 1.0, ("a",))})
        np.testing.assert_array_equal(got.dx, want.dx)
        np.testing.assert_array_equal(got.dw, want.dw)


def test_no_row_at_all_gives_zero_gradients() -> None:
    x, w, _ = small()
    got = gradients(x, w, np.zeros((4, 2), np.float32), {"dgrad": Sampling("leverage", "other", 0.5, ("a",)), "wgrad": Sampling()})
    assert not got.dx.any()
    assert not got.dw.any()
    assert (got.dx.shape, got.dw.shape) == ((4, 3), (2, 3))


def test_quantized_rows_are_sampled_by_their_quantized_norms() -> None:
    q = lookup("int8_row")
    x, w, dy = small()
    linear = LinearRecipe(dgrad=GemmSpec(a=Slot(quantizer=q), sampling=Sampling("top", "other", 0.25, ("a",))))
    _, saved = linear_forward(x, w, linear, layer().ctx, OPS)
    got = linear_backward(dy, saved, linear, layer().ctx, OPS)
    assert np.flatnonzero(got.dx.any(axis=1)).tolist() == [3]

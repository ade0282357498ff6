"""Softmax cross-entropy: the scalar page bit for bit, torch in float64, special rows, errors."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref import elementary, nn
from lpref.ref.contracts import Bits
from lpref.ref.errors import DataError, ShapeError

f32 = np.float32


def same(expected, actual) -> None:
    assert Bits().mismatch(expected, actual, (), {}) is None


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 257), (2, 1500)])
def test_is_its_page(shape, literal, draw) -> None:
    logits = draw(*shape) * f32(5)
    targets = np.arange(shape[0]) * 5 % shape[1]
    loss, probs = nn.softmax_cross_entropy(logits, targets)
    rows = [literal.softmax_row(row) for row in logits]
    losses = [literal.one(elementary.log, s) - z[t] for (z, _, s, _), t in zip(rows, targets, strict=True)]
    same(np.asarray(literal.total(losses) / f32(shape[0])), loss)
    same(np.array([p for *_, p in rows]), probs)
    dlogits = nn.softmax_cross_entropy_backward(f32(3), probs, targets)
    scale = f32(3) / f32(shape[0])
    same(np.array([[(p - f32(1) if j == t else p) * scale for j, p in enumerate(row)] for row, t in zip(probs, targets, strict=True)]), dlogits)


@pytest.mark.peer
def test_torch_float64(draw) -> None:
    torch = pytest.importorskip("torch")
    logits, targets = draw(9, 31).astype(np.float64), np.arange(9) * 3
    leaf = torch.tensor(logits, requires_grad=True)
    want = torch.nn.functional.cross_entropy(leaf, torch.tensor(targets))
    (want * 2.5).backward()
    loss, probs = nn.softmax_cross_entropy(logits, targets)
    assert loss.dtype == np.float64
    np.testing.assert_allclose(loss, want.item(), rtol=1e-12)
    np.testing.assert_allclose(nn.softmax_cross_entropy_backward(2.5, probs, targets), leaf.grad.numpy(), rtol=1e-12, atol=1e-14)


def test_special_rows() -> None:
    inf, nan = np.inf, np.nan
    logits = f32([[inf, 0], [nan, 0], [-inf, -inf], [-inf, 0], [1e30, -1e30]])
    with np.errstate(invalid="ignore"):
        _, probs = nn.softmax_cross_entropy(logits, np.zeros(5, int))
    same(f32([[nan, nan], [nan, nan], [nan, nan], [0, 1], [1, 0]]), probs)


def test_a_shift_by_a_power_of_two_changes_no_bit(draw) -> None:
    logits = np.rint(draw(4, 9) * 8) / f32(8)
    same(nn.softmax_cross_entropy(logits, np.zeros(4, int)), nn.softmax_cross_entropy(logits + f32(64), np.zeros(4, int)))


@pytest.mark.parametrize("bad", [[0, 4], [-1, 0]])
def test_targets_out_of_range(bad) -> None:
    with pytest.raises(DataError, match="classes are 0…3"):
        nn.softmax_cross_entropy(np.zeros((2, 4), np.float32), np.array(bad))


def test_shapes_and_kinds() -> None:
    with pytest.raises(DataError, match="not integers"):
        nn.softmax_cross_entropy(np.zeros((2, 4), np.float32), np.zeros(2))
    with pytest.raises(ShapeError):
        nn.softmax_cross_entropy(np.zeros((0, 4), np.float32), np.zeros(0, int))
    with pytest.raises(ShapeError):
        nn.softmax_cross_entropy(np.zeros((2, 4), np.float32), np.zeros(3, int))

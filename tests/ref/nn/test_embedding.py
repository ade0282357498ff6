"""Embedding: look-up, and each row of the gradient as the defined sum of its own contributions."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref import nn
from lpref.ref.contracts import Bits
from lpref.ref.errors import DataError, ShapeError


def same(expected, actual) -> None:
    assert Bits().mismatch(expected, actual, (), {}) is None


@pytest.mark.parametrize(("n", "V"), [(1, 1), (50, 7), (3000, 2), (5, 100)])
def test_backward_is_its_page(n, V, literal, draw) -> None:
    ids, dy = np.random.default_rng(1).integers(0, V, n), draw(n, 3)
    rows = [[literal.total([dy[i, d] for i in range(n) if ids[i] == v]) for d in range(3)] for v in range(V)]
    same(np.array(rows, np.float32), nn.embedding_backward(dy, ids, V))


def test_a_row_does_not_see_the_others(draw) -> None:
    ids, dy = np.array([3, 1, 3, 2, 3]), draw(5, 4)
    whole = nn.embedding_backward(dy, ids, 9)
    same(whole[3], nn.embedding_backward(dy[ids == 3], ids[ids == 3], 4)[3])


def test_shapes_follow_ids(draw) -> None:
    table, ids = draw(5, 2), np.array([[0, 4, 4]])
    y = nn.embedding(table, ids)
    assert y.shape == (1, 3, 2)
    same(table[ids], y)
    assert nn.embedding(table, np.zeros(0, int)).shape == (0, 2)
    assert not nn.embedding_backward(np.zeros((0, 2), np.float32), np.zeros(0, int), 3).any()


@pytest.mark.peer
def test_torch_float64(draw) -> None:
    torch = pytest.importorskip("torch")
    ids, dy = np.random.default_rng(2).integers(0, 11, (4, 9)), draw(4, 9, 3).astype(np.float64)
    leaf = torch.zeros(11, 3, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.embedding(torch.tensor(ids), leaf).backward(torch.tensor(dy))
    np.testing.assert_allclose(nn.embedding_backward(dy, ids, 11), leaf.grad.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ids", [[5], [-1]])
def test_ids_out_of_range(ids) -> None:
    with pytest.raises(DataError, match="rows 0…4"):
        nn.embedding(np.zeros((5, 2), np.float32), np.array(ids))


def test_errors() -> None:
    with pytest.raises(DataError, match="not integers"):
        nn.embedding(np.zeros((5, 2), np.float32), np.zeros(2))
    with pytest.raises(ShapeError):
        nn.embedding_backward(np.zeros((5, 2), np.float32), np.zeros(4, int), 3)

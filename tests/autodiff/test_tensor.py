"""Tensor: what it accepts, what it refuses, how it prints."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.ref.errors import DTypeError, ShapeError


def test_operators_take_arrays_and_numbers_on_either_side(B) -> None:
    x = Tensor(np.float32([1, 2]), B, True)
    array = np.float32([3, 4])
    for y, want in ((array + x, [4, 6]), (x - array, [-2, -2]), (array - x, [2, 2]), (2 * x, [2, 4]), (1 / x, [1, 0.5]),
                    (array * x, [3, 8]), (x**2, [1, 4]), (-x, [-1, -2])):  # fmt: skip
        assert isinstance(y, Tensor)
        assert y.requires_grad
        assert (y.data.tolist(), y.dtype) == (want, np.float32)


def test_shape_errors_name_the_operation_and_both_shapes(B) -> None:
    a, b = Tensor(np.zeros((2, 3), np.float32), B), Tensor(np.zeros((4,), np.float32), B)
    with pytest.raises(ShapeError, match=r"autodiff.add: add of shapes \(2, 3\) and \(4,\)"):
        a + b
    with pytest.raises(ShapeError, match=r"matmul of shapes \(2, 3\) and \(2, 3\): K is 3 and 2"):
        F.matmul(a, a)
    with pytest.raises(ShapeError, match=r"matmul of shapes \(2, 3\) and \(4,\): both need two axes"):
        a @ b
    with pytest.raises(ShapeError, match=r"reshape of shapes \(2, 3\) with shape=\(4,\)"):
        a.reshape(4)
    with pytest.raises(ShapeError, match=r"x of shape \(2, 3\) and w of shape \(5, 4\)"):
        F.linear(a, Tensor(np.zeros((5, 4), np.float32), B))
    with pytest.raises(ShapeError, match="axis 2"):
        F.sum(a, axis=2)
    with pytest.raises(ShapeError, match=r"targets of shape \(3,\) for logits of shape \(2, 3\)"):
        F.softmax_cross_entropy(a, np.array([0, 1, 2]))
    with pytest.raises(ShapeError, match="getitem"):
        a[5]


def test_integers_have_no_gradients(B) -> None:
    with pytest.raises(DTypeError, match="only floating point has gradients, got int64"):
        Tensor(np.array([1, 2]), B, requires_grad=True)
    ids = Tensor(np.array([1, 0]), B)
    table = Tensor(np.eye(2, dtype=np.float32), B, True)
    rows = F.embedding(table, ids)
    F.sum(rows).backward()
    assert ids.grad is None
    assert table.grad.tolist() == [[1, 1], [1, 1]]


def test_floats_are_refused_where_integers_are_needed(B) -> None:
    table = Tensor(np.eye(2, dtype=np.float32), B, True)
    with pytest.raises(DTypeError, match=r"embedding: needs integers, got float32; pass ids as an integer array"):
        F.embedding(table, np.float32([1, 0]))
    with pytest.raises(DTypeError, match=r"softmax_cross_entropy: needs integers"):
        F.softmax_cross_entropy(table, np.float32([1, 0]))
    with pytest.raises(DTypeError, match="embedding picks rows"):
        table[np.array([0, 1])]
    with pytest.raises(DTypeError, match="not boolean"):
        F.where(np.float32([1.0]), table, table)


def test_mixed_dtypes_are_refused(B) -> None:
    x = Tensor(np.ones(2, np.float32), B, True)
    with pytest.raises(DTypeError, match="mul of float32 and float64"):
        x * np.ones(2)


def test_a_tensor_holds_an_array(B) -> None:
    with pytest.raises(DTypeError, match="got list"):
        Tensor([1.0, 2.0], B)


@pytest.mark.parametrize("bad", [["a"], [b"a"], [None], [1j], ["2026-01-01"]])
def test_a_tensor_holds_real_numbers(B, bad) -> None:
    array = np.array(bad, "datetime64[D]" if bad == ["2026-01-01"] else None)
    with pytest.raises(DTypeError, match="a tensor holds real numbers, got"):
        Tensor(array, B)
    with pytest.raises(DTypeError, match="a tensor holds real numbers, got"):
        Tensor(np.zeros(2, "f4,f4"), B)


def test_small_floats_are_real_numbers(B) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert Tensor(np.ones(2, ml_dtypes.bfloat16), B).shape == (2,)


def test_repr_and_scalars(B) -> None:
    x = Tensor(np.float32([2.0]), B, True)
    assert repr(x) == "Tensor(array([2.], dtype=float32), requires_grad)"
    assert repr(x * x) == "Tensor(array([4.], dtype=float32), from 'mul')"
    assert float(F.sum(x * x)) == (x * x).item() == 4.0
    assert (len(x), x.ndim, x.size, x.is_leaf, (x * x).is_leaf) == (1, 1, 1, True, False)

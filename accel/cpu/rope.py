"""Rotary embedding: the page of `lpref.ref.nn.rope` in one pass, with its bits."""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu.rows import KERNEL, host
from lpref.accel.cpu.threads import divide
from lpref.ref.nn.rope import check


def rope(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """`lpref.ref.nn.rope`."""
    return _rotate("rope", x, cos, sin, np.float32(1))


def rope_backward(dy: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """`lpref.ref.nn.rope_backward`."""
    return _rotate("rope_backward", dy, cos, sin, np.float32(-1))


def _rotate(op: str, x: np.ndarray, cos: np.ndarray, sin: np.ndarray, sign: np.float32) -> np.ndarray:
    check(op, x, cos, sin)
    cos, sin = host(op, cos, sin)
    y = np.empty(x.shape, np.float32)
    divide(_rope, x.shape[0] * x.shape[1], _rows_together(op, x), cos, sin, sign, y)
    return y


def _rows_together(op: str, x: np.ndarray) -> np.ndarray:
    """x itself where its last axis lies together (a transposed view of heads), else a copy."""
    return x if x.dtype == np.float32 and x.strides[-1] == x.itemsize else host(op, x)[0]


@njit(**KERNEL)
def _rope(start, stop, x, cos, sin, sign, y):  # type: ignore[no-untyped-def]
    """sign = −1 turns back: s → −s is exact, and a − (−b) = a + b to the bit."""
    _, H, T, D = x.shape
    half = D // 2
    for task in range(start, stop):
        b, h = task // H, task % H
        for t in range(T):
            for i in range(half):
                p, q, c, s = x[b, h, t, i], x[b, h, t, i + half], cos[t, i], sign * sin[t, i]
                y[b, h, t, i] = p * c - q * s
                y[b, h, t, i + half] = q * c + p * s

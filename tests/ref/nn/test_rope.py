"""Rotary embedding: literal pairs, rotation laws, torch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lpref.ref import nn
from lpref.ref.errors import ShapeError


def test_is_its_page(draw) -> None:
    x = draw(2, 3, 5, 8)
    cos, sin = nn.rope_tables(5, 8)
    y, dy = nn.rope(x, cos, sin), nn.rope_backward(x, cos, sin)
    for b, h, t, i in np.ndindex(2, 3, 5, 4):
        p, q = x[b, h, t, i], x[b, h, t, i + 4]
        c, s = cos[t, i], sin[t, i]
        assert (y[b, h, t, i], y[b, h, t, i + 4]) == (p * c - q * s, q * c + p * s)
        assert (dy[b, h, t, i], dy[b, h, t, i + 4]) == (p * c + q * s, q * c - p * s)


def test_tables_are_the_angles() -> None:
    cos, sin = nn.rope_tables(40, 6, base=100.0, dtype=np.float64)
    for t, i in np.ndindex(40, 3):
        angle = t * 100.0 ** (-2 * i / 6)
        assert abs(cos[t, i] - math.cos(angle)) < 1e-11
        assert abs(sin[t, i] - math.sin(angle)) < 1e-11


def test_products_depend_on_the_distance_only(draw) -> None:
    """<rope(q, m), rope(k, n)> is a function of m - n: the defining property."""
    cos, sin = nn.rope_tables(12, 8, dtype=np.float64)
    q, k = draw(1, 1, 1, 8).astype(np.float64), draw(1, 1, 1, 8).astype(np.float64)
    rq, rk = nn.rope(np.repeat(q, 12, 2), cos, sin)[0, 0], nn.rope(np.repeat(k, 12, 2), cos, sin)[0, 0]
    for m in range(5, 12):
        assert abs(sum(rq[m] * rk[m - 5]) - sum(rq[5] * rk[0])) < 1e-11


def test_backward_undoes_forward(draw) -> None:
    x = draw(1, 2, 7, 10).astype(np.float64)
    cos, sin = nn.rope_tables(7, 10, dtype=np.float64)
    np.testing.assert_allclose(nn.rope_backward(nn.rope(x, cos, sin), cos, sin), x, rtol=0, atol=1e-11)


def test_errors() -> None:
    with pytest.raises(ShapeError, match="odd"):
        nn.rope_tables(3, 5)
    cos, sin = nn.rope_tables(3, 4)
    with pytest.raises(ShapeError):
        nn.rope(np.zeros((1, 1, 2, 4), np.float32), cos, sin)

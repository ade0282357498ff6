"""The layers once more, one scalar at a time, straight from their pages: slow, and independent of array code."""

from __future__ import annotations

import types

import numpy as np
import pytest

from lpref.ref import elementary

f32 = np.float32


def total(values: list) -> np.floating:
    """The defined sum with 1024 explicit lanes."""
    real = type(values[0]) if values else f32
    lanes = [real(0)] * 1024
    for i, value in enumerate(values):
        lanes[i % 1024] = lanes[i % 1024] + value
    half = 512
    while half:
        for l in range(half):
            lanes[l] = lanes[l] + lanes[l + half]
        half //= 2
    return lanes[0]


def one(function, value):
    """An elementary function of one number."""
    return function(np.array([value]))[0]


def rmsnorm_row(x, w, eps):
    rstd = one(elementary.rsqrt, total([a * a for a in x]) / f32(len(x)) + f32(eps))
    return [(a * rstd) * b for a, b in zip(x, w, strict=True)], rstd


def rmsnorm_backward_row(dy, x, w, rstd):
    h = [a * rstd for a in x]
    g = [a * b for a, b in zip(dy, w, strict=True)]
    c = total([a * b for a, b in zip(g, h, strict=True)]) / f32(len(x))
    return [(a - b * c) * rstd for a, b in zip(g, h, strict=True)], [a * b for a, b in zip(dy, h, strict=True)]


def layernorm_row(x, w, b, eps):
    mean = total(list(x)) / f32(len(x))
    c = [a - mean for a in x]
    rstd = one(elementary.rsqrt, total([a * a for a in c]) / f32(len(x)) + f32(eps))
    return [((a * rstd) * p) + q for a, p, q in zip(c, w, b, strict=True)], mean, rstd


def layernorm_backward_row(dy, x, w, mean, rstd):
    h = [(a - mean) * rstd for a in x]
    g = [a * b for a, b in zip(dy, w, strict=True)]
    c1 = total(g) / f32(len(x))
    c2 = total([a * b for a, b in zip(g, h, strict=True)]) / f32(len(x))
    return [((a - c1) - b * c2) * rstd for a, b in zip(g, h, strict=True)], [a * b for a, b in zip(dy, h, strict=True)]


def softmax_row(z):
    """(z - max, exp, sum, probabilities) of one row."""
    top = max(z)
    shifted = [a - top for a in z]
    e = [one(elementary.exp, a) for a in shifted]
    s = total(e)
    return shifted, e, s, [a / s for a in e]


@pytest.fixture(scope="session")
def literal() -> types.SimpleNamespace:
    return types.SimpleNamespace(
        total=total, one=one, rmsnorm_row=rmsnorm_row, rmsnorm_backward_row=rmsnorm_backward_row, layernorm_row=layernorm_row,
        layernorm_backward_row=layernorm_backward_row, softmax_row=softmax_row,
    )  # fmt: skip


@pytest.fixture
def draw():
    """draw(*shape): float32 normal values, the same in every run."""
    source = np.random.default_rng(20)
    return lambda *shape: source.standard_normal(shape).astype(np.float32)

"""Trit planes: two ternary planes and their least-squares scales, over fractions."""

from __future__ import annotations

from fractions import Fraction as F
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lpref.ref.quantize import QTensor, quantize
from lpref.ref.scaling.trit_planes import PAIRS, fit, solve

RNG = np.random.default_rng(9)

X = (RNG.standard_normal((16, 256)) * np.exp2(RNG.integers(-4, 4, (16, 1)))).astype(np.float32)


def objective(w: np.ndarray, a: tuple[float, float], planes: tuple[np.ndarray, np.ndarray]) -> float:
    return float(((w - a[0] * planes[0] - a[1] * planes[1]) ** 2).sum())


@settings(max_examples=30)
@given(st.lists(st.floats(-4, 4, width=32), min_size=4, max_size=12), st.integers(0, 8), st.integers(1, 8))
def test_the_least_squares_scales_are_cramers_over_fractions(values: list[float], i: int, j: int) -> None:
    w = np.array(values)
    picks = [PAIRS[(k * i + j) % 9] for k in range(len(values))]
    planes = tuple(np.array(column, float) for column in zip(*picks, strict=True))
    n11, n22, n12 = (F(float((p * q).sum())) for p, q in ((planes[0], planes[0]), (planes[1], planes[1]), (planes[0], planes[1])))
    b1, b2 = (sum((F(v) * F(t) for v, t in zip(values, p.tolist(), strict=True)), F(0)) for p in planes)
    determinant = n11 * n22 - n12 * n12
    if determinant == 0:
        return
    want = (n22 * b1 - n12 * b2) / determinant, (n11 * b2 - n12 * b1) / determinant
    assert np.allclose(solve(w, planes, 0.0), [float(v) for v in want], rtol=1e-9, atol=1e-9)


def test_the_objective_never_grows_and_two_planes_beat_one() -> None:
    w = RNG.standard_normal(128)
    errors = []
    for rounds in range(1, 12):
        a1, a2, t1, t2 = fit(w, 0.0, rounds)
        errors.append(objective(w, (float(a1), float(a2)), (t1, t2)))
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise(errors))
    one = quantize(w.astype(np.float32).reshape(1, 128), "ternary_twn")
    assert errors[-1] < ((w - one.dequantize()[0]) ** 2).sum() / 2


def test_nine_levels_and_a_singular_start() -> None:
    w = RNG.standard_normal(256)
    a1, a2, t1, t2 = fit(w, 1e-8, 50)
    levels = np.array([s * float(a1) + t * float(a2) for s, t in PAIRS])
    assert np.unique(levels).size == 9
    assert (np.abs(w - (float(a1) * t1 + float(a2) * t2)) == np.abs(w[:, None] - levels).min(1)).all()
    same = solve(w, (np.sign(w), np.sign(w)), 0.0)  # T1 = T2: no solution without a ridge
    assert np.isclose(*same)


def test_trit_planes_as_a_tensor() -> None:
    t = quantize(X, "trit_planes")
    assert isinstance(t.residual, QTensor)
    assert (t.dequantize() == t.element_values() * t._spread(t.scale_values().astype(float)) + t.residual.dequantize()).all()
    assert set(np.unique(t.residual.element_values())) <= {-1.0, 0.0, 1.0}
    assert (quantize(np.zeros((1, 128), np.float32), "trit_planes").scale_values() == 0).all()

"""Scales of a finished product: the bits of the definition, whatever operands have scales."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from lpref.accel.cpu.scaled import epilogue
from lpref.ref.linalg.gemm import Factors
from lpref.ref.linalg.gemm import epilogue as definition

f32 = np.float32


def test_epilogue() -> None:
    rng = np.random.default_rng(5)
    for m, n in ((1, 1), (5, 33), (300, 400)):
        c = f32(rng.standard_normal((m, n)) * 1e30)
        c[0, 0], c[-1, -1] = -0.0, np.inf

        def side(size: int, rows: int, tensor: Any) -> Factors:
            scales = {0: None, 1: np.ones(size, f32), 2: f32(rng.uniform(0.5, 1e9, size))}[rows]
            return Factors(np.zeros((size, 2), f32), row=scales, tensor=tensor)

        for rows, columns, one, other in itertools.product(range(3), range(3), (None, f32(1)), (None, f32(0.3), f32(np.nan))):
            a, b = side(m, rows, one), side(n, columns, other)
            want, got = definition(c.copy(), a, b), epilogue(c.copy(), a, b)
            assert np.array_equal(want, got, equal_nan=True)
            assert (np.signbit(want) == np.signbit(got))[~np.isnan(want)].all()


def test_other_types_are_left_to_the_definition() -> None:
    a = Factors(np.zeros((2, 2)), row=np.float64([2, 4]))
    got = epilogue(np.ones((2, 3), f32), a, Factors(np.zeros((3, 2))))
    assert got.tolist() == [[2] * 3, [4] * 3]

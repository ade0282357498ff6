"""Deterministic arrays for the tests of kernels."""

from __future__ import annotations

import numpy as np

f32 = np.float32
EXTREMES = f32([0.0, -0.0, 1e-45, -1e-45, 1e-38, -3e-39, 1, -1, 0.5, 30, -30, 89, -104, 3e38, -3e38, np.inf, -np.inf, np.nan])


class Draw:
    """Deterministic inputs: normal numbers, or with extremes sprinkled in."""

    def __init__(self, seed: int) -> None:
        self.source = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> np.ndarray:
        return np.asarray(self.source.standard_normal(shape), np.float32)

    def wild(self, *shape: int) -> np.ndarray:
        x = np.asarray(self(*shape) * f32(4))
        at = np.asarray(self.source.random(shape) < 0.1)
        x[at] = self.source.choice(EXTREMES, int(at.sum()))
        return x

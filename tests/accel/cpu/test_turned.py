"""Transposed copies."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel.cpu.turned import turned


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_turned(dtype: type) -> None:
    for shape in ((0, 3), (3, 0), (1, 1), (63, 65), (200, 70), (700, 300)):
        x = np.random.default_rng(6).integers(0, 200, shape).astype(dtype)
        found = turned(x)
        assert found.flags.c_contiguous
        assert np.array_equal(found, x.T)

"""Rows by warps (kernels/row_warps.cu) on the device: the definition's codes, scales and counts, and the same again."""

from __future__ import annotations

from typing import Any

import cupy as cp
import ml_dtypes
import numpy as np
import pytest
from device_cases import hard, same

from lpref.accel.cuda import device, row_warps
from lpref.accel.cuda.quantize import quantize
from lpref.ref import quantize as ref
from lpref.ref.quantize import lookup
from lpref.ref.random import WordAddress

WORDS = WordAddress(2**40 + 5, 9, "h.0.mlp.up/dgrad/a/round", start=64)


@pytest.mark.parametrize("shape", [(1500, 1152), (5000, 400), (1100, 4096), (1060, 8192 + 256)])
@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, np.float16, np.float32])
@pytest.mark.parametrize("name", ["int8_row", "fp8_row"])
def test_bits(name: str, kind: Any, shape: tuple[int, int]) -> None:
    q, x = lookup(name + ":rounding=stochastic"), hard(*shape, kind)
    if device.architecture().startswith("sm_9"):
        assert row_warps.plan(shape[0] * 132, x.itemsize * shape[1], 1) is not None
    want = ref.quantize(x, q, words=WORDS)
    for _ in range(2):
        same(quantize(cp.asarray(x), q, words=WORDS).host(), want)

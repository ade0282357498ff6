"""core/decided.h on this device: every one of the 2^32 arguments of each function, against the definition that elementary.h computes."""

from __future__ import annotations

from pathlib import Path

import cupy as cp
import numpy as np
import pytest

from lpref.accel.cuda import device, nvrtc

SOURCE = r"""
#include "decided.h"
#define EACH(name, F)                                                                             \
    extern "C" __global__ void name(unsigned long long *found) {                                  \
        unsigned long long wrong = 0, open = 0;                                                   \
        unsigned stride = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;      \
        for (unsigned long long at = i; at < 1ull << 32; at += stride) {                          \
            float x = lp_float((lp_u32)at), y, z = F::defined(x);                                 \
            if (!F::decided(x, &y)) ++open;                                                       \
            else if (lp_bits(y) != lp_bits(z) && (y == y || z == z)) ++wrong;                     \
        }                                                                                         \
        if (wrong) atomicAdd(found, wrong);                                                       \
        if (open) atomicAdd(found + 1, open);                                                     \
    }
EACH(exp_of, lp_Exp) EACH(tanh_of, lp_Tanh) EACH(sigmoid_of, lp_Sigmoid)
"""
BEYOND = {"exp": 2 * (0x7FFFFFFF - 0x42AE0000), "sigmoid": 2 * (0x7FFFFFFF - 0x42AE0000), "tanh": 2 * 0x7FFFFF}
"""Arguments that are never decided: above 87 in magnitude and NaN; NaN."""


@pytest.mark.parametrize("name", BEYOND)
def test_every_argument(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "source", lambda name: SOURCE)  # CuPy's own compilation flushes subnormals
    code = tmp_path / "decided.cubin"
    code.write_bytes(nvrtc.compile_source("decided", device.architecture(), {}))
    kernel = cp.RawModule(path=str(code)).get_function(f"{name}_of")
    found = cp.zeros(2, np.uint64)
    kernel((8 * device.processors(),), (256,), (found,))
    wrong, undecided = found.get().tolist()
    assert wrong == 0
    assert undecided - BEYOND[name] < 2**32 / 2048

"""core/decided.h on this device: every one of the 2^32 arguments of each function, against the definition that elementary.h computes.

What is near it, too, against the bounds of `lpref.ref.nn.bounds`."""

from __future__ import annotations

from collections.abc import Callable

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

#define U 5.9604644775390625e-8
#define NEAR(name, F, allowed)                                                                    \
    extern "C" __global__ void name(unsigned long long *found) {                                  \
        unsigned long long wrong = 0, checked = 0;                                                \
        unsigned stride = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;      \
        for (unsigned long long at = i; at < 1ull << 32; at += stride) {                          \
            float x = lp_float((lp_u32)at);                                                       \
            double size = fabs((double)x), y = (double)F::defined(x), z = (double)F::near(x);     \
            if (!(size <= 88.0)) continue;                                                        \
            ++checked;                                                                            \
            if (!(fabs(z - y) <= (allowed) + 2.350988701644575e-38)) ++wrong;                     \
        }                                                                                         \
        if (wrong) atomicAdd(found, wrong);                                                       \
        atomicAdd(found + 1, checked);                                                            \
    }
NEAR(near_exp, lp_Exp, U * (2.25 * size + 5.25) * y)
NEAR(near_tanh, lp_Tanh, 10.0 * U)
NEAR(near_sigmoid, lp_Sigmoid, U * y * ((2.25 * size + 4.25) * (1.0 - y) + 4.25))
"""
BEYOND = {"exp": 2 * (0x7FFFFFFF - 0x42AE0000), "sigmoid": 2 * (0x7FFFFFFF - 0x42AE0000), "tanh": 2 * 0x7FFFFF}
"""Arguments that are never decided: above 87 in magnitude and NaN; NaN."""


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[int]]:
    """What a kernel of SOURCE counts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nvrtc, "source", lambda name: SOURCE)  # CuPy's own compilation flushes subnormals
        code = tmp_path_factory.mktemp("decided") / "decided.cubin"
        code.write_bytes(nvrtc.compile_source("decided", device.architecture(), {}))
    module = cp.RawModule(path=str(code))

    def run(name: str) -> list[int]:
        found = cp.zeros(2, np.uint64)
        module.get_function(name)((8 * device.processors(),), (256,), (found,))
        return [int(n) for n in found.get()]

    return run


@pytest.mark.parametrize("name", BEYOND)
def test_every_argument_that_is_near(counts: Callable[[str], list[int]], name: str) -> None:
    wrong, checked = counts(f"near_{name}")
    assert wrong == 0
    assert checked > 2 * 0x42B00000


@pytest.mark.parametrize("name", BEYOND)
def test_every_argument(counts: Callable[[str], list[int]], name: str) -> None:
    wrong, undecided = counts(f"{name}_of")
    assert wrong == 0
    assert undecided - BEYOND[name] < 2**32 / 2048

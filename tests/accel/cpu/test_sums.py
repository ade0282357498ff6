"""Every accumulation model in Numba against its definition: equal bits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lpref.accel.cpu import sums
from lpref.accel.cpu.gemm import gemm
from lpref.conformance.proves import proves
from lpref.ref import formats
from lpref.ref.contracts import Bits
from lpref.ref.errors import SpecError
from lpref.ref.linalg import ACCUMULATORS, Accumulate, HighPrecision
from lpref.ref.linalg import gemm as definition
from lpref.ref.quantize import QUANTIZERS, quantize

f32 = np.float32
SHAPES = [(0, 3, 4), (2, 0, 3), (3, 2, 0), (1, 1, 1), (5, 7, 17), (9, 130, 33), (3, 129, 128), (4, 3, 145)]


def draw(rng, rows, k, model, wild):
    if model.inner == "integer":
        return rng.integers(-300, 300, (rows, k)).astype(f32)
    f = formats.format(model.core.inputs[-1] if model.core else "bfloat16")
    x = rng.standard_normal((rows, k)) * 2.0 ** rng.integers(-8, 9, (rows, k)) * (rng.random((rows, k)) > 0.1)
    if wild and x.size and f.has_nan:
        x[rng.random(x.shape) < 0.02] = rng.choice([np.nan, np.inf, -np.inf, f.max, -f.max, -0.0, f.min_subnormal])
    return f.round(x, overflow="to_infinity" if f.has_inf else "saturate").astype(f32)


def same(a, b, model) -> str | None:
    with np.errstate(all="ignore"):
        return Bits().mismatch(definition(a, b, model), gemm(a, b, model), (), {})


@proves("{name}", "cpu")
@pytest.mark.parametrize("name", ACCUMULATORS)
def test_equals_the_definition(name: str) -> None:
    model, rng = ACCUMULATORS[name].model, np.random.default_rng(1)
    for (m, n, k), wild in itertools.product(SHAPES, (False, True)):
        a, b = (HighPrecision(draw(rng, rows, k, model, wild)) for rows in (m, n))
        assert same(a, b, model) is None, (m, n, k, wild)
    x = rng.standard_normal((5, 96)).astype(f32)
    for q in ("mxfp8_e4m3", "nvfp4", "int8_row", "mxfp4") if model.core is None else ("mxfp4",) if "tf32" not in name else ():
        a = quantize(x, QUANTIZERS[q])
        if model.inner != "integer" or q == "int8_row":
            assert same(a, a, model) is None, q


@pytest.mark.parametrize("fmt", ["bfloat16", "binary16", "e4m3", "e5m2", "e6m9_ieee", "e4m3fnuz", "e2m1", "float32"])
@pytest.mark.parametrize("inner", ["sequential", "pairwise", "kahan"])
def test_any_accumulator_format(inner: str, fmt: str) -> None:
    """Also those that the kernels do not cover; with cancellation, ties, subnormal sums and overflow."""
    rng = np.random.default_rng(2)
    for product, scale in itertools.product(("exact", "float32"), (-30, -8, 0, 12)):
        x = rng.integers(-8, 9, (6, 19)) * 2.0 ** (rng.integers(-3, 3, (6, 19)) + scale)
        a, b = HighPrecision(f32(x)), HighPrecision(f32(rng.integers(-4, 5, (7, 19))))
        assert same(a, b, Accumulate(inner, fmt, product)) is None, (product, scale)


def test_which_formats_have_kernels() -> None:
    assert sums.placed("bfloat16") == (8, -126, formats.format("bfloat16").max)
    assert sums.placed("e4m3fnuz") is None
    assert sums.placed("int8") is None


def test_wide_exponents_and_overflow() -> None:
    rng = np.random.default_rng(3)
    for low, high in ((-130, -60), (-70, -50), (50, 70), (-120, 120)):
        a, b = (formats.format("bfloat16").round(rng.uniform(-2, 2, (6, 40)) * 2.0 ** rng.integers(low, high, (6, 40))).astype(f32) for _ in range(2))
        assert same(HighPrecision(a), HighPrecision(b), ACCUMULATORS["hopper_bf16"].model) is None


def test_program_of_a_pairwise_sum() -> None:
    assert sums.program(3)[0].tolist() == [0, 1, 2, -1, -1]
    assert sums.program(1)[0].tolist() == [0]
    assert sums.program(4)[1] == 3


def test_grade_fast_refuses_coarse_models() -> None:
    import lpref

    a = HighPrecision(np.ones((2, 2), f32))
    with pytest.raises(SpecError, match="numerics: exact"):
        lpref.backend("cpu", "fast").gemm(a, a, "hopper_bf16")

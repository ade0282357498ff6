"""Accumulation models of matrix units on the GPU: the kernel against the definition, and cuBLASLt against the kernel, bit for bit."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from kernel_check import check_cases, cuda_place
from kernel_draw import Draw
from kernel_products import UNITS, units

import lpref
from lpref.accel.cuda import device

CUDA, PLACE = lpref.backend("cuda", "exact"), cuda_place()
BENCH = Path(__file__).resolve().parents[2] / "bench" / "models_device.py"


@pytest.mark.parametrize("name", UNITS)
def test_the_kernel_has_the_definitions_bits(name: str) -> None:
    check_cases(CUDA.kernels["gemm"], PLACE, units(Draw(12), name))


@pytest.fixture(scope="module")
def compare():
    """bench/models_device.py."""
    if str(device.cupy().cuda.Device().compute_capability) != "90":
        pytest.skip("the models are those of compute capability 9.0")
    spec = importlib.util.spec_from_file_location("models_device", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", ["bf16", "fp16", "fp8_fast", "fp8_promote128", "int8"])
def test_cublaslt_is_the_model_where_rows_are_aligned(compare, case: str) -> None:
    """Of all proposed algorithms that use a matrix unit: kernels 16 and 56 do not (docs/accumulation.md)."""
    rows = [row for row in compare.compared(case, compare.SMALL) if row["aligned"] and row["algorithm"].split()[0] not in ("16", "56")]
    assert sum(row["of"] for row in rows) > 10**6
    assert [row for row in rows if row["differ"]] == []

"""Products, operands and attention without a GPU (host_gpu): every case of their ops, and sizes and formats that take other ways through them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import host_gpu
import numpy as np
import pytest
from kernel_check import Place, check, check_cases, cuda_place
from kernel_draw import Draw
from kernel_products import LAYOUTS, MORE, OPS, UNITS, stored, units

from lpref.accel.cuda import backend, blas, device, gemm, operand, plans
from lpref.accel.reference import operand as definition
from lpref.accel.reference import reference_ops
from lpref.ref.backend import Bits, Kernel
from lpref.ref.errors import BackendError, FormatError, ShapeError
from lpref.ref.linalg import Accumulate, HighPrecision
from lpref.ref.linalg import gemm as definition_of_gemm
from lpref.ref.quantize import lookup, quantize

DEFINITIONS = reference_ops("exact")
KERNELS = {op: Kernel(op, backend.KERNELS[op], DEFINITIONS[op], Bits()) for op in OPS}


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host")) as patch:
        patch.setattr(plans, "macros", lambda q: None)  # the kernels of one read are PTX in parts
        yield cuda_place()


@pytest.mark.parametrize("op", [op for op in OPS if op not in ("quantize", "qdq", "operand")])
def test_kernel_keeps_its_contract(place: Place, op: str) -> None:
    check(KERNELS[op], place)


@pytest.mark.parametrize("op", MORE)
def test_other_ways(place: Place, op: str) -> None:
    check_cases(KERNELS[op], place, MORE[op](Draw(3)))


@pytest.mark.parametrize("processors", [1, 400])
def test_every_tile(place: Place, monkeypatch: pytest.MonkeyPatch, processors: int) -> None:
    monkeypatch.setattr(device, "processors", lambda: processors)
    draw = Draw(4)
    check_cases(KERNELS["matmul"], place, [(draw.wild(130, 40), draw.wild(40, 129)), (draw.wild(40, 5).T, draw.wild(7, 40).T)])
    check_cases(KERNELS["gemm"], place, [stored(draw, name, name, 70, 37, 67) for name in ("nvfp4", "mxfp8_e5m2", "int8_row")])


@pytest.mark.parametrize("name", UNITS)
def test_matrix_units(place: Place, name: str) -> None:
    check_cases(KERNELS["gemm"], place, units(Draw(12), name, LAYOUTS if name == "hopper_bf16" else ()))  # each layout is a file to compile


def test_what_a_unit_does_not_read(place: Place) -> None:
    x = [HighPrecision(place.put(np.float32([[1, 2, v]])), 1) for v in (3, 1 + 2.0**-8)]
    assert place.here(gemm.gemm(x[0], x[0], "hopper_bf16")).tolist() == [[14.0]]
    with pytest.raises(FormatError, match=r"1\.00390625 is no value of bfloat16, which this matrix unit reads"):
        gemm.gemm(x[0], x[1], "hopper_bf16")
    for name, what in (("blackwell_mxf4nvf4", "exponents"), ("ampere_fp16_acc16", "binary16")):
        with pytest.raises(BackendError, match=f"no kernel makes a matrix unit with .*{what}"):
            gemm.gemm(x[0], x[0], name)


@pytest.mark.parametrize("name", ["nvfp4", "fp8_tensor", "bf16"])
def test_error_statistics(place: Place, name: str) -> None:
    draw, q = Draw(5), replace(lookup(name), tail="pad_zero")
    nothing = np.full((2, 32), np.nan, np.float32)
    for x in (draw(40, 64), draw.wild(64, 96), draw(0, 32), np.asarray(draw(1, 2080) * np.float32(1e30), np.float32), nothing):
        with np.errstate(all="ignore"):
            want = definition(x, q, k_axis=1, collect=True).observed
        assert Bits().mismatch(dict(want), dict(operand.operand(place.put(x), q, k_axis=1, collect=True).observed), (), {}) is None


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4_2d", "mxfp8_e4m3", "mxfp8_e5m2", "fp8_tensor", "int8_row", "int4_group"])
def test_operands_in_bfloat16(place: Place, name: str) -> None:
    """Element times block scale, which bfloat16 holds: the upper half of the float32."""
    for shape, axis in (((48, 64), 1), ((48, 64), 0), ((5, 33), 1)):
        t = quantize(Draw(8)(*shape), replace(lookup(name), tail="pad_zero"), k_axis=axis)
        scaled = blas.in_bfloat16(t.quantizer) and t.quantizer.blocks.k is not None
        with np.errstate(all="ignore"):
            spread = np.repeat(np.repeat(t.scale_values(), t.block[0], axis=0)[: shape[0]], t.block[1], axis=1)[:, : shape[1]]
            values = (t.element_values() * (spread if scaled else 1)).astype(np.float32).view(np.uint32)
        assert not np.any(values & 0xFFFF)
        assert np.array_equal(place.here(place.there(t).in_bfloat16(scaled)), (values >> 16).astype(np.uint16))


CHAINS = (
    "bf16_sequential", Accumulate("sequential", "e6m9_ieee", "exact", 24, outer="e6m9_ieee"), Accumulate("sequential", "e5m10_ieee", "float32"),
    Accumulate("sequential", "float32", "exact", 7, outer="bfloat16"),
)  # fmt: skip
"""Sums in other formats than float32."""


@pytest.mark.parametrize("model", CHAINS)
def test_chains(place: Place, model: Any) -> None:
    draw = Draw(9)
    codes = (quantize(draw(n, 70), replace(lookup(q), tail="pad_zero")) for n, q in ((8, "mxfp4"), (5, "fp8_row")))
    sides = [HighPrecision(draw.wild(9, 70), 1), *codes]
    for a in sides:
        for b in sides:
            with np.errstate(all="ignore"):
                want = definition_of_gemm(a, b, model)
            got = place.here(gemm.gemm(place.there(a), place.there(b), model))
            assert Bits().mismatch(want, got, (), {}) is None


REGISTERS = (
    "int16_saturate", "int16_wrap", Accumulate("integer", chunk=7, bits=9, overflow="saturate"), Accumulate("integer", bits=62, outer="bfloat16"),
)  # fmt: skip
"""Sums in integer registers."""


@pytest.mark.parametrize("model", REGISTERS)
@pytest.mark.parametrize("name", ["int8_row", "mxint8", "uint4_affine_group", "fixed16_8"])
def test_registers(place: Place, name: str, model: Any) -> None:
    draw, q = Draw(10), replace(lookup(name), tail="pad_zero")
    for axes in ((1, 1), (0, 1), (0, 0)):
        a, b = (quantize(draw(*((n, 70) if axis else (70, n))), q, k_axis=axis) for n, axis in zip((8, 5), axes, strict=True))
        want = definition_of_gemm(a, b, model)
        assert Bits().mismatch(want, place.here(gemm.gemm(place.there(a), place.there(b), model)), (), {}) is None


def test_what_is_refused(place: Place) -> None:
    x = HighPrecision(place.put(np.ones((2, 3), np.float32)), 1)
    with pytest.raises(ShapeError, match="contraction axes have 3 and 2"):
        gemm.gemm(x, HighPrecision(x.values, 0))
    for model in ("pairwise", "kahan", "exact", "int32_wrap", Accumulate("integer", bits=63)):
        with pytest.raises(BackendError, match="no kernel makes"):
            gemm.gemm(x, x, model)
    with pytest.raises(BackendError, match="no CuPy array"):
        gemm.gemm(HighPrecision(np.ones((2, 3), np.float32), 1), x)

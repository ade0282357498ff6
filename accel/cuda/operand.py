"""GEMM operands of the cuda backend, in both grades codes (`CudaQTensor`) or high precision; and what else quantizes: `qdq`, `rounded`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cast_plan import NEVER
from lpref.accel.cuda import arrays, cast, copies, device, panels
from lpref.accel.cuda.hadamard import hadamard
from lpref.accel.cuda.job import job_of
from lpref.accel.cuda.qtensor import CudaQTensor
from lpref.accel.cuda.quantize import constant, in_panels, of_unmade, quantize, shortens
from lpref.accel.cuda.unmade import Unmade
from lpref.accel.reference import check_operand, transformed
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import HighPrecision
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.stats import figures
from lpref.ref.reduce import LANES
from lpref.ref.rounding import overflow as overflow_of
from lpref.ref.rounding import rounding as rounding_of


def operand(
    x: Any, quantizer: Quantizer | None = None, *, k_axis: int, transforms: Sequence[tuple[Any, Any]] = (), words: Any = None,
    state: Mapping[str, Any] | None = None, collect: bool = False, numbers: bool = False, both: bool = False,
) -> CudaQTensor | HighPrecision:  # fmt: skip
    """`lpref.accel.reference.operand`: the same codes. collect adds error statistics to ``observed`` (and waits for the device); numbers: bfloat16
    beside the codes, where they come from one kernel, and the copy of a weight (`copies`) in place of its cast; both: codes along both axes, if they
    come from one kernel.

    A cast to bfloat16 of an array of bfloat16 is the array, without a kernel: no element is lost, and its amax is not measured unless `collect`.
    Nothing at all is observed of a weight whose copy serves, unless `collect`.
    """
    check_operand(x, k_axis)
    if isinstance(x, Unmade):
        made = of_unmade(x, quantizer, state=state, words=words, k_axis=k_axis) if both and quantizer is not None and not collect else None
        if made is not None:
            return made
        x = x.array()
    alone = quantizer is None or collect or not (transforms or numbers) or not device.on_device(x)
    if quantizer is not None and not alone and panels.fits(x, quantizer, k_axis, words, transforms):
        return in_panels([(job_of(x, quantizer, state, None, words, k_axis), transforms, numbers)])[0]
    if transforms or quantizer is None:
        x = transformed(arrays.wide(x), k_axis, transforms, hadamard)
    if quantizer is None:
        arrays.check("operand", x)
        return HighPrecision(x, k_axis)
    if not collect and keeps(quantizer):
        if arrays.is_sixteen(x):
            return as_codes(x, quantizer, k_axis, {"count": int(x.size), "overflowed": 0, "underflowed": 0})
        copy = copies.of(x) if numbers and shortens(quantizer) else None
        if copy is not None:
            return as_codes(copy, quantizer, k_axis, {})
    codes = quantize(x, quantizer, state=state, words=words, k_axis=k_axis, both=both)
    return replace(codes, observed={**codes.observed, **stats(x, codes)}) if collect else codes


def operands(x: Any, wanted: Sequence[tuple[Quantizer, Mapping[str, Any], bool]], numbers: bool = False) -> list[CudaQTensor | HighPrecision] | None:
    """`operand` of one tensor under several quantizers with their options, from one read; None where nothing is to be had from making them together.

    The last of a triple: whether the operand is kept for later; what is not kept gets its numbers at once, where `numbers` asks for them. Option
    "beside": what the operand will be multiplied with, whose tensor scale is multiplied with its own.
    """
    fitting = len(wanted) == 2 and device.on_device(x) and not any(options.get("collect") for _, options, _ in wanted)
    if not fitting or not all(panels.fits(x, q, o["k_axis"], o.get("words"), o.get("transforms", ())) for q, o, _ in wanted):
        return None
    jobs = [(job_of(x, q, o.get("state"), None, o.get("words"), o["k_axis"]), o.get("transforms", ()), numbers and not kept) for q, o, kept in wanted]
    return list(in_panels(jobs, [_scale_of(o.get("beside")) for _, o, _ in wanted]))


def _scale_of(x: Any) -> Any:
    """The tensor scale of an operand that has one on the device; else None."""
    return x.tensor_scale if isinstance(x, CudaQTensor) and x.quantizer.scale.rule == "nvfp4" else None


@cache
def keeps(q: Quantizer) -> bool:
    """Whether every value of bfloat16, infinities too, is its own code under q."""
    if q.format != "bfloat16" or q.scale.rule != "none" or rounding_of(q.rounding).stochastic:
        return False
    fmt = format_named(q.format)
    if cast.formula(fmt, rounding_of(q.rounding), overflow_of(q.overflow))[0].raises_above != NEVER:
        return False
    codes = np.arange(2**16, dtype=np.uint32)
    values = (codes << np.uint32(16)).view(np.float32)
    there = ~np.isnan(values)
    return bool((fmt.encode(values[there], q.rounding, q.overflow) == codes[there]).all())


def as_codes(x: Any, q: Quantizer, k_axis: int, seen: Mapping[str, Any]) -> CudaQTensor:
    """The matrix x of bfloat16 as the codes of q, which `keeps` it; seen: what is observed."""
    codes = device.cupy().ascontiguousarray(x.view(np.uint16))
    return CudaQTensor(codes, (), constant(1.0), k_axis % 2, tuple(x.shape), q, seen)


def stats(x: Any, t: CudaQTensor) -> dict[str, Any]:
    """`lpref.ref.quantize.stats` of the matrix x that `t` came from."""
    x = arrays.wide(x)
    arrays.check("stats", x)
    cp = device.cupy()
    x, values = cp.ascontiguousarray(x), t.dequantize(np.float64)
    lanes, seen, out = cp.empty((2, LANES), np.float64), cp.zeros(2, np.uint64), cp.empty(4, np.float64)
    lanes_of, sums = (device.function("operand", entry, (("LP_IN", 0),)) for entry in ("stats_lanes", "stats_sums"))
    lanes_of((LANES // 32,), (32,), (x, values, x.size, lanes, seen))
    sums((1,), (LANES,), (lanes, seen, out))
    noise, signal, largest, finite = (float(v) for v in out.get())
    return figures(t, noise, signal, largest, int(finite))


def qdq(x: Any, quantizer: Quantizer | str, **options: Any) -> Any:
    """`lpref.accel.reference.qdq`: quantized, then dequantized with one rounding to x's dtype (float32 or float64)."""
    return quantize(x, quantizer, **options).dequantize(x.dtype)


def rounded(x: Any, format_name: str, *, store: str = "float32") -> Any:
    """`lpref.accel.reference.cast`: x, float32 or bfloat16, rounded to nearest even in the named format, in float32 or stored in `store`: of a weight
    its copy (`copies`)."""
    if store == format_name == "bfloat16":
        copy = x if arrays.is_sixteen(x) else copies.of(x)
        return arrays.short(*arrays.floats("cast", x)) if copy is None else copy
    form = format_named(format_name)
    made = cast.qdq(arrays.wide(x), form, overflow="to_infinity" if form.has_inf else "saturate")
    return made if store == "float32" else arrays.cast_for_storage(made, store)

"""What the quantizer kernels are told: the scale rule as integers and floats, the element format as macros. Needs no GPU."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cast_plan import float_fields
from lpref.ref.errors import BackendError
from lpref.ref.formats import FloatFormat, Format, IntFormat
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.quantize import element_range, overflow_limits
from lpref.ref.rounding import OVERFLOW, default_word_bits, is_stochastic

RULES = {"amax": 0, "te": 1, "mx": 2, "nvfp4": 3}
TORCHAO = 4
POW2 = {"none": 0, "up": 1, "down": 2, "nearest": 3}
RULE = np.dtype(
    [(n, "<i4") for n in ("rule", "mode", "emax", "threshold", "saturate", "format", "pow2", "apply_inverse")]
    + [(n, "<f4") for n in ("target", "inverse", "eps", "divider", "least")]
)
"""`lp_rule` of core/scales.h."""
TUNING = {
    "blocks": (2, 64, 0), "blocks stochastic": (1, 80, 1), "rows": (2, 64, 0), "rows stochastic": (2, 80, 2),
    "tensor": (2, 64, 0), "tensor stochastic": (2, 80, 0), "tiles": (4, 64, 0), "columns": (2, 64, 0),
    "turned": (2, 128, 0), "turned stochastic": (2, 128, 0),
}  # fmt: skip
"""Kernel -> sixteens (tiles, columns: eights) a thread and step, the registers that a thread may have, and what goes ahead (LP_AHEAD: blocks: the
loads of the next step; rows: the random words of so many sixteens); measured on an H200."""
OTHERS = (
    "learned", "constant", "fan_in", "absmean", "bfp", "coat", "two_eps", "shift", "moments", "deviation", "center", "affine", "minmax", "s2fp8",
    "clip", "flexpoint", "overflow_rate", "double_rounding",
)  # fmt: skip
"""Rules that have the generic kernels only."""
CAST = ("ue5m3", "binary16", "bfloat16")
"""Formats of stored scales that a cast makes after the scale."""
LINES = 32
"""Rows of a block among whose scales nvfp4 selects, at most."""
WHAT_EXISTS = (
    "every rule but twn, trit_planes, double, quartic and clip's percentile, nonfinite propagate (mx: or saturate)"
)


def unsupported(q: Quantizer, why: str) -> BackendError:
    """The error of a quantizer without kernels."""
    remedy = f"on the device: {WHAT_EXISTS}; else use the host"
    return BackendError(f"quantizer {q.name or q.format}: {why} has no kernel", where="cuda", remedy=remedy)


def check(q: Quantizer) -> None:
    """Raise BackendError for rules without kernels."""
    s = q.scale
    lines = q.blocks.other or LINES + 1
    if s.rule not in (*RULES, *OTHERS) or (s.select != "none" and lines > LINES):
        raise unsupported(q, f"scale rule {s.rule}" + (f" with select {s.select} over {lines} lines" if s.rule == "nvfp4" else ""))
    if s.rule == "clip" and s.criterion == "percentile":
        raise unsupported(q, "scale rule clip with criterion percentile")
    if s.nonfinite != "propagate" and (s.rule, s.nonfinite) != ("mx", "saturate"):
        raise unsupported(q, f"nonfinite {s.nonfinite}")
    if s.rule in RULES:
        _stored(q)


@cache
def rule_of(q: Quantizer) -> np.ndarray:
    """`lp_rule` of a quantizer whose rule is in `RULES`, an array of one record.

    Raises: BackendError for rules without kernels.
    """
    check(q)
    s, fmt = q.scale, format_named(q.format)
    target = fmt.max if s.target is None else s.target
    record = np.zeros(1, RULE)
    record["rule"] = TORCHAO if s.apply == "torchao" else RULES[s.rule]
    record["target"], record["inverse"] = np.float32(target), np.float32(1) / np.float32(target)
    record["eps"], record["divider"] = np.float32(s.eps), np.float32(2.0**s.margin)
    record["pow2"], record["apply_inverse"] = POW2[s.pow2], s.apply == "mul_inverse"
    record["saturate"] = s.nonfinite == "saturate"
    record["emax"] = math.frexp(target)[1] - 1
    record["format"], record["least"] = _stored(q)
    if s.rule == "mx":
        record["mode"] = {"rceil": 1, "tetrajet": 2}.get(s.mode, 0)
        record["threshold"] = _threshold(s.mode, target, fmt.precision or 1)
    return record


def _threshold(mode: str, target: float, precision: int) -> int:
    """Fraction bits of amax from which the exponent is one more."""
    whole = 1 << 23
    if mode == "midmax":
        return math.ceil(math.ldexp(target, 1 - math.frexp(target)[1]) / 2 * whole)
    return {"ceil": 1, "even": whole - (1 << max(23 - precision, 0))}.get(mode, whole)


def _stored(q: Quantizer) -> tuple[int, float]:
    """(kind of the stored scale, its smallest value)."""
    if q.scale.format in ("float32", "e8m0", *CAST):
        return int(q.scale.format == "e8m0"), 0.0
    small = format_named(q.scale.format)
    e4m3 = isinstance(small, FloatFormat) and (small.max, small.trailing_bits, small.bias, small.nan_code) == (448.0, 3, 7, 0x7F)
    if not e4m3:
        raise unsupported(q, f"scale format {q.scale.format}")
    return 2, small.min_subnormal


def cast_after(q: Quantizer) -> bool:
    """Whether a cast makes the stored scales."""
    return q.scale.format in CAST


def scale_bytes(q: Quantizer) -> int:
    """Bytes of a scale as the rule's kernel stores it; 2: a cast does."""
    return 2 if cast_after(q) else 4 if q.scale.format == "float32" else 1


def divides(q: Quantizer) -> bool:
    """Whether elements are divided by their factor."""
    signs = q.scale.rule == "absmean" and not has_zero(q)
    return q.scale.rule == "mx" or (q.scale.rule in ("amax", "learned", "constant", "fan_in", "absmean") and q.scale.apply == "divide" and not signs)


def has_zero(q: Quantizer) -> bool:
    """Whether the element format has a zero."""
    return "zero" in format_named(q.format).targets


def word_bits(q: Quantizer) -> int:
    """Bits of a word; 0 for deterministic roundings."""
    return (q.word_bits or default_word_bits(format_named(q.format))) if is_stochastic(q.rounding) else 0


@cache
def macros(q: Quantizer) -> tuple[tuple[str, Any], ...] | None:
    """The element format for elements.cuh; None where only the generic kernels serve."""
    fmt, r = format_named(q.format), word_bits(q)
    if q.scale.rule in OTHERS or cast_after(q) or q.scale.select != "none":
        return None
    plain = OVERFLOW.get(q.overflow) == OVERFLOW["saturate"] and q.rounding in ("nearest_even", "stochastic") and r in (0, 8, 16)
    if not plain or not fmt.signed or fmt.bits not in (4, 6, 8):
        return None
    found = _integer(fmt, q) if isinstance(fmt, IntFormat) else _float(fmt, q, r)
    if found is None:
        return None
    found |= {
        "LP_BITS": fmt.bits, "LP_SR": r, "LP_OVER": _hex(overflow_limits(q, fmt)[1]),
        "LP_DIVIDE": int(divides(q) and q.scale.rule != "mx"), "LP_SCALE_BYTES": scale_bytes(q),
        "LP_RULE": TORCHAO if q.scale.apply == "torchao" else RULES.get(q.scale.rule, 0),
    }  # fmt: skip
    if q.scale.rule == "mx":
        rule = rule_of(q)[0]
        found["LP_MODE"] = int(rule["mode"])
        found["LP_MX_SIMPLE"] = int(rule["mode"] == 0 and rule["emax"] == math.frexp(fmt.max)[1] - 1 >= 2 and not rule["saturate"])
    if q.scale.multiplier != 1:
        found["LP_MULTIPLIER"] = f"lp_float({_hex(q.scale.multiplier)})"
    return tuple(sorted(found.items()))


def _integer(fmt: Format, q: Quantizer) -> dict[str, Any] | None:
    low, high = element_range(q, fmt)
    if fmt.min_subnormal != 1 or low != -high:
        return None
    return {"LP_INTEGER": 1, "LP_LOW": f"{low:.1f}f", "LP_HIGH": f"{high:.1f}f", "LP_NAN_CODE": 0, "LP_TRAILING": 0, "LP_EMIN": 0, "LP_CVT": 0}


def _float(fmt: Format, q: Quantizer, r: int) -> dict[str, Any] | None:
    if not isinstance(fmt, FloatFormat) or fmt.zero != "signed" or float_fields(fmt) is None or r > 23 - fmt.trailing_bits:
        return None
    if fmt.max_code >= 1 << (fmt.bits - 1) or fmt.min != -fmt.max:
        return None
    cvt = (fmt.bits, fmt.trailing_bits, fmt.bias) in ((8, 3, 7), (8, 2, 15)) and fmt.max in (448.0, 57344.0)
    live_nan = q.scale.rule == "te"  # elsewhere a NaN takes its whole block
    return {
        "LP_INTEGER": 0, "LP_TRAILING": fmt.trailing_bits, "LP_EMIN": fmt.emin, "LP_MAX": _hex(fmt.max), "LP_NAN_CODE": fmt.nan_code or 0,
        "LP_CVT": int(cvt) * (2 if live_nan and fmt.nan_code != 0x7F else 1), "LP_LOW": "0.0f", "LP_HIGH": "0.0f",
    }  # fmt: skip


def _hex(x: float) -> str:
    return f"0x{int(np.float32(x).view(np.uint32)):08X}u"

"""`Plan`: the constants of a quantizer's kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lpref.accel.cast_plan import float_fields
from lpref.accel.cpu import table_kernels
from lpref.ref.formats import FloatFormat, Format, IntFormat
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.elements import element_range, overflow_limits
from lpref.ref.rounding import OVERFLOW, default_word_bits, is_stochastic


@dataclass(frozen=True)
class Plan:
    """The constants of a quantizer's kernels."""

    bits: int
    stochastic: int
    target: float
    limits: NDArray[np.float32]
    fields: NDArray[np.int32]
    mx: tuple[int, int, int, np.float32]
    table: table_kernels.Table | None = None


DEFINED = frozenset({"affine", "double", "minmax", "quartic", "s2fp8", "trit_planes", "twn", "double_rounding"})
"""Rules without a kernel: they take the definition."""


@cache
def plan_of(q: Quantizer) -> Plan | None:
    """The plan, or None where the kernels do not cover the quantizer."""
    if q.scale.rule in DEFINED or q.scale.center or (q.scale.rule == "flexpoint" and q.rounding != "nearest_even"):
        return None
    fmt = format_named(q.format)
    if q.scale.rule == "none" or not 1 <= fmt.bits <= 16:
        return None
    stochastic = (q.word_bits or default_word_bits(fmt.bits)) if is_stochastic(q.rounding) else 0
    if stochastic not in (0, 8, 16):
        return None
    low, high = element_range(q, fmt)
    limits = np.array([low, high, *overflow_limits(q, fmt)], np.float32)
    target = fmt.max if q.scale.target is None else q.scale.target
    precision = fmt.precision or 1
    mx = _mx(q.scale.mode, target, precision)
    fields = _fields(q, fmt)
    if fields is not None:
        return Plan(fmt.bits, stochastic, target, limits, fields, mx)
    table = table_kernels.table_of(q, stochastic)
    return None if table is None else Plan(fmt.bits, stochastic, target, limits, np.zeros(5, np.int32), mx, table)


def _mx(mode: str, target: float, precision: int) -> tuple[int, int, int, np.float32]:
    """What `quantize_kernels.mx_grid` is told of a mode: its number, emax, the threshold of the fraction, and the target."""
    if mode in ("rceil", "tetrajet"):
        return (1, 0, 1, np.float32(1) / np.float32(target)) if mode == "rceil" else (2, 0, 1, np.float32(target))
    mantissa, exponent = math.frexp(target)
    threshold = {"floor": 1 << 23, "even": (1 << 23) - (1 << max(23 - precision, 0)), "ceil": 1, "midmax": math.ceil(math.ldexp(mantissa, 23))}
    return 0, exponent - 1, threshold[mode], np.float32(1)


def _fields(q: Quantizer, fmt: Format) -> NDArray[np.int32] | None:
    """What the rounding by arithmetic is told (`quantize_kernels.run`); None where there is a table at best."""
    if q.rounding not in ("nearest_even", "stochastic") or OVERFLOW.get(q.overflow) != OVERFLOW["saturate"] or not fmt.signed or fmt.bits < 2:
        return None
    if isinstance(fmt, IntFormat) and fmt.min_subnormal == 1:
        return np.array([(126 + fmt.bits) << 23, (24 - fmt.bits) << 23, fmt.bits - 1, fmt.bits, 1], np.int32)
    if isinstance(fmt, FloatFormat) and fmt.zero == "signed" and float_fields(fmt) is not None:
        trailing = fmt.trailing_bits
        return np.array([(127 + fmt.emin) << 23, (23 - trailing) << 23, trailing, fmt.bits, 0], np.int32)
    return None

"""What a known difference `becomes`: alternative definitions, evaluated and compared bit by bit with what the target gave.

Casts; keys combine, in this order::

    via: float32               the input is rounded to that format first (nearest even): double rounding
    flush: true                subnormal inputs (of the input's type) become zeros of their sign
    absolute: true             the sign is dropped first
    format: e5m3_ieee_b7       another format rounds it
    rounding: nearest_away     another rounding
    overflow: to_nan           another overflow preset, or {finite: …, infinity: …, nan: …}
    clamp: [low, high]         the value is clamped afterwards
    result: [NaN, zero]        no definition: just the columns of the matrix (for what follows no rule)
    value: -0.0                this value, whatever the input
    signed_value: 448          this value with the input's sign

Blocks::

    quantizer: mxfp4:scale=ceil      another quantizer
    scale_code: 254                  the block's scale code; codes are those of the definition under that scale (0 where it is NaN)
    values: nan | zero               the whole block decodes to it
    model: torchao_nvfp4             a formula of `lpref.conformance.diff.models`
    result: [scale, codes]           no definition: just the columns of the matrix
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.conformance.diff.classes import RESULTS, wide
from lpref.conformance.targets.base import CastCase
from lpref.ref.errors import FormatError, NonFiniteError
from lpref.ref.formats import Format
from lpref.ref.formats import format as format_of
from lpref.ref.rounding import Overflow


def encode_where_defined(
    f: Format, x: np.ndarray, rounding: Any, overflow: Any, words: Any = None, word_bits: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """(codes, where the definition has one): NaN, infinities and finite overflows are tried by themselves where all together raise."""
    codes, ok = np.zeros(x.shape, f.code_dtype), np.zeros(x.shape, bool)
    v = wide(x)
    parts = [np.ones(x.shape, bool)]
    over = np.isfinite(v) & ((v > f.max) | (v < f.min))
    while parts:
        mask = parts.pop()
        if not mask.any():
            continue
        given = (x[mask], rounding, overflow, None if words is None else words[mask], word_bits if words is not None else None)
        try:
            codes[mask], ok[mask] = f.encode(*given), True
        except (FormatError, NonFiniteError):
            if mask.all():
                parts = [np.isnan(v), np.isinf(v), over, np.isfinite(v) & ~over]
            elif np.count_nonzero(mask) > 1:  # only some of these: halve
                at = np.flatnonzero(mask)
                for half in (at[: at.size // 2], at[at.size // 2 :]):
                    part = np.zeros(x.shape, bool)
                    part[half] = True
                    parts.append(part)
    return codes, ok


def cast_alternative(becomes: Mapping[str, Any], x: np.ndarray, case: CastCase, words: Any) -> tuple[np.ndarray, np.ndarray]:
    """(values, where defined) of x under the alternative."""
    if "value" in becomes:
        return np.full(x.shape, float(becomes["value"])), np.ones(x.shape, bool)
    if "signed_value" in becomes:
        return np.copysign(float(becomes["signed_value"]), wide(x)), np.ones(x.shape, bool)
    y = x
    for name in [becomes["via"]] if isinstance(becomes.get("via"), str) else becomes.get("via", []):
        y = format_of(name).round(wide(y), overflow="to_infinity")
    if becomes.get("flush"):
        y = np.where(np.abs(wide(y)) < float(np.finfo(np.float32).tiny), np.copysign(0.0, wide(y)), wide(y))
    if becomes.get("absolute"):
        y = np.abs(y)
    f = format_of(becomes.get("format", case.format))
    overflow = becomes.get("overflow", case.overflow)
    overflow = Overflow(**overflow) if isinstance(overflow, Mapping) else overflow
    codes, ok = encode_where_defined(f, y, becomes.get("rounding", case.rounding), overflow, words, case.word_bits)
    values = f.decode(codes)
    if "clamp" in becomes:
        low, high = (float(v) for v in becomes["clamp"])
        values = np.clip(values, low, high)
    return values, ok


def explains_cast(
    becomes: Mapping[str, Any], x: np.ndarray, got: np.ndarray, kinds: np.ndarray, case: CastCase, words: Any, signed_zero: bool
) -> np.ndarray:
    """Which of these elements the alternative reproduces."""
    if "result" in becomes:
        names = list(RESULTS)
        return np.isin(kinds, [names.index(n) for n in becomes["result"]])
    values, ok = cast_alternative(becomes, x, case, words)
    same = (values == got) | (np.isnan(values) & np.isnan(got))
    if signed_zero:
        same &= (got != 0) | (np.signbit(values) == np.signbit(got))
    return same & ok

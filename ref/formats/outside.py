"""What an overflow policy makes of what lies outside a format's finite values: finite overflows, infinities, NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lpref.ref.errors import FormatError, NonFiniteError
from lpref.ref.rounding import Overflow, Rounding

if TYPE_CHECKING:
    from lpref.ref.formats.base import Format


def overflowed(f: Format, codes: np.ndarray, over: np.ndarray, x: np.ndarray, rule: Rounding, policy: Overflow) -> np.ndarray:
    """Apply `policy.finite` where `over`; `codes` already holds the clamped ones there."""
    negative = np.signbit(x)
    if policy.finite == "raise":
        raise FormatError(f"{float(x[over].flat[0])!r} is outside [{f.min!r}, {f.max!r}]", where=f"{f.name}.encode")
    over = over & ~f._stops(rule, policy, negative, x)
    if not over.any():
        return codes
    if not f.signed and policy.unsigned in ("smallest", "nan") and (over & negative).any():
        codes = np.where(over & negative, _below_range(f, policy, negative, codes), codes)
        over = over & ~negative
    target = policy.resolve("finite", f.targets, f"{f.name}.encode")
    return codes if target == "max" else np.where(over, _signed_target(f, target, negative), codes)


def _below_range(f: Format, policy: Overflow, negative: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """What the policy's sign rule makes of values below an unsigned format's range: its smallest value, or NaN."""
    if policy.unsigned == "smallest":
        return f._target_code("max", negative)
    if f.nan_code is None:
        raise FormatError("no NaN for what is below the range", where=f"{f.name}.encode")
    return np.full(codes.shape, f.nan_code, np.uint64)


def special_codes(f: Format, codes: np.ndarray, x: np.ndarray, policy: Overflow) -> np.ndarray:
    """Apply `policy.infinity` and `policy.nan`."""
    where = f"{f.name}.encode"
    for field, mask in (("infinity", np.isinf(x)), ("nan", np.isnan(x))):
        if mask.any():
            target = policy.resolve(field, f.targets, where)
            if target == "raise":
                raise NonFiniteError(f"{int(mask.sum())} of {x.size} values are {field}", where=where)
            negative = np.signbit(x) & (field == "infinity")
            codes = np.where(mask, _signed_target(f, target, negative), codes)
            if not f.signed and policy.unsigned in ("smallest", "nan") and (mask & negative).any():
                codes = np.where(mask & negative, _below_range(f, policy, negative, codes), codes)
    return codes


def _signed_target(f: Format, target: str, negative: np.ndarray) -> np.ndarray:
    """`_target_code`; an unsigned format has no negative infinity: it gets NaN."""
    if target == "infinity" and not f.signed and negative.any():
        if f.nan_code is None:
            raise NonFiniteError("no code for a negative infinity", where=f"{f.name}.encode")
        return np.where(negative, np.uint64(f.nan_code), f._target_code(target, np.zeros_like(negative)))
    return f._target_code(target, negative)

"""Mistakes of a cast to E4M3: rounding, subnormals, overflow, specials, signed zero, double rounding; and of other deterministic casts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from planted_mistakes import accepted, caught, pairs

import lpref

MAX, NAN = 0x7E, 0x7F


def e4m3(x: np.ndarray, flaw: str = "", overflow: int = MAX) -> np.ndarray:
    """float32 -> E4M3 codes, nearest even, on the bits; what is beyond 464, and infinity, becomes `overflow`."""
    if flaw == "rounds to bfloat16 first":
        x = lpref.format("bfloat16").round(x)
    if flaw == "rounds to binary16 first":
        with np.errstate(over="ignore"):
            x = x.astype(np.float16).astype(np.float32)
    if flaw == "clamps before rounding":
        x = np.clip(x, np.float32(-448), np.float32(448))
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    sign, a = (u >> 24 & 0x80).astype(np.int64), (u & 0x7FFFFFFF).astype(np.int64)
    exponent = (a >> 23) - 127
    significand = (a & 0x7FFFFF) | np.where(exponent == -127, 0, 0x800000)
    discarded = np.minimum(20 + np.maximum(-6 - exponent, 0), 40)
    if flaw == "subnormals round at the bit of normals":
        up = significand + (1 << 19) - 1 + (significand >> 20 & 1)
        significand = np.where(exponent < -6, up >> 20 << 20, significand)
    kept, rest, half = significand >> discarded, significand & ((1 << discarded) - 1), 1 << (discarded - 1)
    if flaw == "loses the sticky bits":
        rest &= ~((1 << np.maximum(discarded - 3, 0)) - 1)
    up = (rest > half) | ((rest == half) & (kept % 2 == 1))
    if flaw == "ties away":
        up = rest >= half
    if flaw == "ties toward zero":
        up = rest > half
    if flaw == "ties to odd":
        up = (rest > half) | ((rest == half) & (kept % 2 == 0))
    if flaw == "truncates":
        up = np.zeros(x.shape, bool)
    if flaw == "rounds toward plus infinity":
        up = (rest > 0) & (sign == 0)
    rounded = kept + up
    if flaw == "drops the carry into the exponent":
        rounded = np.where(rounded == 16, 8, rounded)
    code = rounded + (np.maximum(exponent, -6) + 6) * 8
    if flaw == "flushes subnormals":
        code = np.where(exponent < -6, 0, code)
    if flaw == "flushes the smallest subnormal":
        code = np.where(code == 1, 0, code)
    if flaw == "bias off by one":
        code = np.where(code >= 8, code - 8, code)
    if flaw == "largest exponent off by one":
        code = np.where(code > 0x77, overflow if overflow == NAN else 0x77, code)
    beyond = code > MAX
    if flaw == "overflows above the largest value":
        beyond |= (a.astype(np.uint32).view(np.float32) > 448) & (a < 0x7F800000)
    if flaw == "saturates at 416":
        beyond |= code == MAX
        overflow = MAX - 1
    code = np.where(beyond, NAN if flaw == "overflow becomes NaN" else overflow, code)
    if flaw == "one wrong entry in its table":
        code = np.where(code == 0x3B, 0x3A, code)
    special = {"infinity becomes NaN": NAN, "infinity becomes zero": 0}.get(flaw, overflow)
    code = np.where(a == 0x7F800000, special, code)
    code = np.where(a > 0x7F800000, {"NaN becomes zero": 0, "NaN becomes the largest value": MAX}.get(flaw, NAN), code)
    if flaw == "loses the sign of zero":
        sign = np.where(code == 0, 0, sign)
    if flaw == "loses the sign":
        sign = np.zeros_like(sign)
    return (code | sign).astype(np.uint8)


def through_odd(x: np.ndarray, flaw: str = "") -> np.ndarray:
    """float64 -> E4M3 by way of float32: rounding the first time to odd is harmless, to nearest is not."""
    with np.errstate(over="ignore"):
        near = x.astype(np.float32)
    if flaw:
        return e4m3(near)
    inexact = (near.astype(np.float64) != x) & np.isfinite(x) & np.isfinite(near)
    toward_zero = np.where(np.abs(near.astype(np.float64)) > np.abs(x), np.nextafter(near, np.float32(0)), near)
    return e4m3(np.where(inexact, (toward_zero.view(np.uint32) | 1).view(np.float32), near).astype(np.float32))


def bfloat16(x: np.ndarray, flaw: str = "") -> np.ndarray:
    """float32 -> bfloat16 by one addition to the bits."""
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    added = {"adds one half always": np.uint32(0x8000), "truncates": np.uint32(0)}.get(flaw, np.uint32(0x7FFF) + (u >> 16 & 1))
    code = ((u + added) >> 16).astype(np.uint16)
    if flaw != "NaN becomes infinity":
        code = np.where(np.isnan(x), u >> 16 | 0x40, code).astype(np.uint16)
    if flaw == "flushes float32 subnormals":
        code = np.where((u & 0x7F800000) == 0, u >> 16 & 0x8000, code).astype(np.uint16)
    return code


def int8(x: np.ndarray, flaw: str = "") -> np.ndarray:
    """float32 -> int8 codes, saturating."""
    rounded = np.rint(x.astype(np.float64))
    if flaw == "adds one half and floors":
        rounded = np.floor(x.astype(np.float64) + 0.5)
    if flaw == "rounds half away as roundf":
        rounded = np.trunc(x.astype(np.float64) + np.copysign(0.5, x))
    if flaw == "wraps around":
        return np.fmod(np.nan_to_num(rounded, posinf=0, neginf=0), 256).astype(np.int64).astype(np.uint8)
    low = -127 if flaw == "never gives -128" else -128
    return np.clip(rounded, low, 127).astype(np.int8).view(np.uint8)


def nf4(x: np.ndarray, flaw: str = "") -> np.ndarray:
    """float32 -> NF4 codes by comparison with the midpoints."""
    values = lpref.format("nf4").decode(np.arange(16))
    middle = (values[1:] + values[:-1]) / 2
    if flaw == "midpoints in bfloat16":
        middle = lpref.format("bfloat16").round(middle)
    side = "right" if flaw == "takes the upper value on ties" else "left"
    if flaw == "picks the value below":
        middle = values[1:]
    return np.searchsorted(middle, x.astype(np.float64), side).astype(np.uint8)


SATURATE, NONSAT = {"format": "e4m3"}, {"format": "e4m3", "overflow": "ocp_nonsat"}
SUBJECTS: dict[str, tuple[Callable[..., np.ndarray], dict, tuple[str, ...]]] = {
    "E4M3, saturating": (e4m3, SATURATE, (
        "ties away", "ties toward zero", "ties to odd", "truncates", "rounds toward plus infinity", "loses the sticky bits",
        "drops the carry into the exponent", "subnormals round at the bit of normals", "flushes subnormals", "flushes the smallest subnormal",
        "bias off by one", "largest exponent off by one", "saturates at 416", "overflow becomes NaN", "infinity becomes NaN",
        "infinity becomes zero", "NaN becomes zero", "NaN becomes the largest value", "loses the sign of zero", "loses the sign",
        "one wrong entry in its table", "rounds to bfloat16 first", "rounds to binary16 first",
    )),
    "E4M3, not saturating": (lambda x, flaw="": e4m3(x, flaw, NAN), NONSAT, (
        "clamps before rounding", "overflows above the largest value", "largest exponent off by one",
    )),
    "E4M3 from float64": (through_odd, {**SATURATE, "dtype": np.float64}, ("rounds to float32 first",)),
    "bfloat16": (bfloat16, {"format": "bfloat16", "overflow": "to_infinity"}, (
        "adds one half always", "truncates", "NaN becomes infinity", "flushes float32 subnormals",
    )),
    "int8": (int8, {"format": "int8"}, ("adds one half and floors", "rounds half away as roundf", "wraps around", "never gives -128")),
    "NF4": (nf4, {"format": "nf4"}, ("midpoints in bfloat16", "takes the upper value on ties", "picks the value below")),
}  # fmt: skip


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_right_implementation_passes(subject: str) -> None:
    cast, against, _ = SUBJECTS[subject]
    assert accepted(cast, **against).cases > 50_000


@pytest.mark.parametrize(("subject", "flaw"), pairs(SUBJECTS))
def test_the_mistake_is_caught(subject: str, flaw: str) -> None:
    cast, against, _ = SUBJECTS[subject]
    caught(lambda x: cast(x, flaw), "the definition gives 0x", **against)

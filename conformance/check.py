"""Assertions that explain themselves: what was expected, what came, where, in bits and decimal.

All raise `Mismatch` (an AssertionError) naming the smallest |x| that fails. NaN compares as a class unless said
otherwise; −0 ≠ +0 in formats that have both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lpref.ref.errors import LprefError
from lpref.ref.formats import Format
from lpref.ref.formats import format as format_of


class Mismatch(LprefError, AssertionError):
    """A law that does not hold; `index` is the place, `x` the input (None where there is none)."""

    def __init__(self, message: str, *, index: tuple[int, ...], x: Any = None) -> None:
        self.index, self.x = index, x
        super().__init__(message, where=f"element {', '.join(map(str, index))}")


def show_code(f: Format, code: Any) -> str:
    """A code as bits, hexadecimal and value.

    >>> show_code(format_of("e4m3"), 0x7E)
    '0x7e = 0b0_1111_110 = 448.0'
    """
    code = int(code)
    text = f"{code:0{f.bits}b}"
    e = getattr(f, "exponent_bits", 0)
    if e:
        sign = f.bits - e - getattr(f, "trailing_bits", 0)
        text = "_".join(part for part in (text[:sign], text[sign : sign + e], text[sign + e :]) if part)
    value = float(f.decode(np.uint64(code))) if code < 2**f.bits else None
    shown = "not a code" if value is None else repr(value)
    return f"0x{code:0{-(-f.bits // 4)}x} = 0b{text} = {shown}"


def show_input(x: Any) -> str:
    """A float as decimal, hexadecimal float and bits.

    >>> show_input(np.float32(464))
    '464.0 (0x1.d000000000000p+8, bits 0x43e80000)'
    """
    x = np.asarray(x)
    unsigned = np.dtype(f"uint{8 * x.dtype.itemsize}")
    return f"{float(x)!r} ({float(x).hex()}, bits 0x{int(x.view(unsigned)):0{2 * x.dtype.itemsize}x})"


def first(bad: np.ndarray, x: np.ndarray | None) -> tuple[int, ...]:
    """The place of the failure with the smallest |x| (NaN last), or of the first one."""
    places = np.flatnonzero(bad)
    if x is not None:
        with np.errstate(invalid="ignore"):  # signalling NaNs
            size = np.abs(np.asarray(x, np.float64).reshape(-1)[places])
        places = places[np.argsort(np.where(np.isnan(size), np.inf, size), kind="stable")]
    return tuple(int(i) for i in np.unravel_index(places[0], bad.shape))


def same_shape(name: str, actual: np.ndarray, expected: np.ndarray) -> None:
    """Mismatch unless the shapes are equal."""
    if actual.shape != expected.shape:
        raise Mismatch(f"{name}: shape {actual.shape}, expected {expected.shape}", index=())


def differing_codes(
    actual: np.ndarray, expected: np.ndarray, f: Format | None, canonical_nan: bool = False
) -> np.ndarray:
    """Where codes differ; two codes that both mean NaN are equal unless `canonical_nan`."""
    bad = actual.astype(np.int64) != expected.astype(np.int64)
    if f is not None and not canonical_nan and bad.any():
        valid = actual.astype(np.int64) < 2**f.bits
        a = f.decode(np.where(valid, actual, 0))
        bad &= ~(valid & np.isnan(a) & np.isnan(f.decode(expected)))
    return bad


def check_codes_equal(
    actual: Any, expected: Any, *, format: Any = None, x: Any = None, canonical_nan: bool = False
) -> None:
    """Equal codes. `format` lets NaN codes compare as a class and shows values; `x`, the inputs, are shown too.

    >>> check_codes_equal(np.uint8([1, 9]), np.uint8([1, 8]), format="e4m3")
    Traceback (most recent call last):
    ...
    lpref.conformance.check.Mismatch: element 1: got 0x09 = 0b0_0001_001 = 0.017578125, expected 0x08 = 0b0_0001_000 = 0.015625
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    f = None if format is None else format_of(format)
    same_shape("codes", actual, expected)
    bad = differing_codes(actual, expected, f, canonical_nan)
    if bad.any():
        at = first(bad, x)
        show = (lambda c: hex(int(c))) if f is None else (lambda c: show_code(f, c))
        of = "" if x is None else f"x = {show_input(np.asarray(x)[at])}: "
        raise Mismatch(f"{of}got {show(actual[at])}, expected {show(expected[at])}", index=at,
                       x=None if x is None else np.asarray(x)[at])  # fmt: skip


def differing_values(actual: np.ndarray, expected: np.ndarray, signed_zero: bool) -> np.ndarray:
    """Where values differ; NaN equals NaN; −0 differs from +0 if `signed_zero`."""
    bad = (actual != expected) & ~(np.isnan(actual) & np.isnan(expected))
    return (
        bad | ((actual == 0) & (expected == 0) & (np.signbit(actual) != np.signbit(expected))) if signed_zero else bad
    )


def check_values_equal(actual: Any, expected: Any, *, x: Any = None, signed_zero: bool = True) -> None:
    """Equal values, NaN as a class."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    same_shape("values", actual, expected)
    bad = differing_values(actual, expected, signed_zero)
    if bad.any():
        at = first(bad, x)
        of = "" if x is None else f"x = {show_input(np.asarray(x)[at])}: "
        raise Mismatch(f"{of}got {float(actual[at])!r}, expected {float(expected[at])!r}", index=at)


def check_is_neighbour(y: Any, x: Any, format: Any) -> None:
    """Each finite x inside the range became one of the two values around it (x itself where it is a value).

    Holds for every rounding. Outside the range y must be the nearest end, an infinity of that sign, or NaN.

    >>> check_is_neighbour(np.float32([0.75]), np.float32([1.25]), "e2m1")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    lpref.conformance.check.Mismatch: element 0: x = 1.25 (...) became 0.75, its neighbours are 1.0 and 1.5
    """
    f = format_of(format)
    values = f.table()[0]
    x, y = np.asarray(x), np.asarray(y, np.float64)
    same_shape("values", y, x)
    exact = x.astype(np.float64)
    clipped = np.clip(np.where(np.isnan(exact), 0.0, exact), values[0], values[-1])
    lower = values[np.searchsorted(values, clipped, "right") - 1]
    upper = values[np.searchsorted(values, clipped, "left")]
    good = (y == lower) | (y == upper)
    outside = clipped != exact
    good |= outside & (np.isnan(y) | (np.isinf(y) & (np.signbit(y) == np.signbit(exact))))
    bad = ~good & ~np.isnan(exact)
    if bad.any():
        at = first(bad, x)
        between = f"{float(lower[at])!r} and {float(upper[at])!r}"
        raise Mismatch(
            f"x = {show_input(x[at])} became {float(y[at])!r}, its neighbours are {between}", index=at, x=x[at]
        )


def check_idempotent(fn: Callable[[np.ndarray], Any], x: Any) -> None:
    """fn(fn(x)) = fn(x), for fn giving values."""
    x = np.asarray(x)
    once = np.asarray(fn(x), np.float64).astype(x.dtype)
    twice = np.asarray(fn(once), np.float64)
    bad = differing_values(twice, once.astype(np.float64), signed_zero=True)
    if bad.any():
        at = first(bad, x)
        raise Mismatch(
            f"x = {show_input(x[at])} became {float(once[at])!r}, which became {float(twice[at])!r}", index=at, x=x[at]
        )


def check_monotone(fn: Callable[[np.ndarray], Any], x: Any) -> None:
    """x ≤ x' implies fn(x) ≤ fn(x'), for fn giving values; NaN are left out on both sides."""
    x = np.asarray(x).reshape(-1)
    x = np.sort(x[~np.isnan(x)])
    y = np.asarray(fn(x), np.float64)
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    bad = y[1:] < y[:-1]
    if bad.any():
        (i,) = first(bad, x[1:])
        raise Mismatch(
            f"{show_input(x[i])} became {float(y[i])!r}, but {show_input(x[i + 1])} became {float(y[i + 1])!r}",
            index=(i,), x=x[i],
        )  # fmt: skip

"""What an accelerated function promises about the definition that it implements (D3, N8).

    Bits    equal bits; NaN is compared as a class
    Law     a stated property of input and output
    Bound   a proved bound on the difference, with its theorem

``contract.mismatch(expected, actual, args, kwargs)`` is None where the promise holds, else one line that shows the first
place where it does not. Outputs are arrays, numbers, tuples, lists, dicts, dataclasses, or GEMM operands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np


class Contract(Protocol):
    """Bits, Law or Bound."""

    def mismatch(self, expected: Any, actual: Any, args: tuple, kwargs: Mapping[str, Any]) -> str | None: ...


@dataclasses.dataclass(frozen=True)
class Bits:
    """Equal shape, dtype and bits. Any NaN equals any NaN; −0 differs from +0.

    >>> Bits().mismatch(np.float32([0.0]), np.float32([-0.0]), (), {})
    'output[0]: expected 0x0p+0 = 0.0, got -0x0p+0 = -0.0 (1 of 1 differ)'
    """

    def mismatch(self, expected: Any, actual: Any, args: tuple, kwargs: Mapping[str, Any]) -> str | None:
        for place, want, got in pairs("output", expected, actual):
            problem = _bits_differ(place, want, got)
            if problem:
                return problem
        return None


@dataclasses.dataclass(frozen=True)
class Law:
    """`text` states a property; `holds(expected, actual, args, kwargs)` checks it."""

    text: str
    holds: Callable[[Any, Any, tuple, Mapping[str, Any]], bool]

    def mismatch(self, expected: Any, actual: Any, args: tuple, kwargs: Mapping[str, Any]) -> str | None:
        return None if self.holds(expected, actual, args, kwargs) else f"law broken: {self.text}"


@dataclasses.dataclass(frozen=True)
class Bound:
    """|actual − expected| ≤ `bound(expected, *args, **kwargs)`, element by element (same structure as the output, float64).

    `theorem` says where the bound comes from. Where the bound or the expected value is not finite nothing is promised.
    `restate(expected, actual, *args, **kwargs)` says the definition's output in the kernel's terms, where a forward keeps another thing for its
    backward than the definition does; the bound is given what it says.
    """

    theorem: str
    bound: Callable[..., Any]
    restate: Callable[..., Any] | None = None

    def mismatch(self, expected: Any, actual: Any, args: tuple, kwargs: Mapping[str, Any]) -> str | None:
        if self.restate is not None:
            expected = self.restate(expected, actual, *args, **kwargs)
        allowed = self.bound(expected, *args, **kwargs)
        for (place, want, got), (_, limit, _) in zip(pairs("output", expected, actual), pairs("bound", allowed, allowed), strict=True):
            want, got, limit = (np.asarray(a, np.float64) for a in (want, got, limit))
            if want.shape != got.shape:
                return f"{place}: shape {got.shape}, expected {want.shape}"
            checked = np.isfinite(limit) & np.isfinite(want)
            with np.errstate(invalid="ignore"):
                bad = checked & ~(np.abs(got - want) <= limit)
            if bad.any():
                at = tuple(int(i) for i in np.argwhere(bad)[0])
                return (f"{place}{list(at)}: expected {want[at]!r}, got {got[at]!r}, off by {abs(got[at] - want[at]):.3g}, "
                        f"bound {limit[at]:.3g} ({int(bad.sum())} of {bad.size} outside; {self.theorem})")  # fmt: skip
        return None


def pairs(place: str, expected: Any, actual: Any) -> Iterator[tuple[str, Any, Any]]:
    """Leaves of two outputs side by side. Operands of different classes (a backend's own) are compared by their values."""
    if hasattr(expected, "dequantize") and type(expected) is not type(actual):
        yield f"{place}.dequantize()", expected.dequantize(), actual.dequantize()
    elif dataclasses.is_dataclass(expected) and not isinstance(expected, type):
        for field in dataclasses.fields(expected):
            if field.compare:
                yield from pairs(f"{place}.{field.name}", getattr(expected, field.name), getattr(actual, field.name, None))
    elif isinstance(expected, Mapping):
        for key in expected:
            yield from pairs(f"{place}[{key!r}]", expected[key], actual.get(key))
    elif isinstance(expected, (tuple, list)):
        if not isinstance(actual, (tuple, list)) or len(actual) != len(expected):
            yield place, expected, actual
            return
        for i, (want, got) in enumerate(zip(expected, actual, strict=True)):
            yield from pairs(f"{place}.{i}", want, got)
    else:
        yield place, expected, actual


def _bits_differ(place: str, want: Any, got: Any) -> str | None:
    if not isinstance(want, (np.ndarray, np.generic, float, int, bool)) or got is None:
        return None if want == got else f"{place}: expected {want!r}, got {got!r}"
    want, got = np.asarray(want), np.asarray(got)
    if want.shape != got.shape or want.dtype != got.dtype:
        return f"{place}: {got.dtype}{list(got.shape)}, expected {want.dtype}{list(want.shape)}"
    differ = want != got
    if want.dtype.kind == "f":
        both_nan = np.isnan(want) & np.isnan(got)
        differ = (differ | (np.signbit(want) != np.signbit(got))) & ~both_nan
    if not differ.any():
        return None
    at = tuple(int(i) for i in np.argwhere(differ)[0]) if differ.ndim else ()
    return f"{place}{list(at) if at else ''}: expected {_show(want[at])}, got {_show(got[at])} ({int(differ.sum())} of {differ.size} differ)"


def _show(value: Any) -> str:
    if value.dtype.kind != "f":
        return f"{value:#x}" if value.dtype.kind == "u" else str(value)
    number = float(value)
    return f"{number.hex().replace('0x0.0p+0', '0x0p+0')} = {number!r}"

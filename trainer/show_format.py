"""The page of a format: figures, bit layout, values, number lines, error profile, and the neighbours of a given number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from itertools import groupby
from typing import Any

import numpy as np

from lpref.conformance.check import show_code
from lpref.ref.errors import LprefError, SpecError
from lpref.ref.formats import Format
from lpref.ref.formats.portrait import Binade, error_profile, layout, neighbours, number_line, octave_line
from lpref.ref.rounding import ROUNDINGS

FACTS = (
    "name", "title", "bits", "standard", "source_level", "revision", "max", "min", "min_normal", "min_subnormal", "precision", "emax", "emin",
    "signed", "has_nan", "has_inf", "nan_code", "tie", "midpoint", "exact",
)  # fmt: skip


def format_text(f: Format, prose: str, value: str | None) -> tuple[str, dict[str, Any]]:
    """(text, data) of the page; with a value only what concerns it.

    Raises: SpecError for a value that is no number; FormatError for a value and a format above 16 bits.
    """
    facts = {key: getattr(f, key) for key in FACTS}
    data: dict[str, Any] = {"kind": "format", **facts, "layout": layout(f)}
    if value is not None:
        found = value_data(f, number(value))
        return "\n".join([f"{f.name}: {f.title}", "", *value_lines(f, found)]), {**data, "value": found}
    lines = [f"{f.name}: {f.title}", ""]
    lines += [f"{key:14} {exact(v)}" for key, v in facts.items() if key not in ("name", "title") and v is not None]
    lines += ["", f"{'bits':14} {layout(f)}"]
    table = values_of(f) if f.bits <= 8 else []
    profile = error_profile(f) if f.bits <= 16 else ()
    if table:
        lines += ["", *value_table(table, f.bits)]
    if f.bits <= 8 and len(f.table()[0]) > 1:
        lines += ["", number_line(f), "", "positive values, every binade the same width:", octave_line(f)]
    if profile:
        lines += ["", "largest relative error of rounding to nearest", *profile_lines(profile)]
    lines += ["", prose] if prose else []
    return "\n".join(lines), {**data, "values": table, "error_profile": [asdict(b) for b in profile]}


def values_of(f: Format) -> list[dict[str, Any]]:
    """Every code and its value."""
    codes = np.arange(1 << f.bits, dtype=f.code_dtype)
    return [{"code": int(c), "value": float(v)} for c, v in zip(codes, f.decode(codes), strict=True)]


def exact(value: Any) -> str:
    """A fact as text; powers of two say so."""
    if isinstance(value, float) and math.isfinite(value) and value:
        power = math.log2(abs(value))
        return f"{value:.9g}" + (f" = {'-' if value < 0 else ''}2^{power:.0f}" if power == int(power) and abs(power) > 3 else "")
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def value_table(table: list[dict[str, Any]], bits: int) -> list[str]:
    """Codes and values in columns; for signed floats the upper half repeats the lower with the sign."""
    cells = [f"{entry['code']:0{-(-bits // 4)}x} {entry['value']:.6g}" for entry in table]
    width, columns = max(map(len, cells)) + 2, 8 if bits > 4 else 4
    rows = -(-len(cells) // columns)
    return ["".join(cells[i].ljust(width) for i in range(r, len(cells), rows)).rstrip() for r in range(rows)]


def profile_lines(profile: tuple[Binade, ...]) -> Iterator[str]:
    """Binades of equal figures together."""
    for (values, error), group in groupby(profile, lambda b: (b.values, f"{100 * b.max_relative_error:.3g} %")):
        binades = list(group)
        low, high = binades[0].exponent, binades[-1].exponent + 1
        yield f"  2^{low} .. 2^{high}".ljust(22) + f"{values} value{'s' if values != 1 else ''} a binade".ljust(24) + error


def number(text: str) -> float:
    """A float64 from decimal, hexadecimal (0x1.8p+3) or fraction (1/3) text, or inf and nan.

    >>> number("2.5"), number("0x1.8p+1"), number("7/2")
    (2.5, 3.0, 3.5)
    """
    hexadecimal = (float.fromhex,) if "0x" in text.lower() else ()  # it would take "abc" for 2748
    for read in (float, *hexadecimal, lambda t: float(Fraction(t))):
        try:
            return read(text)
        except (ValueError, ZeroDivisionError, OverflowError):
            continue
    raise SpecError([f"value: {text!r} is no number"], where="show", remedy="write 2.5, 0x1.4p+1 or 5/2")


def value_data(f: Format, x: float) -> dict[str, Any]:
    """Neighbours of x, and what every deterministic rounding makes of it under saturation."""
    found = neighbours(f, x)
    rounded: dict[str, Any] = {}
    for name, rule in ROUNDINGS.items():
        if rule.stochastic:
            continue
        try:
            code = int(f.encode(x, name))
        except LprefError as error:
            rounded[name] = {"error": str(error)}
            continue
        value = float(f.decode(np.uint64(code)))
        relative = (value - x) / abs(x) if x and math.isfinite(x) else None
        rounded[name] = {"code": code, "value": value, "relative_error": relative}
    return {**found, "x_hex": x.hex(), "roundings": rounded}


def value_lines(f: Format, found: dict[str, Any]) -> Iterator[str]:
    """The neighbours and the roundings as text."""
    yield f"{'x':14} {found['x']!r} ({found['x_hex']})"
    absent = "none: x is no number" if math.isnan(found["x"]) else "none: x is outside the range"
    for side in ("lower", "upper"):
        point = found[side]
        yield f"{side:14} {show_code(f, point['code']) if point else absent}"
    if found["nu"] is not None:
        yield f"{'nu':14} {found['nu']:.9g}" + ("" if found["nu"] else ": x is a value")
    yield ""
    for name, result in found["roundings"].items():
        if "error" in result:
            yield f"{name:20} {result['error']}"
            continue
        error = result["relative_error"]
        yield f"{name:20} {show_code(f, result['code'])}" + (f", relative error {error:+.3g}" if error is not None else "")

r"""What a format looks like: bit layout, number line, neighbours of a value, error of rounding to nearest, and the notebook's page.

The largest relative error of rounding x to nearest, over a binade $2^e \le x < 2^{e+1}$, is found between each two neighbours a < b at the
point m where the cast changes over (the midpoint of the format, whatever it is): (x - a)/x grows up to m, (b - x)/x falls from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.ref.errors import FormatError
from lpref.ref.formats.base import Format

LAYOUTS = {  # page of the format -> fields of a code, where they are not fixed widths
    "posit": "s regime exponent({es}) fraction: a run of equal bits and its end, then what is left",
    "takum": "s d rrr characteristic(r) mantissa: what is left after the characteristic",
    "hif8": "s dot exponent mantissa: a prefix code of 2 to 4 bits says how many exponent bits follow",
    "lns": "s, then the logarithm in fixed point",
}
FACTS = ("bits", "max", "min", "min_normal", "min_subnormal", "precision", "has_inf", "has_nan", "tie", "midpoint", "revision")


@dataclass(frozen=True)
class Binade:
    """2^exponent <= x < 2^(exponent + 1), x at most the largest value: how many values, and the largest relative error to nearest."""

    exponent: int
    values: int
    max_relative_error: float


def layout(f: Format) -> str:
    """``s eeee mmm`` for floats, ``s iiiiiii`` for two's complement, a description for tapered formats, ``iiii`` for code books.

    >>> from lpref.ref.formats import format
    >>> layout(format("e4m3")), layout(format("uint4")), layout(format("posit8_1"))[:30]
    ('s eeee mmm', 'iiii', 's regime exponent(1) fraction:')
    """
    exponent, trailing = getattr(f, "exponent_bits", None), getattr(f, "trailing_bits", 0)
    if exponent is not None:
        return " ".join(part for part in ("s" if f.signed else "", "e" * exponent, "m" * trailing) if part)
    if hasattr(f, "is_signed") and f.signed:
        return "s " + "i" * (f.bits - 1) + " (two's complement)"
    page = f.module.rpartition(".")[2]
    return LAYOUTS[page].format(es=getattr(f, "es", "")) if page in LAYOUTS else "i" * f.bits


def neighbours(f: Format, x: float) -> dict[str, Any]:
    """Where x lies: {x, lower, upper, nu}, the values at or next below and above with their codes; None outside the range.

    >>> from lpref.ref.formats import format
    >>> neighbours(format("e2m1"), 2.5)
    {'x': 2.5, 'lower': {'value': 2.0, 'code': 4}, 'upper': {'value': 3.0, 'code': 5}, 'nu': 0.5}
    """
    values, codes = f.table()
    at, above = int(np.searchsorted(values, x, "right")) - 1, int(np.searchsorted(values, x, "left"))

    def point(i: int) -> dict[str, Any] | None:
        return {"value": float(values[i]), "code": int(codes[i])} if 0 <= i < len(values) and not np.isnan(x) else None

    lower, upper = point(at), point(above)
    between = lower is not None and upper is not None
    gap = float(values[above]) - float(values[at]) if between else 0.0
    nu = (x - float(values[at])) / gap if between and gap else 0.0 if between else None
    return {"x": x, "lower": lower, "upper": upper, "nu": nu}


def error_profile(f: Format) -> tuple[Binade, ...]:
    """One entry a binade, from the smallest positive value to the largest.

    >>> from lpref.ref.formats import format
    >>> [(b.exponent, b.values, round(b.max_relative_error, 4)) for b in error_profile(format("e2m1"))]
    [(-1, 1, 0.3333), (0, 2, 0.2), (1, 2, 0.2), (2, 2, 0.2)]

    Raises: FormatError above 16 bits.
    """
    if f.bits > 16:
        raise FormatError(f"an error profile needs the table of 2^{f.bits} values", where=f"{f.name}.error_profile")
    values = f.table()[0]
    values = values[values > 0]
    a, b = values[:-1], values[1:]
    m = _changes(f, a, b)
    exponents = np.frexp(values)[1].astype(np.int64) - 1
    first, last = (np.frexp(v)[1].astype(np.int64) - 1 for v in (a, np.nextafter(b, 0)))
    found = []
    for e in range(int(exponents[0]), int(exponents[-1]) + 1):
        on = (first <= e) & (last >= e)
        low, high = np.ldexp(1.0, e), np.ldexp(1.0, e + 1)
        lo, hi, here = np.maximum(a[on], low), np.minimum(b[on], high), m[on]
        up, down = np.maximum(here, lo), np.minimum(here, hi)
        errors = np.concatenate([(b[on] - up) / up * (up < high), (down - a[on]) / down * (down >= lo), [0.0]])
        found.append(Binade(e, int(np.count_nonzero(exponents == e)), float(np.max(errors))))
    return tuple(found)


def _changes(f: Format, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where rounding to nearest goes over from a to b."""
    if f.midpoint == "arithmetic":
        return a + (b - a) / 2
    low, high, code = a.copy(), b.copy(), f.encode(a)
    for _ in range(56):
        middle = low + (high - low) / 2
        up = f.encode(middle) != code
        low, high = np.where(up, low, middle), np.where(up, middle, high)
    return high


def number_line(f: Format, width: int = 96) -> str:
    """Where the finite values lie between the smallest and the largest, linearly; ``|`` several, ``'`` one."""
    values = np.asarray(f.table()[0])
    return _line((values - values[0]) / (values[-1] - values[0]), f"{values[0]:g}", f"{values[-1]:g}", width)


def octave_line(f: Format, width: int = 96) -> str:
    """The same for the positive values by magnitude: every binade takes the same room."""
    values = np.asarray(f.table()[0])
    values = values[values > 0]
    fraction, exponent = np.frexp(values)
    place = exponent + 2 * fraction - 2  # within a binade linearly
    span = max(float(place[-1] - place[0]), 1.0)
    return _line((place - place[0]) / span, f"{values[0]:g}", f"{values[-1]:g}", width)


def _line(places: np.ndarray, first: str, last: str, width: int) -> str:
    counts = np.bincount(np.rint(places * (width - 1)).astype(np.int64), minlength=width)
    return "".join(" '|"[min(int(n), 2)] for n in counts) + "\n" + first.ljust(width - len(last)) + last


def html(f: Format) -> str:
    """Facts, layout, and for small formats the number lines and every value; the notebook's page of a format."""
    facts = "".join(f"<tr><th>{k}</th><td>{getattr(f, k)!r}</td></tr>" for k in (*FACTS, "standard"))
    head = f"<table><caption><b>{f.name}</b>: {f.title}</caption>{facts}<tr><th>layout</th><td><code>{layout(f)}</code></td></tr></table>"
    if f.bits > 8:
        return head
    values = f.decode(np.arange(2**f.bits))
    cells = [f"<td><code>{c:0{-(-f.bits // 4)}x}</code> {v:.6g}</td>" for c, v in enumerate(values.tolist())]
    columns = min(8, len(cells))
    rows = "".join(f"<tr>{''.join(cells[i : i + columns])}</tr>" for i in range(0, len(cells), columns))
    return f"{head}{_svg(f)}<details><summary>{len(cells)} codes</summary><table>{rows}</table></details>"


def _svg(f: Format, width: int = 720) -> str:
    """The number line as a picture: one stroke a value."""
    values = np.asarray(f.table()[0])
    if len(values) < 2:
        return ""
    places = 10 + (values - values[0]) / (values[-1] - values[0]) * (width - 20)
    strokes = "".join(f'<line x1="{p:.1f}" x2="{p:.1f}" y1="4" y2="22"/>' for p in places.tolist())
    ends = f'<text x="4" y="38">{values[0]:g}</text><text x="{width - 4}" y="38" text-anchor="end">{values[-1]:g}</text>'
    size = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="42" font-size="12" fill="currentColor" stroke-width="1">'
    return f'{size}<g stroke="currentColor">{strokes}</g>{ends}</svg>'

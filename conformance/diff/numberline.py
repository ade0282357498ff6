"""A value in bits and decimal, and its place on the number line between the two nearest values of a format."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.ref.formats import Format

WIDTH = 40


def bits_of(x: Any) -> str:
    """The bits of a float, sign, exponent and significand apart.

    >>> bits_of(np.float32(1.5))
    '0_01111111_10000000000000000000000'
    """
    x = np.asarray(x)
    size = 8 * x.dtype.itemsize
    exponent = {"float16": 5, "bfloat16": 8, "float32": 8, "float64": 11}[x.dtype.name]
    text = f"{int(x.view(f'uint{size}')):0{size}b}"
    return f"{text[0]}_{text[1 : 1 + exponent]}_{text[1 + exponent :]}"


def around(x: float, f: Format) -> tuple[float, float]:
    """The values below and above x (the same twice where x is a value; infinite beyond the range)."""
    if x > f.max:
        return f.max, np.inf
    if x < f.min:
        return -np.inf, f.min
    v = np.float64(x)
    return float(f.decode(f.encode(v, "toward_negative"))), float(f.decode(f.encode(v, "toward_positive")))


def place(x: float, f: Format, got: float) -> str:
    """A picture: the neighbours of x, x itself (*), the midpoint (|).

    >>> from lpref.ref.formats import format
    >>> print(place(2.6, format("e2m1"), 3.0))
    2.0 +-----------------------*|---------------+ 3.0    x is 0.6 of the way
    """
    if np.isnan(x):
        return "not on the number line"
    low, high = around(x, f)
    if not (np.isfinite(low) and np.isfinite(high)):
        return f"beyond the largest value {f.max!r}" if x > 0 else f"beyond the smallest value {f.min!r}"
    if low == high:
        return f"a value: {low!r}"
    share = (x - low) / (high - low)
    line = ["-"] * WIDTH
    line[WIDTH // 2] = "|"
    at = min(int(share * WIDTH), WIDTH - 1)
    line[at if share != 0.5 else WIDTH // 2] = "*"
    told = f"{share:.4g}" if 1e-3 < abs(share - 0.5) else "0.5" if share == 0.5 else f"0.5 {'+' if share > 0.5 else '-'} {abs(share - 0.5):.3g}"
    return f"{low!r} +{''.join(line)}+ {high!r}    x is {told} of the way"

"""Formats given by rules other than ExMy: each written from its paper's sentence, in fractions, by code."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

from .table import F, Table, book

TENTHS = (0, 1, 2, 3, 4, 6, 8, 10)  # apot4_k2: {0, 1/2, 1/4, 1/16} + {0, 1/8}, times 8/5
AF4 = (
    "-1.0 -0.69441008 -0.51243739 -0.3736951 -0.25607552 -0.14982478 -0.04934812 0.0 0.04273164 0.12934483 0.21961274"
    " 0.31675666 0.42563882 0.55496234 0.72424863 1.0"
)


def mirrored(name: str, tie: str, half: list[Fraction]) -> Table:
    """Sign and magnitude: the second half of the codes is the first one negated, its zero is -0."""
    return book(name, tie, half + [-v for v in half], minus_zero=len(half))


def rounded_power(k: int, gamma: int) -> Fraction:
    """2^(-k / gamma) rounded to float64: the float whose cell, bounded by means of neighbours, holds it."""
    c = 2.0 ** (-k / gamma)
    for v in (c, math.nextafter(c, 0), math.nextafter(c, 2)):
        low, high = ((F(v) + F(math.nextafter(v, to))) / 2 for to in (0.0, 2.0))
        if low**gamma * 2**k < 1 < high**gamma * 2**k:
            return F(v)
    raise AssertionError(k)


def lns(name: str) -> Table:
    """lns{B}_g{gamma}[_zero]: x lies above the midpoint of k and k + 1 iff |x|^(2 gamma) > 2^-(2 k + 1)."""
    width, _, rest = name.removeprefix("lns").partition("_g")
    gamma, count = int(rest.removesuffix("_zero")), 2 ** (int(width) - 1)
    half = [rounded_power(k, gamma) for k in range(count)]
    if name.endswith("_zero"):
        half[-1] = F(0)
    t = book(name, "toward_zero", half + [-v for v in half], minus_zero=2 * count - 1 if half[-1] == 0 else None)

    def side(a: Fraction, near: int, far: int) -> int:
        k = min(near % count, far % count)
        left, right = a ** (2 * gamma) * 2 ** (2 * k + 1), 1
        return (left > right) - (left < right)

    t.side = side
    return t


def apot(name: str, numerators: list[int], largest: int) -> Table:
    """Magnitudes numerators / largest, ascending; the midpoints are those of the fractions, the values their float64s."""
    true = [F(n, largest) for n in numerators]
    t = mirrored(name, "even", [F(float(v)) for v in true])

    def side(a: Fraction, near: int, far: int) -> int:
        middle = (true[near % len(true)] + true[far % len(true)]) / 2
        return (a > middle) - (a < middle)

    t.side = side
    return t


def apot5_k2() -> Table:
    """{0, 2^-1, 2^-3, 2^-5} + {0, 2^-2, 2^-4, 2^-6}, in units of 2^-6."""
    sums = sorted(a + b for a, b in product((0, 32, 8, 2), (0, 16, 4, 1)))
    return apot("apot5_k2", sums, max(sums))


def floatsd8() -> Table:
    """Code s e e e r r r r: r ranks the magnitudes of 4 g1 + g2."""
    ranked = sorted({abs(4 * a + b) for a in (0, 1, 2, 4, -1, -2, -4) for b in (0, 1, 2, -1, -2)})
    assert len(ranked) == 16
    half = [ranked[c % 16] * F(2) ** (c // 16 - 9) for c in range(128)]
    t = mirrored("floatsd8", "away", half)
    smallest: dict[Fraction, int] = {}  # a value of many codes: the smallest stands for it
    for value, code in sorted(t.finite, key=lambda p: p[1]):
        smallest.setdefault(value, code)
    t.values = sorted(smallest.items())
    t.minus_zeros = {128 + 16 * e for e in range(8)}
    return t


def fixed(name: str) -> Table:
    """i / 2^F, with the integers next to both ends as virtual neighbours."""
    signed = name.startswith("f")
    width, fraction = (int(v) for v in name.lstrip("u").removeprefix("fixed").split("."))
    low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if signed else (0, 2**width - 1)
    unit = F(1, 2**fraction)
    values: list[tuple[Fraction, int | None]] = [(v * unit, v % 2**width) for v in range(low, high + 1)]
    codes: dict[int, Fraction | str] = {c: v for v, c in values if c is not None}
    values = [((low - 1) * unit, None), *values, ((high + 1) * unit, None)]
    return Table(name, "even", values, signed=signed, codes=codes)


def ternary() -> Table:
    t = book("ternary", "toward_zero", [F(-1), F(0), F(1)])
    t.codes[3], t.nan = "nan", 3
    return t


def make(name: str) -> Table | None:
    """The table of a format of this file, None for the others."""
    if name.startswith("lns"):
        return lns(name)
    if "fixed" in name:
        return fixed(name)
    simple = {
        "ternary": ternary,
        "binary": lambda: book("binary", "up", [F(1), F(-1)]),
        "midrise4": lambda: book("midrise4", "even", [F(15 - 2 * c) for c in range(16)]),
        "pot4": lambda: mirrored("pot4", "even", [F(0), *(F(1, 2**i) for i in range(6, -1, -1))]),
        "apot4_k2": lambda: apot("apot4_k2", list(TENTHS), 10),
        "apot5_k2": apot5_k2,
        "radix4_fp4": lambda: mirrored("radix4_fp4", "away", [F(0), *(F(4) ** e for e in range(-3, 4))]),
        "radix4_fp4_odd": lambda: mirrored("radix4_fp4_odd", "away", [F(0), *(2 * F(4) ** e for e in range(-3, 4))]),
        "floatsd8": floatsd8,
        "af4": lambda: book("af4", "down", [nearest_float32(F(v)) for v in AF4.split()]),
    }
    return simple[name]() if name in simple else None


def nearest_float32(v: Fraction) -> Fraction:
    """v rounded to 24 significant bits."""
    from .table import nearest_float32 as rounded

    return v if v in (-1, 0, 1) else rounded(v)

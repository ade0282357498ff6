"""Formats as lists of fractions: what every code means, straight from the tables of the standards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

F = Fraction
HALF = F(1, 2)

# name: (exponent bits, trailing bits, bias, signed, specials); the order of a code's fields is sign, exponent, trailing
FLOATS: dict[str, tuple[int, int, int, bool, str]] = {
    "float64": (11, 52, 1023, True, "ieee"),
    "float32": (8, 23, 127, True, "ieee"),
    "tf32": (8, 10, 127, True, "ieee"),
    "binary16": (5, 10, 15, True, "ieee"),
    "bfloat16": (8, 7, 127, True, "ieee"),
    "e5m2": (5, 2, 15, True, "ieee"),
    "e4m3": (4, 3, 7, True, "fn"),
    "e4m3_ieee": (4, 3, 7, True, "ieee"),
    "e3m4": (3, 4, 3, True, "ieee"),
    "e4m3fnuz": (4, 3, 8, True, "fnuz"),
    "e5m2fnuz": (5, 2, 16, True, "fnuz"),
    "e4m3b11fnuz": (4, 3, 11, True, "fnuz"),
    "ue4m3": (4, 3, 7, False, "fn"),
    "ue5m3": (5, 3, 15, False, "fn"),
    "e2m3": (2, 3, 1, True, "none"),
    "e3m2": (3, 2, 3, True, "none"),
    "e2m1": (2, 1, 1, True, "none"),
}
NF4 = (
    "-1 -.6961928009986877 -.5250730514526367 -.39491748809814453 -.28444138169288635 -.18477343022823334"
    " -.09105003625154495 0 .07958029955625534 .16093020141124725 .24611230194568634 .33791524171829224"
    " .44070982933044434 .5626170039176941 .7229568362236023 1"
)


@dataclass
class Table:
    """values: ascending (value, code), finite and distinct; `outside` marks virtual neighbours beyond the range."""

    name: str
    tie: str  # even | up | down | toward_zero | away
    values: list[tuple[Fraction, int | None]]
    nan: int | None = None
    inf: int | None = None
    minus_inf: int | None = None
    minus_zero: int | None = None
    signed: bool = True
    side: Callable[[Fraction, int, int], int] | None = None  # sign of |x| - midpoint of two codes, else arithmetic
    minus_zeros: set[int] = field(default_factory=set)  # where -0 has more than one code
    codes: dict[int, Fraction | str] = field(default_factory=dict)  # every code: a fraction, "nan", "inf" or "-inf"
    middles: list[Fraction] | None = None  # the midpoints that `side` compares with, where they are rational
    never_zero: bool = False  # what is nearer to zero than the smallest magnitude becomes that

    @cached_property
    def gap(self) -> tuple[tuple[Fraction, int | None], tuple[Fraction, int | None]] | None:
        """The two values around a missing zero."""
        return next(((a, b) for a, b in pairwise(self.values) if a[0] < 0 < b[0]), None)

    @cached_property
    def smallest(self) -> Fraction:
        """The smallest positive magnitude."""
        return min(abs(v) for v, _ in self.values if v)

    @cached_property
    def finite(self) -> list[tuple[Fraction, int]]:
        return [(v, c) for v, c in self.values if c is not None]


def magnitude(e_bits: int, m_bits: int, bias: int, specials: str, code: int) -> Fraction | str:
    """The value of an unsigned magnitude code of the ExMy family (subnormals, zero at code 0)."""
    e, m = divmod(code, 2**m_bits)
    if specials == "ieee" and e == 2**e_bits - 1:
        return "inf" if m == 0 else "nan"
    if specials == "fn" and code == 2 ** (e_bits + m_bits) - 1:
        return "nan"
    if e == 0:
        return F(m, 2**m_bits) * F(2) ** (1 - bias)
    return (1 + F(m, 2**m_bits)) * F(2) ** (e - bias)


def float_table(name: str, row: tuple[int, int, int, bool, str]) -> Table:
    """An ExMy format; row as in `FLOATS`."""
    e_bits, m_bits, bias, signed, specials = row
    size = 2 ** (e_bits + m_bits)
    codes: dict[int, Fraction | str] = {}
    for c in range(size):
        codes[c] = v = magnitude(e_bits, m_bits, bias, specials, c)
        if signed:
            codes[c + size] = ("-inf" if v == "inf" else v) if isinstance(v, str) else -v
    if specials == "fnuz":
        codes[size] = "nan"
    positive = [(v, c) for c, v in codes.items() if c < size and isinstance(v, Fraction)]
    top = positive[-1][0] + (positive[-1][0] - positive[-2][0])  # one more step: where overflow begins to round to
    positive.append((top, None))
    negative = [(-v, (c + size) if signed and c is not None else None) for v, c in positive[1:]]
    nan = {"ieee": size - 2**m_bits // 2, "fn": size - 1, "fnuz": size, "none": None}[specials]
    inf = size - 2**m_bits if specials == "ieee" else None
    return Table(
        name,
        "even",
        negative[::-1] + positive,
        nan=nan,
        inf=inf,
        minus_inf=inf + size if inf is not None and signed else None,
        minus_zero=size if signed and specials != "fnuz" else None,
        signed=signed,
        codes=codes,
    )


def integer_table(bits: int, signed: bool) -> Table:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    values: list[tuple[Fraction, int | None]] = [(F(v), v % 2**bits) for v in range(low, high + 1)]
    codes: dict[int, Fraction | str] = {c: v for v, c in values if c is not None}
    values = [(F(low - 1), None), *values, (F(high + 1), None)]
    return Table(f"{'' if signed else 'u'}int{bits}", "even", values, signed=signed, codes=codes)


def book(name: str, tie: str, by_code: list[Fraction], minus_zero: int | None = None) -> Table:
    codes: dict[int, Fraction | str] = dict(enumerate(by_code))
    values = sorted((v, c) for c, v in enumerate(by_code) if c != minus_zero)
    return Table(name, tie, list(values), signed=min(by_code) < 0, minus_zero=minus_zero, codes=codes)


def e8m0_table() -> Table:
    values: list[tuple[Fraction, int | None]] = [(F(2) ** (c - 127), c) for c in range(255)]
    codes: dict[int, Fraction | str] = {c: v for v, c in values if c is not None} | {255: "nan"}
    return Table("e8m0", "up", [*values, (F(2) ** 128, None)], nan=255, signed=False, codes=codes)


def nearest_float32(x: Fraction) -> Fraction:
    """x rounded to binary32, nearest even, normal range only."""
    e = 0
    while F(2) ** e > abs(x):
        e -= 1
    while F(2) ** (e + 1) <= abs(x):
        e += 1
    unit = F(2) ** (e - 23)
    return round(x / unit) * unit


def make(name: str) -> Table:
    """The table of a spine format of at most 16 bits."""
    if name in FLOATS:
        return float_table(name, FLOATS[name])
    if name == "e8m0":
        return e8m0_table()
    if name == "int1":
        return book("int1", "up", [F(1), F(-1)])
    if name.lstrip("u").startswith("int"):
        return integer_table(int(name.lstrip("u")[3:]), name.startswith("int"))
    if name == "nf4":
        return book("nf4", "down", [F(float(v)) for v in NF4.split()])
    if name == "bnb_fp4":
        half = [F(0), *(nearest_float32(F(n) / 12) for n in (F(1, 16), 8, 12, 4, 6, 2, 3))]
        return book("bnb_fp4", "toward_zero", half + [-v for v in half], minus_zero=8)
    if name.startswith("p3109_"):
        from .p3109 import binary

        return binary(name).table()
    if name == "hif8" or name.startswith(("posit", "takum")):
        from . import tapered

        return tapered.make(name)
    from .books import make as make_book

    found = make_book(name)
    if found is None:
        raise KeyError(name)
    return found

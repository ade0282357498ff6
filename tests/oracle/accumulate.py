"""One inner product at a time, in fractions: every accumulation model by its definition."""

from __future__ import annotations

from fractions import Fraction
from math import inf

F = Fraction
FORMATS = {"float32": (24, -126), "binary16": (11, -14), "bfloat16": (8, -126), "e6m9_ieee": (10, -30)}


def exponent(x: Fraction) -> int:
    """floor(log2 |x|), by comparison."""
    x, e = abs(x), 0
    while x >= 2:
        x, e = x / 2, e + 1
    while x < 1:
        x, e = x * 2, e - 1
    return e


def cut(x: Fraction, unit: Fraction) -> Fraction:
    """The multiple of `unit` next to x toward zero."""
    whole = abs(x) // unit
    return (whole if x >= 0 else -whole) * unit


def nearest(x: Fraction, name: str) -> Fraction:
    """x in the format, to nearest even; the range above is not looked at."""
    precision, emin = FORMATS[name]
    if x == 0:
        return x
    unit = F(2) ** (max(exponent(x), emin) - precision + 1)
    low = x // unit
    rest = x / unit - low
    return (low + (rest > F(1, 2) or (rest == F(1, 2) and low % 2 == 1))) * unit


def unit_step(c: Fraction, a: list[Fraction], b: list[Fraction], core: object, emins: tuple[int, int]) -> Fraction:
    """One step of a matrix unit, with the parameters of `TensorCore` (c aligned, no groups)."""
    products = [(x * y, max(exponent(x), emins[0]) + max(exponent(y), emins[1])) for x, y in zip(a, b, strict=True) if x * y]
    terms = products if core.late or c == 0 else [*products, (c, max(exponent(c), -126))]
    top = max([e for _, e in terms] + [core.clamp])
    s = sum((cut(p, F(2) ** (top - core.fraction)) for p, _ in terms), F(0))
    s = cut(s, F(2) ** (max(exponent(s), -126) - core.kept)) if s else s
    return nearest(s + c, "float32") if core.late else s


def unit_chain(a: list[Fraction], b: list[Fraction], core: object, emins: tuple[int, int]) -> float:
    c = F(0)
    for k in range(0, len(a), core.products):
        c = unit_step(c, a[k : k + core.products], b[k : k + core.products], core, emins)
        if abs(c) >= F(2) ** 128:
            return inf if c > 0 else -inf
    return float(c)


def sequential(a: list[Fraction], b: list[Fraction], name: str, product: str) -> Fraction:
    c = F(0)
    for x, y in zip(a, b, strict=True):
        c = nearest(c + _product(x, y, product), name)
    return c


def pairwise(a: list[Fraction], b: list[Fraction], name: str, product: str) -> Fraction:
    if len(a) <= 1:
        return nearest(_product(a[0], b[0], product), name) if a else F(0)
    half = len(a) // 2
    return nearest(pairwise(a[:half], b[:half], name, product) + pairwise(a[half:], b[half:], name, product), name)


def kahan(a: list[Fraction], b: list[Fraction], name: str, product: str) -> Fraction:
    s = r = F(0)
    for x, y in zip(a, b, strict=True):
        p = nearest(_product(x, y, product) - r, name)
        t = nearest(s + p, name)
        r = nearest(nearest(t - s, name) - p, name)
        s = t
    return s


def integer(a: list[int], b: list[int], bits: int, overflow: str) -> int:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    c = 0
    for x, y in zip(a, b, strict=True):
        c += x * y
        if overflow == "saturate":
            c = low if c < low else high if c > high else c
    return c if overflow == "saturate" else (c - low) % 2**bits + low


def _product(x: Fraction, y: Fraction, product: str) -> Fraction:
    return nearest(x * y, "float32") if product == "float32" else x * y

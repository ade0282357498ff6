"""posit, takum and HiFloat8 from their definitions: strings of bits, fractions, one code at a time."""

from __future__ import annotations

from fractions import Fraction

from .table import F, Table


def posit_string(string: str, es: int) -> Fraction:
    """The value of the bits behind the sign of a positive posit."""
    if "1" not in string:
        return F(0)
    run = len(string) - len(string.lstrip(string[0]))
    k = run - 1 if string[0] == "1" else -run
    tail = string[run + 1 :]  # the bit that ends the run is no part of it
    e = int(tail[:es].ljust(es, "0"), 2) if es else 0
    fraction = F(int(tail[es:], 2), 2 ** len(tail[es:])) if tail[es:] else F(0)
    return (1 + fraction) * F(2) ** (k * 2**es + e)


def takum_fields(string: str) -> tuple[int, Fraction]:
    """(c, m) of the bits behind the sign of a positive takum."""
    string = string.ljust(11, "0")
    upper, regime = string[0] == "1", int(string[1:4], 2)
    r = regime if upper else 7 - regime
    rest = string[4:]
    stored = int(rest[:r], 2) if r else 0
    mantissa = rest[r:]
    c = 2**r - 1 + stored if upper else -(2 ** (r + 1)) + 1 + stored
    return c, F(int(mantissa, 2), 2 ** len(mantissa)) if mantissa else F(0)


def takum_linear(string: str) -> Fraction:
    if "1" not in string:
        return F(0)
    c, m = takum_fields(string)
    return (1 + m) * F(2) ** c


def exponential(q: Fraction) -> Fraction:
    """e^q to 400 bits, |q| < 130: the series in fixed point."""
    if q < 0:
        return 1 / exponential(-q)
    one = 1 << 640
    total, term, k = 0, one, 0
    while term:
        total += term
        k += 1
        term = term * q.numerator // (q.denominator * k)
    return F(total, one)


def takum_logarithmic(string: str) -> Fraction:
    if "1" not in string:
        return F(0)
    c, m = takum_fields(string)
    return exponential((c + m) / 2)


def two_complement(name: str, bits: int, value: object) -> Table:
    """A format of signed codes whose midpoints are the strings one bit longer."""
    assert callable(value)
    codes: dict[int, Fraction | str] = {2 ** (bits - 1): "nan"}
    for c in range(2 ** (bits - 1)):
        v = value(format(c, f"0{bits - 1}b"))
        codes[c] = F(float(v)) if name == "takum8" else v  # its values are irrational
        if c:
            codes[2**bits - c] = -codes[c]  # type: ignore[operator]
    values = sorted((v, c) for c, v in codes.items() if isinstance(v, Fraction))
    between = {c: value(format(c, f"0{bits - 1}b") + "1") for c in range(2 ** (bits - 1) - 1)}  # by the code below

    def side(a: Fraction, near: int, far: int) -> int:
        """Sign of a - midpoint; `near` is the neighbour nearer to zero."""
        middle = between[near if near < 2 ** (bits - 1) else 2**bits - near]
        return (a > middle) - (a < middle)

    middles = sorted([*(-m for m in between.values()), *between.values()])
    return Table(name, "even", list(values), 2 ** (bits - 1), side=side, codes=codes, middles=middles, never_zero=True)


def hif8() -> Table:
    """Every normal number from its exponent, then the denormals."""
    positive: dict[Fraction, int] = {}
    for e in range(-15, 16):
        size = abs(e)
        dot, d = {0: ("0001", 0), 1: ("001", 1), 2: ("01", 2), 3: ("10", 3), 4: ("11", 4)}[size.bit_length()]
        exponent = ("1" if e < 0 else "0") + format(size, "b")[1:] if d else ""
        w = 7 - len(dot) - d
        for m in range(2**w):
            positive[F(2) ** e * (1 + F(m, 2**w))] = int(dot + exponent + format(m, f"0{w}b"), 2)
    for m in range(1, 8):
        positive[F(2) ** (m - 23)] = m
    top = max(positive)
    inf = positive.pop(top)
    codes: dict[int, Fraction | str] = {0: F(0), 0x80: "nan", inf: "inf", inf + 128: "-inf"}
    for v, c in positive.items():
        codes[c], codes[c + 128] = v, -v
    values: list[tuple[Fraction, int | None]] = sorted((v, c) for c, v in codes.items() if isinstance(v, Fraction))
    return Table("hif8", "away", [(-top, None), *values, (top, None)], 0x80, inf, inf + 128, codes=codes)


def make(name: str) -> Table:
    """hif8, posit{n}_{es}, takum{n}_linear, takum{n}."""
    if name == "hif8":
        return hif8()
    if name.startswith("posit"):
        bits, es = map(int, name[5:].split("_"))
        return two_complement(name, bits, lambda s: posit_string(s, es))
    bits = int(name[5:].removesuffix("_linear"))
    return two_complement(name, bits, takum_linear if name.endswith("linear") else takum_logarithmic)

"""Mistakes of formats that are no plain ExMy: LNS, radix-4 FP4, P3109 of one bit of precision and of finite domain, posits, HiFloat8."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from planted_mistakes import accepted, caught, pairs


def lns8(x: np.ndarray, flaw: str = "") -> np.ndarray:
    """float32 -> lns8_g8: k = round(-8 log2 |x|) between 0 and 127; zero becomes the smallest magnitude."""
    a = np.abs(x.astype(np.longdouble))
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = -8 * np.log2(a)
        if flaw == "logarithm in binary16":
            exact = -8 * np.log2(a.astype(np.float32)).astype(np.float16).astype(np.longdouble)
        k = np.rint(exact)
        if flaw == "rounds in value":
            low, high = 2.0 ** (-np.floor(exact) / 8), 2.0 ** (-np.ceil(exact) / 8)
            k = np.where(low - a <= a - high, np.floor(exact), np.ceil(exact))
        if flaw == "floors the logarithm":
            k = np.floor(exact)
        k = np.clip(k, 0, 126 if flaw == "keeps the last code for zero" else 127)
    k = np.where(a == 0, 0 if flaw == "zero becomes one" else 127, k).astype(np.int64)
    negative = np.signbit(x) if flaw == "keeps the sign of zero" else x < 0
    negative = np.where(a == 0, flaw == "keeps the sign of zero", True) & negative
    return (k | np.where(negative, 128, 0)).astype(np.uint8)


def radix4(x: np.ndarray, flaw: str = "") -> np.ndarray:
    """float32 -> radix-4 FP4, even phase: 4^floor(log4(1.6 |x|)), by comparison with 2.5 4^k."""
    grid = 4.0 ** np.arange(-3, 4)
    middles = np.concatenate([[grid[0] / 2], 2.5 * grid[:-1]])
    if flaw == "changes over in the middle of the logarithm":
        middles = np.concatenate([[grid[0] / 2], 2 * grid[:-1]])
    if flaw == "the formula goes on below the smallest":
        middles[0] = 2.5 * 4.0**-4
    side = "left" if flaw == "ties toward zero" else "right"
    code = np.searchsorted(middles, np.abs(x.astype(np.float64)), side)
    if flaw == "radix two":
        code = np.searchsorted(1.5 * 2.0 ** np.arange(-7, 0), np.abs(x.astype(np.float64)), side)
    return (code | np.where(np.signbit(x), 8, 0)).astype(np.uint8)


def p3109(x: np.ndarray, flaw: str = "", *, precision: int = 3, finite: bool = True) -> np.ndarray:
    """float32 -> Binary8p{P}s{f|e}, nearest, ties to the even code; beyond the range max (finite domain) or infinity."""
    last = 127 if finite else 126
    c = np.arange(last + 1)
    bias, one = 2 ** (7 - precision), 2 ** (precision - 1)
    if flaw == "the bias of IEEE formats":
        bias -= 1
    t, e = c % one, c // one
    values = np.where(e == 0, np.ldexp(t / one, 1 - bias), np.ldexp(1 + t / one, e - bias))
    values = np.append(values, 2 * values[-1] - values[-2] if precision > 1 else 2 * values[-1])
    a = np.minimum(np.abs(x.astype(np.float64)), 2 * values[-1])
    code = np.searchsorted(values, a, "right") - 1
    code = np.minimum(code, last)
    middle = (values[code] + values[code + 1]) / 2
    tie = {"ties to the lower code": False, "ties away": True}.get(flaw, code % 2 == 1)
    if flaw == "ties by the significand":
        tie = (t[code] % 2 == 1) if precision > 1 else False
    code = code + ((a > middle) | ((a == middle) & tie))
    sign = np.where(np.signbit(x), 128, 0)
    beyond = code > last
    code = np.where(beyond, {"overflow becomes NaN": 128}.get(flaw, last if finite else 127), code)
    code = np.where(beyond & (flaw == "overflow becomes NaN"), 128, code | sign)
    if flaw == "infinity becomes NaN":
        code = np.where(np.isinf(x), 128, code)
    if flaw != "has a minus zero":
        code = np.where((code == 128) & ~beyond & np.isfinite(x), 0, code)
    return np.where(np.isnan(x), 0 if flaw == "NaN becomes zero" else 128, code).astype(np.uint8)


def one_bit(x: np.ndarray, flaw: str = "") -> np.ndarray:
    """Binary8p1se."""
    return p3109(x, flaw, precision=1, finite=False)


def posit_value(magnitude: int, bits: int, es: int) -> float:
    """The value of the positive string `magnitude` of `bits` bits."""
    string = f"{magnitude:0{bits}b}"[1:]
    run = len(string) - len(string.lstrip(string[0]))
    k = run - 1 if string[0] == "1" else -run
    rest = string[run + 1 :]
    fraction = rest[es:]
    return (1 + int(fraction or "0", 2) / 2 ** len(fraction)) * 2.0 ** (k * 2**es + int(rest[:es].ljust(es, "0") or "0", 2))


def posit8(x: np.ndarray, flaw: str = "") -> np.ndarray:
    """float32 -> posit8_2 as the standard converts: the bit string goes on and is rounded, ties to even; never to 0 or NaR."""
    es = 1 if flaw == "one exponent bit" else 2
    values = np.array([0.0] + [posit_value(c, 8, es) for c in range(1, 128)])
    between = np.array([posit_value(2 * c + 1, 9, es) for c in range(127)])  # the string that ends in one more 1
    if flaw == "rounds in value":
        between = (values[1:] + values[:-1]) / 2
    a = np.abs(x.astype(np.float64))
    low = np.clip(np.searchsorted(values, a, "right") - 1, 0, 127)
    middle = np.append(between, np.inf)[low]
    tie = flaw == "ties away" or (low % 2 == 1)
    code = low + ((a > middle) | ((a == middle) & tie))
    code = np.minimum(code, 127)
    if flaw != "underflows to zero":
        code = np.where((a > 0) & (code == 0), 1, code)
    if flaw == "overflows to NaR":
        code = np.where(a > values[-1], 128, code)
    negative = (256 - code) % 256 if flaw != "sign and magnitude" else code | 128
    code = np.where(x < 0, negative, code)
    return np.where(np.isfinite(x), code, 127 if flaw == "NaR becomes the largest" else 128).astype(np.uint8)


def hif8_table() -> tuple[np.ndarray, np.ndarray]:
    """(values of the positive codes ascending, their codes)."""
    found = [(2.0 ** (m - 23), m) for m in range(1, 8)] + [(0.0, 0)]
    for prefix, length, d in ((0b11, 2, 4), (0b10, 2, 3), (0b01, 2, 2), (0b001, 3, 1), (0b0001, 4, 0)):
        w = 7 - length - d
        for field in range(2**d):
            e = (2 ** (d - 1) + field % 2 ** (d - 1)) * (-1 if field >> (d - 1) else 1) if d else 0
            found += [(2.0**e * (1 + m / 2**w), ((prefix << d | field) << w) | m) for m in range(2**w)]
    values, codes = zip(*sorted(v for v in found if v[1] != 0x6F), strict=True)
    return np.array(values), np.array(codes)


def hif8(x: np.ndarray, flaw: str = "") -> np.ndarray:
    """float32 -> HiFloat8, ties away from zero; from 40960 on infinity."""
    values, codes = hif8_table()
    if flaw == "exponent without the hidden one":
        codes = np.where(codes == 0x7E, 0x7F, np.where(codes == 0x7F, 0x7E, codes))
    middles = np.append((values[1:] + values[:-1]) / 2, 1.25 * 2.0**15)
    a = np.abs(x.astype(np.float64))
    index = np.searchsorted(middles, a, "left" if flaw == "ties toward zero" else "right")
    if flaw == "ties to even":
        tie = np.isin(a, middles)
        index = np.where(tie, np.searchsorted(middles, a, "left") + (codes[np.searchsorted(middles, a, "left") % 127] % 2), index)
    if flaw == "flushes denormals":
        index = np.where(index < 8, 0, index)
    code = np.append(codes, 0x6F)[np.minimum(index, len(codes))]
    if flaw == "saturates where it should overflow":
        code = np.where(code == 0x6F, 0x6E, code)
    code = np.where((x < 0) & ((code != 0) | (flaw == "has a minus zero")), code | 128, code)
    return np.where(np.isnan(x), 0x80, code).astype(np.uint8)


NONE = "p3109_sat_none"
SUBJECTS: dict[str, tuple[Callable[..., np.ndarray], dict, tuple[str, ...]]] = {
    "LNS": (lns8, {"format": "lns8_g8"}, (
        "rounds in value", "floors the logarithm", "logarithm in binary16", "keeps the last code for zero", "zero becomes one",
        "keeps the sign of zero",
    )),
    "radix-4 FP4": (radix4, {"format": "radix4_fp4"}, (
        "changes over in the middle of the logarithm", "the formula goes on below the smallest", "ties toward zero", "radix two",
    )),
    "Binary8p3sf": (p3109, {"format": "p3109_8p3sf", "overflow": NONE}, (
        "the bias of IEEE formats", "ties to the lower code", "ties away", "overflow becomes NaN", "infinity becomes NaN",
        "has a minus zero", "NaN becomes zero",
    )),
    "posit": (posit8, {"format": "posit8_2", "overflow": "posit"}, (
        "one exponent bit", "rounds in value", "ties away", "underflows to zero", "overflows to NaR", "sign and magnitude",
        "NaR becomes the largest",
    )),
    "HiFloat8": (hif8, {"format": "hif8", "overflow": "to_infinity"}, (
        "ties toward zero", "ties to even", "flushes denormals", "saturates where it should overflow", "exponent without the hidden one",
        "has a minus zero",
    )),
    "Binary8p1se": (one_bit, {"format": "p3109_8p1se", "overflow": NONE}, ("ties by the significand", "ties away", "has a minus zero")),
}  # fmt: skip


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_right_implementation_passes(subject: str) -> None:
    cast, against, _ = SUBJECTS[subject]
    accepted(cast, **against)


@pytest.mark.parametrize(("subject", "flaw"), pairs(SUBJECTS))
def test_the_mistake_is_caught(subject: str, flaw: str) -> None:
    cast, against, _ = SUBJECTS[subject]
    caught(lambda x: cast(x, flaw), "the definition gives 0x", **against)

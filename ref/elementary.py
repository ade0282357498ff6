r"""The elementary functions: fixed straight-line sequences of float64 + - x / sqrt, rounded once to float32.

float32 in -> float32 out: the float64 value rounded once, to nearest even (subnormals kept). float64 in -> float64
out, the same sequence without that rounding, with a relative error of at most 2^-43 (1.1e-13) inside the declared
range. No step is fused or reassociated and nothing is looked up: a port that keeps the order of operations has the
same bits. Choices are selections between computed values, so the sequences vectorise. Every polynomial is Horner's
rule, highest power first.

| function | reduction | polynomial |
|---|---|---|
| exp, exp2 | x = k log 2 + r, k = rint(x / log 2), \|r\| <= 0.347 | Taylor, degree 11: relative error 6.3e-15 |
| log, log2 | x = 2^e m, m in [sqrt(1/2), sqrt(2)); f = (m-1)/(m+1) | 2 f sum f^2n/(2n+1), n <= 9: 2.4e-17 |
| sin, cos | x = k pi/2 + r, k = rint(2 x / pi), three-part pi/2 | Taylor, degrees 15 and 14: 1e-15 |
| tanh | u = exp(2 \|x\|) - 1; u / (u + 2) | of exp without its 1 |
| erf | \|x\| <= 1: Taylor, degree 33; else z = min(\|x\|, 6), 1 - exp(-z^2) P((z - 5/2)/(z + 5/2)) | degree 13: 1.1e-15 |

float32 results are within one unit in the last place of the true value, and correctly rounded except where that value
lies within 1e-13 (relative) of a midpoint, less than one input in 10^5. NaN in gives NaN out (any NaN).
Source of the two- and three-part constants: FreeBSD msun, ``e_exp.c``, ``e_rem_pio2.c``; the polynomial P: minimax-
grade Chebyshev fit in 60-digit arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import FormatError

F64 = NDArray[np.float64]

MAGIC = 6755399441055744.0
"""1.5 x 2^52: (t + MAGIC) - MAGIC is rint(t) for |t| < 2^51, and the low bits of t + MAGIC are that integer."""
MAGIC_BITS = 0x4338000000000000
LOG2_E = 1.4426950408889634
LN2 = 0.6931471805599453
LN2_HIGH = 6.93147180369123816490e-01
"""log 2 to 33 bits: k * LN2_HIGH is exact for |k| < 2^20."""
LN2_LOW = 1.90821492927058770002e-10
TWO_OVER_PI = 0.6366197723675814
PIO2_1 = 1.57079632673412561417e00
"""The first 33 bits of pi/2; PIO2_2 the next 33, PIO2_3 the rest to 53 bits."""
PIO2_2 = 6.07710050630396597660e-11
PIO2_3 = 2.02226624879595063154e-21
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
"""The bits of fl64(sqrt(1/2)), the lower end of m."""

EXP = tuple(1.0 / math.factorial(n) for n in range(12))
"""exp(r) = sum r^n / n!."""
LOG = tuple(2.0 / (2 * n + 1) for n in range(10))
"""log((1+f)/(1-f)) = f sum 2 f^2n / (2n+1)."""
SIN = tuple((-1.0) ** n / math.factorial(2 * n + 1) for n in range(8))
"""sin(r) = r sum (-1)^n r^2n / (2n+1)!."""
COS = tuple((-1.0) ** n / math.factorial(2 * n) for n in range(8))
"""cos(r) = sum (-1)^n r^2n / (2n)!."""
TWO_OVER_SQRT_PI = 1.1283791670955126
ERF_SMALL = tuple((-1.0) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(17))
"""erf(x) = 2/sqrt(pi) x sum (-1)^n x^2n / (n! (2n+1))."""
ERF_LARGE = (
    0.2108063640611426,
    -0.37173673394896367,
    0.251713193218007,
    -0.12503305238060552,
    0.03992253902486248,
    -0.003993701073826426,
    -0.002642364228173744,
    0.0008759134194222215,
    0.00022835195229831807,
    -0.00012885536297896856,
    -3.394161989919106e-05,
    1.8500135323518246e-05,
    6.527899731555253e-06,
    -2.049661327165629e-06,
)
"""P(u) = exp(z^2) erfc(z) on z in [1, 6], u = (z - 5/2)/(z + 5/2)."""

EXP_MAX, EXP_MIN = 710.0, -746.0
"""Arguments are brought into this range first: exp overflows above, and is below half the least subnormal below."""
EXP2_MAX, EXP2_MIN = 1025.0, -1076.0
TRIG_MAX = 1048576.0
"""sin and cos are defined for |x| <= 2^20; beyond (and for infinities) they are NaN, never a wrong number."""
TANH_MAX = 22.0
"""tanh is 1 to float64 from here on."""
ERF_MAX = 6.0
"""erf is 1 to float64 from here on."""

_BLOCK = 8192
"""Elements worked on at a time, so that the intermediates stay in the cache; of no numerical effect."""


def horner(z: F64, coefficients: tuple[float, ...]) -> F64:
    """sum c[n] z^n, highest power first; one multiplication, then one addition, each rounded."""
    p = np.full_like(z, coefficients[-1])
    for c in coefficients[-2::-1]:
        p *= z
        p += c
    return p


def _power_of_two(k: NDArray[np.int64]) -> F64:
    """2^k from exponent bits, for k in [-1022, 1023]."""
    return ((k + 1023) << 52).view(np.float64)


def _scale(p: F64, k: NDArray[np.int64]) -> F64:
    """p 2^k as p 2^(k div 2) 2^(k - k div 2): one rounding, where the result is subnormal."""
    half = k >> 1
    return p * _power_of_two(half) * _power_of_two(k - half)


def _clamp(x: F64, low: float, high: float) -> F64:
    x = np.where(x > high, high, x)
    return np.where(x < low, low, x)


def _reduce_exp(x: F64) -> tuple[NDArray[np.int64], F64]:
    """k = rint(x / log 2) and r = x - k log 2."""
    t = x * LOG2_E + MAGIC
    k = t - MAGIC
    return t.view(np.int64) - MAGIC_BITS, (x - k * LN2_HIGH) - k * LN2_LOW


def _exp(x: F64) -> F64:
    k, r = _reduce_exp(_clamp(x, EXP_MIN, EXP_MAX))
    return _scale(horner(r, EXP), k)


def _exp2(x: F64) -> F64:
    x = _clamp(x, EXP2_MIN, EXP2_MAX)
    t = x + MAGIC
    return _scale(horner((x - (t - MAGIC)) * LN2, EXP), t.view(np.int64) - MAGIC_BITS)


def _split_log(x: F64) -> tuple[F64, F64]:
    """e and log(m) of x = 2^e m, m in [sqrt(1/2), sqrt(2)), for positive finite x."""
    small = x < 2.0**-1022
    bits = np.where(small, x * 2.0**54, x).view(np.int64)
    e = (bits - SQRT_HALF_BITS) >> 52
    m = (bits - (e << 52)).view(np.float64)
    f = (m - 1.0) / (m + 1.0)
    exponent = e.astype(np.float64) - np.where(small, 54.0, 0.0)
    return exponent, f * horner(f * f, LOG)


def _log_specials(x: F64, value: F64) -> F64:
    value = np.where(x > 0, value, np.nan)
    value = np.where(x == 0, -np.inf, value)
    return np.where(x == np.inf, x, value)


def _log(x: F64) -> F64:
    e, log_m = _split_log(x)
    return _log_specials(x, e * LN2_HIGH + (e * LN2_LOW + log_m))


def _log2(x: F64) -> F64:
    e, log_m = _split_log(x)
    return _log_specials(x, e + log_m * LOG2_E)


def _pow(x: F64, y: F64) -> F64:
    p = _exp(y * _log(np.abs(x)))
    p = np.where((y == 0) | (x == 1) | ((x == -1) & (np.abs(y) == np.inf)), 1.0, p)
    odd = (np.rint(y) == y) & (np.rint(y * 0.5) != y * 0.5)
    p = np.where(np.signbit(x) & odd, -p, p)
    return np.where((x < 0) & (x > -np.inf) & (np.rint(y) != y), np.nan, p)


def _trig(x: F64, quarter: int) -> F64:
    """sin(x + quarter pi/2)."""
    inside = np.abs(x) <= TRIG_MAX
    x = np.where(inside, x, 0.0)
    t = x * TWO_OVER_PI + MAGIC
    k = t - MAGIC
    q = t.view(np.int64) + quarter
    r = ((x - k * PIO2_1) - k * PIO2_2) - k * PIO2_3
    z = r * r
    value = np.where((q & 1) == 0, r * horner(z, SIN), horner(z, COS))
    value = np.where((q & 2) == 0, value, -value)
    return np.where(inside, value, np.nan)


def _sin(x: F64) -> F64:
    return np.where(x == 0, x, _trig(x, 0))


def _cos(x: F64) -> F64:
    return _trig(x, 1)


def _tanh(x: F64) -> F64:
    a = np.abs(x)
    k, r = _reduce_exp(2.0 * np.where(a > TANH_MAX, TANH_MAX, a))
    scale = _power_of_two(k)
    u = scale * (r * horner(r, EXP[1:])) + (scale - 1.0)
    return np.copysign(u / (u + 2.0), x)


def _sigmoid(x: F64) -> F64:
    e = _exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def _erf(x: F64) -> F64:
    a = np.abs(x)
    small = np.where(a <= 1.0, x, 0.0)
    near = small * (TWO_OVER_SQRT_PI * horner(small * small, ERF_SMALL))
    z = np.where(a > ERF_MAX, ERF_MAX, a)
    far = 1.0 - _exp(-(z * z)) * horner((z - 2.5) / (z + 2.5), ERF_LARGE)
    return np.where(a <= 1.0, near, np.copysign(far, x))


def _rsqrt(x: F64) -> F64:
    return 1.0 / np.sqrt(x)


def _blockwise(core: Callable[..., F64], x: Any, *others: Any) -> NDArray[Any]:
    """core over x in float64, block by block; the result has x's type."""
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        where = core.__name__.strip("_")
        raise FormatError(f"elementary functions take float32 or float64, not {x.dtype}", where=where)
    arrays = np.broadcast_arrays(x, *(np.asarray(o, np.float64) for o in others)) if others else [x]
    flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
    out = np.empty(flat[0].size, x.dtype)
    with np.errstate(all="ignore"):
        for start in range(0, out.size, _BLOCK):
            stop = start + _BLOCK
            out[start:stop] = core(*(a[start:stop].astype(np.float64) for a in flat))
    return out.reshape(arrays[0].shape)


def exp(x: Any) -> NDArray[Any]:
    """e^x. exp(-inf) = 0, exp(inf) = inf; overflows to inf above 88.7 (float32), 709.8 (float64); subnormals kept."""
    return _blockwise(_exp, x)


def exp2(x: Any) -> NDArray[Any]:
    """2^x, exact for integers. exp2(-inf) = 0, exp2(inf) = inf."""
    return _blockwise(_exp2, x)


def log(x: Any) -> NDArray[Any]:
    """The natural logarithm. log(+-0) = -inf, log(x < 0) = NaN, log(inf) = inf, log(1) = +0."""
    return _blockwise(_log, x)


def log2(x: Any) -> NDArray[Any]:
    """The logarithm to base 2, exact for powers of two; specials as `log`. Exponents are taken from bits, not from here."""
    return _blockwise(_log2, x)


def pow(x: Any, y: Any) -> NDArray[Any]:
    """x^y = exp(y log |x|) with the sign and the specials of IEEE 754-2019 9.2.1; y as float64, the result in x's type.

    The relative error grows with |y log x|: at most 2^-46 + 2^-51 |y log x|, so 2^-41 at the ends of float64.
    """
    return _blockwise(_pow, x, y)


def sin(x: Any) -> NDArray[Any]:
    """The sine of x radians for |x| <= 2^20; NaN beyond. sin(-0) = -0."""
    return _blockwise(_sin, x)


def cos(x: Any) -> NDArray[Any]:
    """The cosine of x radians for |x| <= 2^20; NaN beyond."""
    return _blockwise(_cos, x)


def tanh(x: Any) -> NDArray[Any]:
    """The hyperbolic tangent, odd to the bit. tanh(-0) = -0, tanh(+-inf) = +-1."""
    return _blockwise(_tanh, x)


def rsqrt(x: Any) -> NDArray[Any]:
    """1 / sqrt(x) in float64, rounded once. rsqrt(+-0) = +-inf, rsqrt(inf) = 0, rsqrt(x < 0) = NaN."""
    return _blockwise(_rsqrt, x)


def erf(x: Any) -> NDArray[Any]:
    """The error function, odd to the bit. erf(-0) = -0, erf(+-inf) = +-1."""
    return _blockwise(_erf, x)


def sigmoid(x: Any) -> NDArray[Any]:
    """1 / (1 + e^-x) without overflow: e^-|x| first. sigmoid(-inf) = 0, sigmoid(inf) = 1."""
    return _blockwise(_sigmoid, x)

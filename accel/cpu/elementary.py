"""The elementary functions in Numba: the sequences of `lpref.ref.elementary`, operation by operation, so with its bits.

`exp64`, `tanh64`, ... take and return float64 scalars and are inlined into the loops that call them, which LLVM then vectorises;
a float32 result is np.float32(f64(np.float64(x))). Bits are moved by integer views; nothing is fused (no fastmath).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lpref.ref import elementary as ref

_MAGIC, _MAGIC_BITS = ref.MAGIC, np.int64(ref.MAGIC_BITS)
_LOG2_E, _LN2, _LN2_HIGH, _LN2_LOW = ref.LOG2_E, ref.LN2, ref.LN2_HIGH, ref.LN2_LOW
_TWO_OVER_PI, _P1, _P2, _P3 = ref.TWO_OVER_PI, ref.PIO2_1, ref.PIO2_2, ref.PIO2_3
_SQRT_HALF = np.int64(ref.SQRT_HALF_BITS)
_E, _L, _S, _C = ref.EXP, ref.LOG, ref.SIN, ref.COS
_N, _F, _TWO_OVER_SQRT_PI = ref.ERF_SMALL, ref.ERF_LARGE, ref.TWO_OVER_SQRT_PI
_EXP_MAX, _EXP_MIN, _EXP2_MAX, _EXP2_MIN = ref.EXP_MAX, ref.EXP_MIN, ref.EXP2_MAX, ref.EXP2_MIN
_TRIG_MAX, _TANH_MAX, _ERF_MAX = ref.TRIG_MAX, ref.TANH_MAX, ref.ERF_MAX
_SIGN, _REST = np.int64(-(2**63)), np.int64(2**63 - 1)

inlined = njit(forceinline=True, error_model="numpy")


@inlined
def _bits(x: Any) -> Any:
    return np.float64(x).view(np.int64)


@inlined
def _float(bits: Any) -> Any:
    return np.int64(bits).view(np.float64)


@inlined
def _copysign(x: Any, s: Any) -> Any:
    return _float((_bits(x) & _REST) | (_bits(s) & _SIGN))


@inlined
def _scale(p: Any, k: Any) -> Any:
    half = k >> 1
    return p * _float((half + 1023) << 52) * _float((k - half + 1023) << 52)


@inlined
def _exp_tail(r: Any) -> Any:
    """sum r^(n-1) / n! for n = 1 .. 11."""
    p = _E[11] * r + _E[10]
    p = p * r + _E[9]
    p = p * r + _E[8]
    p = p * r + _E[7]
    p = p * r + _E[6]
    p = p * r + _E[5]
    p = p * r + _E[4]
    p = p * r + _E[3]
    p = p * r + _E[2]
    return p * r + _E[1]


@inlined
def exp64(x: Any) -> Any:
    """e^x."""
    x = _EXP_MAX if x > _EXP_MAX else x
    x = _EXP_MIN if x < _EXP_MIN else x
    t = x * _LOG2_E + _MAGIC
    k = t - _MAGIC
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    return _scale(_exp_tail(r) * r + _E[0], _bits(t) - _MAGIC_BITS)


@inlined
def exp2_64(x: Any) -> Any:
    """2^x."""
    x = _EXP2_MAX if x > _EXP2_MAX else x
    x = _EXP2_MIN if x < _EXP2_MIN else x
    t = x + _MAGIC
    r = (x - (t - _MAGIC)) * _LN2
    return _scale(_exp_tail(r) * r + _E[0], _bits(t) - _MAGIC_BITS)


@inlined
def _log_parts(x: Any) -> Any:
    """e and log(m) of x = 2^e m."""
    small = x < 2.0**-1022
    bits = _bits(x * 2.0**54 if small else x)
    e = (bits - _SQRT_HALF) >> 52
    m = _float(bits - (e << 52))
    f = (m - 1.0) / (m + 1.0)
    z = f * f
    p = _L[9] * z + _L[8]
    p = p * z + _L[7]
    p = p * z + _L[6]
    p = p * z + _L[5]
    p = p * z + _L[4]
    p = p * z + _L[3]
    p = p * z + _L[2]
    p = p * z + _L[1]
    p = p * z + _L[0]
    return np.float64(e) - (54.0 if small else 0.0), f * p


@inlined
def _log_specials(x: Any, value: Any) -> Any:
    value = value if x > 0 else np.nan
    value = -np.inf if x == 0 else value
    return x if x == np.inf else value


@inlined
def log64(x: Any) -> Any:
    """The natural logarithm."""
    e, log_m = _log_parts(x)
    return _log_specials(x, e * _LN2_HIGH + (e * _LN2_LOW + log_m))


@inlined
def log2_64(x: Any) -> Any:
    """The logarithm to base 2."""
    e, log_m = _log_parts(x)
    return _log_specials(x, e + log_m * _LOG2_E)


@inlined
def _rint(x: Any) -> Any:
    """np.rint: above 2^52 every value is an integer already."""
    return x if not abs(x) < 4503599627370496.0 else _copysign((abs(x) + 4503599627370496.0) - 4503599627370496.0, x)


@inlined
def pow64(x: Any, y: Any) -> Any:
    """x^y."""
    p = exp64(y * log64(abs(x)))
    p = 1.0 if (y == 0) | (x == 1) | ((x == -1) & (abs(y) == np.inf)) else p
    whole = _rint(y) == y
    odd = whole & (_rint(y * 0.5) != y * 0.5)
    p = -p if (_bits(x) < 0) & odd else p
    return np.nan if (x < 0) & (x > -np.inf) & (not whole) else p


@inlined
def _trig(x: Any, quarter: Any) -> Any:
    inside = abs(x) <= _TRIG_MAX
    x = x if inside else 0.0
    t = x * _TWO_OVER_PI + _MAGIC
    k = t - _MAGIC
    q = _bits(t) + quarter
    r = ((x - k * _P1) - k * _P2) - k * _P3
    z = r * r
    s = _S[7] * z + _S[6]
    s = s * z + _S[5]
    s = s * z + _S[4]
    s = s * z + _S[3]
    s = s * z + _S[2]
    s = s * z + _S[1]
    s = r * (s * z + _S[0])
    c = _C[7] * z + _C[6]
    c = c * z + _C[5]
    c = c * z + _C[4]
    c = c * z + _C[3]
    c = c * z + _C[2]
    c = c * z + _C[1]
    c = c * z + _C[0]
    value = s if (q & 1) == 0 else c
    value = value if (q & 2) == 0 else -value
    return value if inside else np.nan


@inlined
def sin64(x: Any) -> Any:
    """sin x, |x| <= 2^20."""
    value = _trig(x, np.int64(0))
    return x if x == 0 else value


@inlined
def cos64(x: Any) -> Any:
    """cos x, |x| <= 2^20."""
    return _trig(x, np.int64(1))


@inlined
def tanh64(x: Any) -> Any:
    """tanh x."""
    a = abs(x)
    a = 2.0 * (_TANH_MAX if a > _TANH_MAX else a)
    t = a * _LOG2_E + _MAGIC
    k = t - _MAGIC
    r = (a - k * _LN2_HIGH) - k * _LN2_LOW
    scale = _float((_bits(t) - _MAGIC_BITS + 1023) << 52)
    u = scale * (r * _exp_tail(r)) + (scale - 1.0)
    return _copysign(u / (u + 2.0), x)


@inlined
def sigmoid64(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    e = exp64(-abs(x))
    return (1.0 if x >= 0 else e) / (1.0 + e)


@inlined
def erf64(x: Any) -> Any:
    """erf x."""
    a = abs(x)
    small = x if a <= 1.0 else 0.0
    y = small * small
    n = _N[16] * y + _N[15]
    n = n * y + _N[14]
    n = n * y + _N[13]
    n = n * y + _N[12]
    n = n * y + _N[11]
    n = n * y + _N[10]
    n = n * y + _N[9]
    n = n * y + _N[8]
    n = n * y + _N[7]
    n = n * y + _N[6]
    n = n * y + _N[5]
    n = n * y + _N[4]
    n = n * y + _N[3]
    n = n * y + _N[2]
    n = n * y + _N[1]
    n = n * y + _N[0]
    near = small * (_TWO_OVER_SQRT_PI * n)
    z = _ERF_MAX if a > _ERF_MAX else a
    u = (z - 2.5) / (z + 2.5)
    f = _F[13] * u + _F[12]
    f = f * u + _F[11]
    f = f * u + _F[10]
    f = f * u + _F[9]
    f = f * u + _F[8]
    f = f * u + _F[7]
    f = f * u + _F[6]
    f = f * u + _F[5]
    f = f * u + _F[4]
    f = f * u + _F[3]
    f = f * u + _F[2]
    f = f * u + _F[1]
    f = f * u + _F[0]
    far = 1.0 - exp64(-(z * z)) * f
    return near if a <= 1.0 else _copysign(far, x)


@inlined
def rsqrt64(x: Any) -> Any:
    """1 / sqrt x."""
    return 1.0 / np.sqrt(x)

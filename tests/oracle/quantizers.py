"""Quantizers of blocks by definition over fractions, one block at a time: affine, block floating point, ternary, binary, two levels.

Written from the formulae of the papers and codes that the pages cite; nothing of `lpref.ref` is imported.
"""

from __future__ import annotations

from fractions import Fraction as F

from .scaling import FLT_MAX, cap, ceil_log2, divide32, fl32, floor_log2


def tree32(values: list[F], lanes: int = 1024) -> F:
    """The float32 sum: lane l takes elements l, l + 1024, ...; then halves of the lanes are added from the widest to the narrowest."""
    totals = [F(0)] * lanes
    for i, v in enumerate(values):
        totals[i % lanes] = _float(totals[i % lanes] + v)
    while len(totals) > 1:
        half = len(totals) // 2
        totals = [_float(totals[i] + totals[i + half]) if totals[i + half] else totals[i] for i in range(half)]
    return totals[0]


def _float(v: F) -> F:
    rounded = fl32(v)
    assert rounded is not None, "an overflow that the test should avoid"
    return rounded


def half_even(v: F) -> int:
    return round(v)  # Fraction's rounding takes ties to even


def affine(block: list[F], qmin: int, qmax: int) -> tuple[F, int, list[int]]:
    """(s, z, codes as integers in qmin .. qmax)."""
    low, high = min([F(0), *block]), max([F(0), *block])
    n = F(qmax - qmin)
    span = fl32(high - low)
    if span is None:
        s = _float(_float(high / n) - _float(low / n))
    else:
        s = _float(span / n)
        if s == 0:
            s = F(2) ** -149 if span else F(1)
    zero = min(max(qmin + half_even(cap(fl32(-low / s))), qmin), qmax)
    return s, zero, [min(max(half_even(cap_signed(divide32(v, s), v)) + zero, qmin), qmax) for v in block]


def cap_signed(v: F | None, sign: F) -> F:
    return v if v is not None else (-FLT_MAX if sign < 0 else FLT_MAX)


def block_floating_point(block: list[F], m: int, rule: str, eps: F = F(0)) -> tuple[F, list[int]]:
    """(interval, mantissas): exp = ceil(log2 a) or floor(log2 a) + 1, interval = 2^(exp - m), clamp to +-(2^m - 1)."""
    a = min(cap(fl32(max(abs(v) for v in block) + eps)), FLT_MAX)
    if a == 0:
        interval = F(2) ** -127
    else:
        e = ceil_log2(a) if rule == "ceil" else floor_log2(a) + 1
        interval = F(2) ** min(max(e - m, -127), 127)
    top = 2**m - 1
    return interval, [min(max(half_even(v / interval), -top), top) for v in block]


def down_convert(mantissas: list[int], bits: int) -> tuple[list[int], int]:
    """(integers of `bits` bits, shift): the least right shift after which the largest fits, ties to even."""
    shift = 0
    while max(abs(i) for i in mantissas) >> shift >= 2 ** (bits - 1):
        shift += 1
    top = 2 ** (bits - 1) - 1
    return [min(max(half_even(F(i, 2**shift)), -top), top) for i in mantissas], shift


def twn(block: list[F]) -> tuple[F, list[int]]:
    """(alpha, signs): Delta = 0.7 mean |w|, alpha the mean of what is beyond it."""
    mean = _float(tree32([abs(v) for v in block]) / len(block))
    delta = _float(_float(F(7, 10)) * mean)
    signs = [0 if abs(v) <= delta else -1 if v < 0 else 1 for v in block]
    count = sum(abs(t) for t in signs)
    if not count:
        return F(1), signs
    return _float(tree32([abs(v) if t else F(0) for v, t in zip(block, signs, strict=True)]) / count), signs


def binary(block: list[F]) -> tuple[F, list[int]]:
    """(alpha, signs): alpha = mean |w|, sgn(0) = +1."""
    return _float(tree32([abs(v) for v in block]) / len(block)), [-1 if v < 0 else 1 for v in block]


def four_over_six(block: list[F], amax: F, most: int, kind: str, e4m3: list[F], e2m1: list[F]) -> tuple[F, list[F]]:
    """(block scale, elements) of one 1 x 16 block after TransformerEngine; `e4m3` and `e2m1` are the non-negative values, ascending."""

    def nearest(values: list[F], v: F) -> F:
        """Ties to the even index, clamped to the largest."""
        return min(enumerate(values), key=lambda p: (abs(p[1] - min(v, values[-1])), p[0] % 2))[1]

    s = F(1) if amax == 0 else cap(fl32(6 * most / amax))
    base = fl32(_float(max(abs(v) for v in block) / 6) * s)
    found = []
    for factor in (F(1), F(3, 2)):
        d = nearest(e4m3, min(cap(None if base is None else fl32(base * factor)), F(448)))
        inverse = _float(1 / s)
        e = cap(divide32(F(1), _float(d * inverse)))
        q = [nearest(e2m1, min(cap(fl32(abs(v) * e)), F(6))) * (-1 if v < 0 else 1) for v in block]
        error = F(0)
        for value, v in zip(q, block, strict=True):
            diff = _float(_float(_float(_float(value * d) * amax) / (6 * most)) - v)
            error = _float(error + (abs(diff) if kind == "mae" else _float(diff * diff)))
        found.append((error, d, q))
    (error6, d6, q6), (error4, d4, q4) = found
    return (d4, q4) if error4 < error6 else (d6, q6)


def midmax(a: F, t: F) -> int:
    """The floor exponent, one more where the next power of two is as near to a / X as the largest element."""
    e = floor_log2(a) - floor_log2(t)
    ratio = a / F(2) ** e
    return max(-127, min(127, e + (2 * F(2) ** floor_log2(t) - ratio <= ratio - t)))


def truncation_free(a: F, t: F) -> int:
    """The least exponent with a / X <= t, the quotient a / t rounded to float32."""
    r = fl32(a / t)
    return -127 if not r else max(-127, min(127, ceil_log2(r)))


def autoflex(past: list[F], kappa: F, bits: int, alpha: F = F(2), beta: F = F(3), gamma: F = F(100)) -> F:
    """The next scale: chi = alpha (max + beta std + gamma kappa), its square root of the variance to 60 bits."""
    mean = sum(past, F(0)) / len(past)
    variance = sum(((v - mean) ** 2 for v in past), F(0)) / len(past)
    chi = alpha * (max(past) + beta * _square_root(variance) + gamma * kappa)
    return F(2) ** min(max(ceil_log2(chi) - bits + 1, -31), 0)


def _square_root(v: F) -> F:
    scale = 4**60
    low, high = 0, 1 + int(v * scale) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle * middle <= v * scale else (low, middle)
    return F(low, 2**60)


def complex_quartic(values: list[tuple[F, F]], eps: F) -> tuple[list[int], list[F]]:
    """(codes k of i^k, [s_r, s_i]): the quarter turn that holds the phase plus 45 degrees; the mean magnitude of the part that is kept."""
    codes = []
    for x, y in values:
        u, v = x - y, x + y  # z (1 + i)
        codes.append(0 if (u > 0 and v >= 0) or u == v == 0 else 1 if u <= 0 and v > 0 else 2 if u < 0 and v <= 0 else 3)
    scales = []
    for part in (0, 1):
        members = [k % 2 == part for k in codes]
        total = tree32([abs(v[part]) if m else F(0) for v, m in zip(values, members, strict=True)])
        scales.append(max(_float(total / max(sum(members), 1)), eps) or F(1))
    return codes, scales

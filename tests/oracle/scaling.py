"""Scale rules by definition, one block at a time, over `fractions.Fraction`; nothing of `lpref.ref` is imported."""

from __future__ import annotations

from fractions import Fraction as F

FLT_MAX = (2 - F(1, 2**23)) * F(2) ** 127
INF = None  # an infinite intermediate


def floor_log2(v: F) -> int:
    """Largest e with 2^e <= v."""
    e = v.numerator.bit_length() - v.denominator.bit_length()
    return e if F(2) ** e <= v else e - 1


def ceil_log2(v: F) -> int:
    e = floor_log2(v)
    return e if F(2) ** e == v else e + 1


def fl32(v: F) -> F | None:
    """v rounded to float32, nearest even, subnormals included; None beyond the range."""
    if v == 0:
        return F(0)
    spacing = F(2) ** (max(floor_log2(abs(v)), -126) - 23)
    rounded = round(v / spacing) * spacing  # Fraction.__round__ takes ties to even
    return rounded if abs(rounded) <= FLT_MAX else INF


def divide32(a: F, b: F) -> F | None:
    return INF if b == 0 else fl32(a / b)


def cap(v: F | None) -> F:
    return FLT_MAX if v is None else min(v, FLT_MAX)


def amax_block(
    block: list[F], t: F, *, eps: F = F(0), pow2: str = "none", apply: str = "divide"
) -> tuple[F, list[F | None]]:
    """(s, scaled elements) of s = amax / t."""
    a = max([abs(v) for v in block] + [eps])
    s = fl32(a / t)
    assert s is not None
    if s > 0 and pow2 != "none":
        e = ceil_log2(s) if pow2 == "up" else floor_log2(s)
        s = F(2) ** (e + 1 if pow2 == "nearest" and s * s >= F(2) ** (2 * e + 1) else e)
    if a == 0:
        s = F(1)
    elif s == 0:
        s = F(2) ** -149
    if apply == "divide":
        return s, [fl32(v / s) for v in block]
    r = cap(fl32(1 / s))
    return s, [fl32(v * r) for v in block]


def te_block(block: list[F], t: F, *, eps: F = F(0), pow2: bool = False, margin: int = 0) -> tuple[F, list[F | None]]:
    """(scale_inv, scaled elements) of S = t / amax."""
    a = max([abs(v) for v in block] + [eps])
    if a == 0:
        s = F(1)
    else:
        first = divide32(t, a)
        s = cap(None if first is None else fl32(first / 2**margin))
        if pow2:
            s = F(2) ** floor_log2(s)
    inverse = fl32(1 / s)
    assert inverse is not None
    return inverse, [fl32(v * s) for v in block]


def mx_exponent(a: F, mode: str, t: F, trailing: int) -> int:
    """Shared exponent for a block of this amax."""
    if a == 0:
        return -127
    p, emax = floor_log2(a), floor_log2(t)
    if mode == "floor":
        e = p - emax
    elif mode == "ceil":
        e = ceil_log2(a) - emax
    elif mode == "even":
        steps = (a / F(2) ** (p - trailing) + F(1, 2)).__floor__()  # amax in units of its last kept bit, half up
        e = (p + 1 if steps == 2 ** (trailing + 1) else p) - emax
    else:
        inverse = fl32(1 / t)
        assert inverse is not None
        r = fl32(a * inverse)
        assert r is not None
        e = -127 if r == 0 else ceil_log2(r)
    return max(-127, min(127, e))


def nvfp4_global(amax: F) -> F:
    """S of the tensor."""
    return F(1) if amax == 0 else cap(fl32(2688 / amax))


def nvfp4_factor(block_scale: F, s: F) -> F:
    """e_b from the decoded E4M3 scale of the block."""
    inverse = fl32(1 / s)
    assert inverse is not None
    product = fl32(block_scale * inverse)
    assert product is not None
    return cap(divide32(F(1), product))


def nvfp4_block_scale(amax_b: F, s: F, e4m3: list[F]) -> F:
    """The E4M3 value nearest to amax_b * S * fl32(1/6), ties to the even code; `e4m3`: its non-negative values ascending."""
    sixth = fl32(F(1, 6))
    assert sixth is not None
    mult = fl32(s * sixth)
    assert mult is not None
    v = min(cap(fl32(amax_b * mult)), F(448))
    return min(enumerate(e4m3), key=lambda p: (abs(p[1] - v), p[0] % 2))[1]

/* The cast from float32 bits to codes as integers: one formula for every ExMy format and every integer, every policy, every rounding.
 *
 * With the biased exponent e and the significand s of |x|, D = 23 - M + max(emin - e, 0) bits are discarded,
 *
 *     position = (s >> D) + (max(e - emin, 0) << M),     T = floor(nu 2^32) = the discarded bits, left-aligned,
 *
 * and every rounding is one 32-bit `add`: up iff T + add carries. The deterministic modes are three scalars of the plan,
 * add = base + (odd & c_odd) + (-negative & c_neg); stochastic rounding adds the word, R << (32 - r). An integer is a format whose
 * spacing is 1 everywhere. The plan is derived from the definition on the host (lpref.accel.cast_plan); the fields are its FIELDS. */
#ifndef LPREF_CORE_CAST_H
#define LPREF_CORE_CAST_H
#include "base.h"

typedef struct {
    lp_u32 shift, emin, limit_pos, limit_neg, over_pos, over_neg, inf_pos, inf_neg, nan, sign, sign_of_zero, flip, one, mask, use_sign;
    lp_u32 base, c_odd, c_neg;
} lp_plan;

LPREF_FN lp_plan lp_read_plan(const lp_u32 *q) {
    lp_plan p = {q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7], q[8], q[9], q[10], q[11], q[12], q[13], q[14], q[15], q[16], q[17]};
    return p;
}

/* s, D in 0 .. 31, whole: position = (s >> D) + whole. Where more than 31 bits go, 31 stand for them: nu stays below every threshold
 * of the nearest modes, and s != 0, which is all that the directed ones ask for. */
LPREF_FN void lp_locate(lp_u32 a, const lp_plan *p, lp_u32 *s, lp_u32 *d, lp_u32 *whole) {
    lp_i32 e = (lp_i32)(a >> 23);
    lp_i32 gap = (lp_i32)p->emin - lp_imax(e, 1);
    *s = (a & 0x7FFFFFu) | (e > 0 ? 0x800000u : 0u);
    *d = lp_umin(p->shift + (lp_u32)lp_imax(gap, 0), 31u);
    *whole = (lp_u32)lp_imax(-gap, 0) << ((23u - p->shift) & 31u);
}

/* A position and the source's magnitude bits -> the code under any policy. */
LPREF_FN lp_u32 lp_finish(lp_u32 position, lp_u32 a, lp_u32 negative, const lp_plan *p) {
    lp_u32 m = 0u - negative;
    int over = position > (negative ? p->limit_neg : p->limit_pos);
    lp_u32 body = (position ^ (m & p->flip)) + (negative & p->one);
    body = (body | (m & (position == 0 ? p->sign_of_zero : p->sign))) & p->mask;
    body = over ? (negative ? p->over_neg : p->over_pos) : body;
    body = a == LP_INF ? (negative ? p->inf_neg : p->inf_pos) : body;
    return a > LP_INF ? p->nan : body;
}

/* Deterministic roundings. */
LPREF_FN lp_u32 lp_encode(lp_u32 x, const lp_plan *p) {
    lp_u32 a = x & LP_ABS, negative = (x >> 31) & p->use_sign, s, d, whole;
    lp_locate(a, p, &s, &d, &whole);
    lp_u32 odd = ((s >> d) + whole) & 1u;
    lp_u32 add = p->base + (odd & p->c_odd) + ((0u - negative) & p->c_neg);
    lp_u32 position = ((s + ((add >> 1) >> (31u - d))) >> d) + whole;
    return lp_finish(position, a, negative, p);
}

/* Deterministic roundings to integers of up to 32 bits: what is above 2^24 spacings is a whole number of them already. */
LPREF_FN lp_u32 lp_encode_whole(lp_u32 x, const lp_plan *p) {
    lp_i32 up = (lp_i32)((x & LP_ABS) >> 23) - (lp_i32)p->emin;
    if (up <= 0) return lp_encode(x, p);
    lp_u64 position = (lp_u64)((x & 0x7FFFFFu) | 0x800000u) << lp_imin(up, 39);
    return lp_finish(position > 0xFFFFFFFFull ? 0xFFFFFFFFu : (lp_u32)position, x & LP_ABS, (x >> 31) & p->use_sign, p);
}

/* `stochastic` (variant A) with the low r bits of word: up iff floor(nu 2^r) + R >= 2^r, for any D. */
LPREF_FN lp_u32 lp_encode_stochastic(lp_u32 x, const lp_plan *p, lp_u32 word, lp_u32 r) {
    lp_u32 a = x & LP_ABS, negative = (x >> 31) & p->use_sign, add = word << (32u - r);
    lp_i32 e = (lp_i32)(a >> 23);
    lp_u32 s = (a & 0x7FFFFFu) | (e > 0 ? 0x800000u : 0u);
    lp_i32 gap = (lp_i32)p->emin - lp_imax(e, 1);
    lp_u32 d = p->shift + (lp_u32)lp_imax(gap, 0);
    lp_u32 near = lp_umin(d, 31u), far = lp_umin(d - near, 31u);
    lp_u32 below = far > 0 ? ((s << 1) >> far) & 1u : 0u; /* beyond D = 31 the bit below meets add's lowest bit in a carry of its own */
    lp_u32 half = (add >> 1) + (add & below);
    lp_u32 whole = (lp_u32)lp_imax(-gap, 0) << ((23u - p->shift) & 31u);
    return lp_finish((((s >> far) + (half >> (31u - near))) >> near) + whole, a, negative, p);
}

/* `stochastic_b` (variant 1) and `stochastic_c` (2), which need r + 1 bits of nu. */
LPREF_FN lp_u32 lp_encode_bc(lp_u32 x, const lp_plan *p, lp_u32 word, lp_u32 r, int variant) {
    lp_u32 a = x & LP_ABS, negative = (x >> 31) & p->use_sign;
    lp_i64 e = (lp_i64)(a >> 23), s = (lp_i64)(a & 0x7FFFFFu) + (e > 0 ? 0x800000 : 0);
    lp_i64 gap = (lp_i64)(lp_i32)p->emin - (e > 1 ? e : 1), d = (lp_i64)p->shift + (gap > 0 ? gap : 0);
    lp_u32 position = (lp_u32)((s >> (d < 63 ? d : 63)) + ((gap < 0 ? -gap : 0) << (23 - p->shift)));
    lp_i64 rest = s & (((lp_i64)1 << (d < 62 ? d : 62)) - 1), w = (lp_i64)(r < 32 ? word & ((1u << r) - 1u) : word);
    lp_i64 drop = d - ((lp_i64)r + 1), t = 0, full = (lp_i64)1 << (r + 1);
    int lost = rest != 0;
    if (drop <= 0) {
        t = rest << -drop;
        lost = 0;
    } else if (drop < 63) {
        t = rest >> drop;
        lost = (rest & (((lp_i64)1 << drop) - 1)) != 0;
    }
    lp_i64 threshold = full - 2 * w - 1;
    int up = variant == 1 ? t + 2 * w + 1 >= full : t > threshold || (t == threshold && (lost || (w & 1) == 0));
    return lp_finish(position + (lp_u32)up, a, negative, p);
}

#endif

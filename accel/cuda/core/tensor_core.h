/* tensor_core: one step of a matrix unit in whole numbers (lpref.ref.linalg.tensor_core).
 *
 * An element is sig 2^(exp - M), M the fraction bits of the format that the unit reads and exp at least that format's smallest normal exponent; zero has
 * sig 0 and LP_NONE. A product is cut at 2^(E - F) by one shift of its magnitude: |sig sig'| 2^(F - M - M') >> (E - exp - exp'). */
#ifndef LPREF_CORE_TENSOR_CORE_H
#define LPREF_CORE_TENSOR_CORE_H
#include "base.h"

#define LP_NONE (-(1 << 20))
/* exp of +inf, -inf and NaN, whose sig is 0: products and alignment take them for zeros, and lp_unit_class says what they make of the sum */
#define LP_POSITIVE (LP_NONE - 1)
#define LP_NEGATIVE (LP_NONE - 2)
#define LP_NOT (LP_NONE - 3)

typedef struct {
    lp_i32 sig, exp;
} lp_element;

/* A value of the format, given as float32. */
LPREF_FN lp_element lp_unit_element(float v, lp_i32 emin, lp_i32 bits) {
    lp_u32 word = lp_bits(v), a = word & LP_ABS;
    lp_element x = {0, LP_NONE};
    if (a == 0) return x;
    if (a >= LP_INF) {
        x.exp = a > LP_INF ? LP_NOT : word >> 31 ? LP_NEGATIVE : LP_POSITIVE;
        return x;
    }
    lp_i32 e = (lp_i32)(a >> 23), magnitude = (lp_i32)(a & 0x7FFFFFu) | (e ? 1 << 23 : 0);
    e = (e ? e : 1) - 127;
    x.exp = lp_imax(e, emin);
    x.sig = magnitude >> (23 - bits + x.exp - e);
    if (word >> 31) x.sig = -x.sig;
    return x;
}

/* trunc(product / 2^(E - F)); up: F - M - M'; down: E less the product's exponent, not negative. */
LPREF_FN lp_i32 lp_unit_term(lp_i32 a, lp_i32 b, lp_i32 up, lp_i32 down) {
    lp_i32 p = a * b, sign = p >> 31;
    lp_u32 cut = (lp_u32)((p ^ sign) - sign) << up >> lp_imin(down, 31);
    return ((lp_i32)cut ^ sign) - sign;
}

/* floor(log2 |c|), at least -126; LP_NONE for zero. c is finite. */
LPREF_FN lp_i32 lp_unit_exponent(float c) {
    lp_u32 a = lp_bits(c) & LP_ABS;
    return a == 0 ? LP_NONE : lp_imax((lp_i32)(a >> 23), 1) - 127;
}

/* trunc(c / 2^(E - F)) */
LPREF_FN lp_i32 lp_unit_carried(float c, lp_i32 top, lp_i32 fraction) {
    lp_u32 a = lp_bits(c) & LP_ABS;
    lp_i32 e = (lp_i32)(a >> 23), m = (lp_i32)(a & 0x7FFFFFu) | (e ? 1 << 23 : 0);
    lp_i32 down = 23 - fraction + top - (lp_imax(e, 1) - 127);
    m = down >= 0 ? m >> lp_imin(down, 31) : m << -down;
    return lp_bits(c) >> 31 ? -m : m;
}

LPREF_FN lp_i32 lp_highest(lp_u64 v) { /* of v > 0 */
#ifdef __CUDACC_RTC__
    return 63 - __clzll((lp_i64)v);
#else
    return 63 - __builtin_clzll(v);
#endif
}

/* s 2^unit cut toward zero to `kept` fraction bits, or to the multiples of 2^(-126 - kept) below 2^-126: float32; 2^128 and more: an infinity; 0: +0 */
LPREF_FN float lp_unit_cut(lp_i64 s, lp_i32 unit, lp_i32 kept) {
    lp_u32 sign = s < 0 ? 0x80000000u : 0u;
    lp_u64 v = s < 0 ? (lp_u64)-s : (lp_u64)s;
    if (v == 0) return 0.0f;
    lp_i32 high = lp_highest(v), e = unit + high, drop = lp_imax(e, -126) - kept - unit;
    if (drop > 0) v = drop > 63 ? 0 : v >> drop << drop;
    if (v == 0) return 0.0f;
    if (e >= 128) return lp_float(sign | LP_INF);
    if (e >= -126) {
        v = high > 23 ? v >> (high - 23) : v << (23 - high);
        return lp_float(sign | (lp_u32)(e + 127) << 23 | ((lp_u32)v & 0x7FFFFFu));
    }
    lp_i32 up = unit + 149;
    return lp_float(sign | (lp_u32)(up < 0 ? v >> -up : v << up));
}

/* What NaN and infinities among one product's factors make of a running class: 0 finite, 1 +inf, 2 -inf, 3 NaN. */
LPREF_FN lp_i32 lp_unit_class(lp_i32 before, lp_element a, lp_element b) {
    lp_i32 one = a.exp < LP_NONE, other = b.exp < LP_NONE;
    if (!one && !other) return before;
    if (a.exp == LP_NOT || b.exp == LP_NOT || (!one && a.sig == 0) || (!other && b.sig == 0)) return 3;
    lp_i32 minus = (one ? a.exp == LP_NEGATIVE : a.sig < 0) ^ (other ? b.exp == LP_NEGATIVE : b.sig < 0);
    return before | (minus ? 2 : 1);
}

/* The same of a running sum, and the value of a class that is not 0. */
LPREF_FN lp_i32 lp_unit_class_of(float c) {
    lp_u32 a = lp_bits(c) & LP_ABS;
    return a < LP_INF ? 0 : a > LP_INF ? 3 : lp_bits(c) >> 31 ? 2 : 1;
}
LPREF_FN float lp_unit_special(lp_i32 kind) { return lp_float(kind == 3 ? LP_NAN : kind == 2 ? LP_INF | 0x80000000u : LP_INF); }
#endif

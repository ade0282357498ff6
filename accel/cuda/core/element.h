/* Elements of block quantizers by float32 arithmetic with the format in constants: to nearest even, or stochastically (variant A).
 *
 * Floats: with the binade of a, c = 2^(max(e, emin) + 23 - M), (a + c) - c is a rounded to the format (float32 addition rounds at exactly that
 * step, c is an even multiple of it). Stochastic: the code counts the upper bits of a's pattern; below 2^emin those of a + 2^emin, truncated.
 * Integers: adding 1.5 2^23 leaves the rounded number in the low bits. E2M1's code is the nearest integer (ties to even) to the concave
 * min(2a, a + 2, a/2 + 4), so it is the minimum of three sums that are rounded once each.
 * All saturate. NaN is the caller's. */
#ifndef LPREF_CORE_ELEMENT_H
#define LPREF_CORE_ELEMENT_H
#include "base.h"

#ifdef __CUDACC_RTC__
/* a * p + c for a power of two p: the product is exact, so there is one rounding, to nearest even or toward zero. */
#define LP_SCALE_ADD(a, p, c) __fmaf_rn(a, p, c)
#define LP_SCALE_ADD_RZ(a, p, c) __fmaf_rz(a, p, c)
#else
#define LP_SCALE_ADD(a, p, c) ((a) * (p) + (c))
/* on the host for c = 2^23 + n, n < 2^22, a * p >= 0: the integer part of the sum; beyond 2^24 it only has to be as large */
#define LP_SCALE_ADD_RZ(a, p, c) lp_truncated_sum((a) * (p), c)
LPREF_FN float lp_truncated_sum(float x, float c) { return x < 8388608.0f ? (float)((lp_u32)x) + c : x + c; }
#endif

LPREF_FN lp_u32 lp_nearest_float(float u, lp_u32 trailing, lp_i32 emin, float max, lp_u32 bits) {
    lp_u32 low = (lp_u32)(127 + emin) << 23, shift = (23u - trailing) << 23;
    float a = lp_min(lp_float(lp_bits(u) & LP_ABS), max);
    lp_u32 binade = lp_umax(lp_bits(a) & LP_INF, low);
    lp_u32 c = binade + shift, sum = lp_bits(lp_add(a, lp_float(c)));
    return ((sum - c) + ((binade - low) >> (23u - trailing))) | ((lp_bits(u) >> (32u - bits)) & (1u << (bits - 1u)));
}

/* r <= 23 - trailing; word < 2^r */
LPREF_FN lp_u32 lp_stochastic_float(float u, lp_u32 trailing, lp_i32 emin, float max, lp_u32 bits, lp_u32 word, lp_u32 r) {
    lp_u32 low = (lp_u32)(127 + emin) << 23;
    float a = lp_min(lp_float(lp_bits(u) & LP_ABS), max), least = lp_float(low);
#ifdef __CUDACC_RTC__
    /* bits(a) and bits(a + 2^emin) - 2^23 cross at 2^emin: the larger one is the right one on both sides */
    lp_u32 grid = (lp_u32)lp_imax((lp_i32)lp_bits(a), (lp_i32)(lp_bits(__fadd_rz(a, least)) - (1u << 23)));
#else
    lp_u32 grid = a < least ? low - (1u << 23) + (lp_u32)(a * lp_float((lp_u32)(127 + 23 - emin) << 23)) : lp_bits(a);
#endif
    lp_u32 position = ((grid + (word << (23u - trailing - r))) >> (23u - trailing)) - ((low - (1u << 23)) >> (23u - trailing));
    return position | ((lp_bits(u) >> (32u - bits)) & (1u << (bits - 1u)));
}

/* low, high: whole numbers, at most 2^22 */
LPREF_FN lp_u32 lp_nearest_int(float u, float low, float high, lp_u32 bits) {
    return lp_bits(lp_add(lp_min(lp_max(u, low), high), 12582912.0f)) & ((1u << bits) - 1u);
}

/* high 2^r < 2^31 */
LPREF_FN lp_u32 lp_stochastic_int(float u, float low, float high, lp_u32 bits, lp_u32 word, lp_u32 r) {
    float t = lp_min(lp_max(u, low), high), a = lp_float(lp_bits(t) & LP_ABS);
    lp_u32 q = ((lp_u32)lp_mul(a, lp_float((127u + r) << 23)) + word) >> r;
    return (lp_bits(t) >> 31 ? 0u - q : q) & ((1u << bits) - 1u);
}

#define LP_E2M1_BASE 0x4B400000u /* 1.5 2^23 */
/* E2M1: the magnitude's code + LP_E2M1_BASE */
LPREF_FN lp_u32 lp_nearest_e2m1(float a) {
    float fine = LP_SCALE_ADD(a, 2.0f, 12582912.0f), middle = lp_add(a, 12582914.0f), coarse = LP_SCALE_ADD(a, 0.5f, 12582916.0f);
    return lp_bits(lp_min(lp_min(fine, middle), lp_min(coarse, 12582919.0f)));
}

#define LP_E2M1_BASE8 0x4B000000u /* 2^23 */
/* E2M1, 8-bit word: 256 code + what is below, + LP_E2M1_BASE8; shifted right by 8 the code remains */
LPREF_FN lp_u32 lp_stochastic_e2m1(float a, lp_u32 word) {
    float fine = LP_SCALE_ADD_RZ(a, 512.0f, 8388608.0f), middle = LP_SCALE_ADD_RZ(a, 256.0f, 8389120.0f);
    float coarse = LP_SCALE_ADD_RZ(a, 128.0f, 8389632.0f);
    return lp_bits(lp_min(lp_min(fine, middle), lp_min(coarse, 8390400.0f))) + word;
}

#endif

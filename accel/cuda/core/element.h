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
#define LP_SCALE_ADD_SAT_RZ(a, p, c) lp_saturated_sum(a, p, c)
#define LP_SCALE_RZ(a, p) __fmul_rz(a, p)
LPREF_FN float lp_saturated_sum(float a, float p, float c) {
    float sum;
    asm("fma.rz.sat.f32 %0, %1, %2, %3;" : "=f"(sum) : "f"(a), "f"(p), "f"(c));
    return sum;
}
#else
#define LP_SCALE_ADD(a, p, c) ((a) * (p) + (c))
/* on the host: a sum of two numbers >= 0, toward zero: float64 holds it or what float32 keeps of it */
#define LP_SCALE_ADD_RZ(a, p, c) lp_truncated_sum((double)(a) * (p), c)
#define LP_SCALE_ADD_SAT_RZ(a, p, c) lp_min(LP_SCALE_ADD_RZ(a, p, c), 1.0f)
#define LP_SCALE_RZ(a, p) LP_SCALE_ADD_RZ(a, p, 0.0f)
LPREF_FN float lp_truncated_sum(double x, float c) {
    float sum = (float)(x + c);
    return (double)sum > x + c ? lp_float(lp_bits(sum) - 1u) : sum;
}
#endif

LPREF_FN lp_u32 lp_nearest_float(float u, lp_u32 trailing, lp_i32 emin, float max, lp_u32 bits) {
    lp_u32 low = (lp_u32)(127 + emin) << 23, shift = (23u - trailing) << 23;
    float a = lp_min(lp_float(lp_bits(u) & LP_ABS), max);
    lp_u32 binade = lp_umax(lp_bits(a) & LP_INF, low);
    lp_u32 c = binade + shift, sum = lp_bits(lp_add(a, lp_float(c)));
    return ((sum - c) + ((binade - low) >> (23u - trailing))) | ((lp_bits(u) >> (32u - bits)) & (1u << (bits - 1u)));
}

/* The pattern of a, and below 2^emin (`least`) that of a + 2^emin less 2^23, truncated: they cross at 2^emin, and the larger one is the right one
 * on both sides. */
LPREF_FN lp_u32 lp_grid(float a, float least) {
    return (lp_u32)lp_addmax((lp_i32)lp_bits(LP_SCALE_ADD_RZ(a, 1.0f, least)), -(1 << 23), (lp_i32)lp_bits(a));
}

/* r <= 23 - trailing; word < 2^r */
LPREF_FN lp_u32 lp_stochastic_float(float u, lp_u32 trailing, lp_i32 emin, float max, lp_u32 bits, lp_u32 word, lp_u32 r) {
    lp_u32 low = (lp_u32)(127 + emin) << 23;
    float a = lp_min(lp_float(lp_bits(u) & LP_ABS), max), least = lp_float(low);
    lp_u32 grid = lp_grid(a, least);
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

#define LP_E2M1_BASE 0x4B400000u /* 1.5 2^23; of E2M3 too */
/* E2M1: the magnitude's code + LP_E2M1_BASE, for a below 7 (what rounds to more than the largest value, 6, has code 8) */
LPREF_FN lp_u32 lp_nearest_e2m1_below7(float a) {
    float fine = LP_SCALE_ADD(a, 2.0f, 12582912.0f), middle = lp_add(a, 12582914.0f), coarse = LP_SCALE_ADD(a, 0.5f, 12582916.0f);
    return lp_min3(lp_bits(fine), lp_bits(middle), lp_bits(coarse));
}

LPREF_FN lp_u32 lp_nearest_e2m1(float a) { return lp_umin(lp_nearest_e2m1_below7(a), LP_E2M1_BASE + 7u); }

/* E2M3 likewise, for a at most 7.75 (exclusive): the code is the nearest integer to min(8a, 4a + 8, 2a + 16). */
LPREF_FN lp_u32 lp_nearest_e2m3(float a) {
    float fine = LP_SCALE_ADD(a, 8.0f, 12582912.0f), middle = LP_SCALE_ADD(a, 4.0f, 12582920.0f), coarse = LP_SCALE_ADD(a, 2.0f, 12582928.0f);
    return lp_min3(lp_bits(fine), lp_bits(middle), lp_bits(coarse));
}

/* E2M1, 8-bit word: 256 (code - 7) + what is below, + the bits of 1.0: bits 8 .. 15 of the sum with word + 0x700 are the code. The three sums
 * are in units of 2^-24 and the largest code's is 1.0, so that the coarsest saturates there by itself. */
LPREF_FN lp_u32 lp_stochastic_e2m1(float a) {
    const float u = 5.9604644775390625e-08f, one = 1.0f - 1792.0f * u;
    float fine = LP_SCALE_ADD_RZ(a, 512.0f * u, one), middle = LP_SCALE_ADD_RZ(a, 256.0f * u, one + 512.0f * u);
    float coarse = LP_SCALE_ADD_SAT_RZ(a, 128.0f * u, one + 1024.0f * u);
    return lp_min3(lp_bits(fine), lp_bits(middle), lp_bits(coarse));
}

/* E2M1 of two numbers, `low` and `high` 2^-14 times what is rounded: in each half the sign at bit 15 and 512 (code + what is below), truncated, at most
 * 512 * 7: the pattern of binary16, whose subnormal numbers are E2M1's. */
LPREF_FN lp_u32 lp_pair_e2m1(float low, float high) {
#if defined(__CUDACC_RTC__) && __CUDA_ARCH__ >= 860
    lp_u32 pair, most;
    asm("cvt.rz.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    asm("min.xorsign.abs.f16x2 %0, %1, %2;" : "=r"(most) : "r"(pair), "r"(0x0E000E00u));
    return most;
#else
    const float up = 1.925929944387236e-34f; /* 2^-112: a float32 of the same kind */
    lp_u32 a = lp_bits(LP_SCALE_RZ(lp_float(lp_bits(low) & LP_ABS), up)) >> 13, b = lp_bits(LP_SCALE_RZ(lp_float(lp_bits(high) & LP_ABS), up)) >> 13;
    return lp_umin(a, 0xE00u) | lp_umin(b, 0xE00u) << 16 | (lp_bits(low) >> 16 & 0x8000u) | (lp_bits(high) & 0x80000000u);
#endif
}

/* x / s to nearest even from y = fl(1 / s), for s in 2^-64 .. 2^64 and |x| / s above 2^-38 (below, and for x = 0, it stays below 2^-37).
 *
 * The first two steps make a quotient within one unit in the last place, whose residual is exact; one more step from there rounds correctly
 * when y is the rounded reciprocal (Markstein, IBM J. Res. Dev. 34, 1990, theorem 8.1). The reciprocal serves a whole block. */
LPREF_FN float lp_quotient(float x, float s, float y) {
    float q = lp_mul(x, y);
    q = lp_fma(-lp_fma(q, s, -x), y, q); /* with these signs, zero keeps its own */
    return lp_fma(-lp_fma(q, s, -x), y, q);
}
/* The same in two steps, from `rest`, what y lacks of 1 / s: before its rounding the sum is within 2^-22 units in the last place of x / s. Whether
 * that rounds as x / s does is up to the significands of x and s alone: who uses it compares all significands that x may have. */
LPREF_FN float lp_rest(float s, float y) { return lp_mul(lp_fma(-s, y, 1.0f), y); }
LPREF_FN float lp_near_quotient(float x, float y, float rest) { return lp_fma(x, y, lp_mul(x, rest)); }
LPREF_FN int lp_quotient_serves(float s) { return s >= 5.421010862427522e-20f && s <= 1.8446744073709552e19f; }

#endif

/* Codes of floats of 4 or 8 bits times their block scale as bfloat16, which holds them. Shifts and float32 products, so that no table is read.
 *
 *   LP_BITS, LP_TRAILING, LP_EMIN    the element format (elements.cuh)
 *   LP_STORED                        of scales: 0 float32, 1 E8M0, 2 E4M3 (LP_FLOAT32, LP_E8M0, LP_SMALL of scales.h) */
#include "bf16.cuh"

/* What a stored scale decodes to; its NaN is that of dead blocks. */
LPREF_FN float scale_value(lp_u32 code) {
#if LP_STORED == 0
    return lp_float(code);
#elif LP_STORED == 1
    return code == 255u ? lp_float(LP_NAN) : lp_float(lp_umax(code << 23, 0x00400000u));
#else
    return code == 127u ? lp_float(LP_NAN) : lp_mul(lp_float(code << 20), lp_float(247u << 23));
#endif
}

/* The code whose lowest bit is bit `place` of `word`, times a scale. The magnitude's fields are those of a float32 with an exponent less by 126 + emin:
 * subnormal codes are subnormal there, and the product with the power of two is exact. */
LPREF_FN float scaled_element(lp_u32 word, int place, float scale) {
    const int up = 23 - LP_TRAILING - place, sign = 32 - LP_BITS - place;
    lp_u32 bits = (up >= 0 ? word << (up & 31) : word >> (-up & 31)) & (((1u << (LP_BITS - 1)) - 1u) << (23 - LP_TRAILING));
    float v = lp_mul(lp_mul(lp_float(bits), lp_float((lp_u32)(253 + LP_EMIN) << 23)), scale);
    return lp_float(lp_bits(v) | ((word << sign) & 0x80000000u));
}

/* Pairs of a living block stay as they are; NaN of a dead one: keep, nan = 0, 0x7FC0. */
LPREF_FN lp_u32 dead_half(float scale) { return scale != scale ? 0xFFFFu : 0u; }
LPREF_FN lp_u32 settled_pair(lp_u32 pair, lp_u32 dead) { return (pair & ~dead) | (dead & 0x7FC07FC0u); }

/* Eight neighbours under one scale: codes of 8 bits in lo, hi; of 4 bits in lo. */
LPREF_FN uint4 embedded8(lp_u32 lo, lp_u32 hi, float scale, lp_u32 dead) {
    lp_u32 w[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        lp_u32 word = LP_BITS == 4 || i < 2 ? lo : hi;
        int place = 2 * i * LP_BITS % 32;
        w[i] = settled_pair(pack(scaled_element(word, place, scale), scaled_element(word, place + LP_BITS, scale)), dead);
    }
    uint4 four = {w[0], w[1], w[2], w[3]};
    return four;
}

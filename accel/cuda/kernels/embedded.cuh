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

/* The scales of two neighbours: as they are, as bfloat16, and 0xFFFF for each that is a dead block's. */
struct Pair {
    float low, high;
    lp_u32 both, dead;
};
LPREF_FN Pair pair_of(float low, float high) {
    Pair p = {low, high, pack(low, high), (low != low ? 0xFFFFu : 0u) | (high != high ? 0xFFFF0000u : 0u)};
    return p;
}

/* Numbers of a living block stay as they are; those of a dead one are the NaN 0x7FC0. */
LPREF_FN lp_u32 settled_pair(lp_u32 pair, lp_u32 dead) { return (pair & ~dead) | (dead & 0x7FC07FC0u); }

#define PAIRS (16 / LP_BITS) /* of a word of codes */

/* A word of codes, the lowest bits first, under the scales of its pairs (the same for all: every 0; one each: every 1). E2M1 becomes bfloat16 byte by
 * byte from two words that hold its eight magnitudes; FP8 goes through binary16, which holds it. */
LPREF_FN void embedded_word(lp_u32 *out, lp_u32 word, const Pair *p, const int every) {
#if LP_BITS == 4 && LP_TRAILING == 1 && LP_EMIN == 0 && __CUDA_ARCH__ >= 900
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        lp_u32 four = half ? word >> 16 : word, magnitude = four & 0x7777u, made[2];
        lp_u32 upper = __byte_perm(0x3F3F3F00u, 0x40404040u, magnitude), lower = __byte_perm(0xC0800000u, 0xC0804000u, magnitude), sign;
        asm("prmt.b32 %0, %1, %1, %2;" : "=r"(sign) : "r"(0x80808080u), "r"(four)); /* 0xFF where negative, 0x80 elsewhere */
        upper |= sign << 1 & 0x80808080u;
        made[0] = __byte_perm(lower, upper, 0x5140);
        made[1] = __byte_perm(lower, upper, 0x7362);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const Pair &s = p[every * (2 * half + i)];
            lp_u32 product;
            asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(product) : "r"(made[i]), "r"(s.both));
            out[2 * half + i] = settled_pair(product, s.dead);
        }
    }
#elif LP_BITS == 8 && (LP_TRAILING == 3 || LP_TRAILING == 2) && __CUDA_ARCH__ >= 890
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const Pair &s = p[every * i];
        lp_u32 halves;
        float a, b;
#if LP_TRAILING == 3
        asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"((lp_u16)(word >> 16 * i)));
#else
        asm("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(halves) : "h"((lp_u16)(word >> 16 * i)));
#endif
        asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(a), "=f"(b) : "r"(halves));
        out[i] = settled_pair(pack(lp_mul(a, s.low), lp_mul(b, s.high)), s.dead);
    }
#else
#pragma unroll
    for (int i = 0; i < PAIRS; ++i) {
        const Pair &s = p[every * i];
        out[i] = settled_pair(pack(scaled_element(word, 2 * i * LP_BITS, s.low), scaled_element(word, (2 * i + 1) * LP_BITS, s.high)), s.dead);
    }
#endif
}

/* Eight neighbours under one scale: codes of 8 bits in lo, hi; of 4 bits in lo. */
LPREF_FN uint4 embedded8(lp_u32 lo, lp_u32 hi, const Pair &p) {
    lp_u32 w[4];
    embedded_word(w, lo, &p, 0);
#if LP_BITS == 8
    embedded_word(w + 2, hi, &p, 0);
#endif
    uint4 four = {w[0], w[1], w[2], w[3]};
    return four;
}

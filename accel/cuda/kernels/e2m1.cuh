/* The short way's stochastic E2M1, two elements at once, and what else a block's factor takes in. Macros: elements.cuh. */

/* Stochastic E2M1 by lp_pair_e2m1: signs stay, and what it takes is 2^-14 times the element. Where the factor is one product with a number (NVFP4) the
 * power of two is part of it, and so is LP_BEFORE, a power of two that elements are still to be multiplied with (panels.cu). */
#ifndef LP_BEFORE
#define LP_BEFORE 1.0f
#endif
#ifndef LP_PAIRED
#define LP_PAIRED 0 /* words come as pairs: those of elements 0 and 2, 1 and 3, 4 and 6, ... in halves */
#endif
#define LP_E2M1_PAIRS (LP_FP4 && LP_SR == 8)
#define LP_FOLDED (LP_RULE == 3 && LP_FP4 && LP_SR != 16 && !LP_DIVIDE)
#define LP_FOLDED_BY (LP_E2M1_PAIRS ? LP_BEFORE * 6.103515625e-05f : LP_BEFORE)

/* Eight elements as they are quantized. */
LPREF_FN Eight elements8(const Raw &raw) {
    Eight e = widen(raw);
    if (LP_BEFORE != 1.0f) {
#pragma unroll
        for (int i = 0; i < 8; ++i) e.v[i] = lp_mul(e.v[i], LP_BEFORE);
    }
    return e;
}

/* Bits of a where the mask has ones, else of b. */
LPREF_FN lp_u32 chosen(lp_u32 mask, lp_u32 a, lp_u32 b) {
#ifdef __CUDACC_RTC__
    lp_u32 r; /* one instruction, which the compiler does not find */
    asm("lop3.b32 %0, %1, %2, %3, 0xCA;" : "=r"(r) : "r"(mask), "r"(a), "r"(b));
    return r;
#else
    return (a & mask) | (b & ~mask);
#endif
}

/* The lesser magnitudes of pairs of binary16. */
LPREF_FN lp_u32 lesser_pair(lp_u32 a, lp_u32 b) {
#ifdef __CUDACC_RTC__
    lp_u32 r;
    asm("{.reg .b32 t; abs.f16x2 t, %2; min.f16x2 %0, %1, t;}" : "=r"(r) : "r"(a), "r"(b));
    return r;
#else
    return __vminu2(a, b & 0x7FFF7FFFu);
#endif
}

#if LP_E2M1_PAIRS
/* Codes of eight scaled elements; w: their words, as they come or in pairs; least: for float32 sources the least magnitudes yet. */
LPREF_FN lp_u32 codes_e2m1(const float *u, const lp_u32 *w, lp_u32 &least) {
    lp_u32 y[4]; /* elements 0 and 2, 1 and 3, 4 and 6, 5 and 7: 512 (code + what is below) + twice the word, at most 512 * 7 + 510 */
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int one = i / 2 * 4 + i % 2;
        y[i] = lp_pair_e2m1(u[one], u[one + 2]);
        if (!LP_IN) least = lesser_pair(least, y[i]);
        y[i] += 2u * (LP_PAIRED ? w[i] : permuted(w[i / 2], 0u, i % 2 ? 0x4341u : 0x4240u));
    }
    lp_u32 even = permuted(y[0], y[2], 0x7531u), odd = permuted(y[1], y[3], 0x7531u); /* bytes: sign, 000, code, a bit below */
    lp_u32 high = chosen(0x80808080u, odd, odd * 8u), low = chosen(0x08080808u, even >> 4, even >> 1);
    return chosen(0xF0F0F0F0u, high, low);
}
#endif

/* Philox4x32-10 words: key (seed_lo, seed_hi), counter (g_lo, g_hi, step, stream); an element i takes bits [r j, r (j+1)) of block
 * g = i div (128 / r), j = i mod (128 / r), lane 0 lowest; r in {8, 16, 32}. As lpref.ref.random.
 * Source: Salmon et al., SC 2011; Random123 1.14 philox.h. */
#ifndef LPREF_CORE_PHILOX_H
#define LPREF_CORE_PHILOX_H
#include "base.h"

typedef struct {
    lp_u32 w[4];
} lp_block128;

LPREF_FN lp_block128 lp_philox(lp_u64 g, lp_u32 step, lp_u32 stream, lp_u32 seed_lo, lp_u32 seed_hi) {
    lp_u32 c0 = (lp_u32)g, c1 = (lp_u32)(g >> 32), c2 = step, c3 = stream;
#ifdef __CUDACC_RTC__
#pragma unroll
#endif
    for (int round = 0; round < 10; ++round) {
        lp_u32 h0 = lp_mulhi(c0, 0xD2511F53u), l0 = c0 * 0xD2511F53u, h1 = lp_mulhi(c2, 0xCD9E8D57u), l1 = c2 * 0xCD9E8D57u;
        c0 = h1 ^ c1 ^ seed_lo;
        c2 = h0 ^ c3 ^ seed_hi;
        c1 = l1;
        c3 = l0;
        seed_lo += 0x9E3779B9u;
        seed_hi += 0xBB67AE85u;
    }
    lp_block128 b = {{c0, c1, c2, c3}};
    return b;
}

/* The r-bit word of element j of a block. */
LPREF_FN lp_u32 lp_word_of(const lp_block128 *b, lp_u32 j, lp_u32 r) {
    lp_u32 bit = j * r, lane = b->w[bit >> 5];
    return r == 32 ? lane : (lane >> (bit & 31u)) & ((1u << r) - 1u);
}

/* The r-bit word of element i. */
LPREF_FN lp_u32 lp_word(lp_u64 i, lp_u32 r, lp_u32 step, lp_u32 stream, lp_u32 seed_lo, lp_u32 seed_hi) {
    lp_u32 log_per = r == 8 ? 4u : r == 16 ? 3u : 2u;
    lp_block128 b = lp_philox(i >> log_per, step, stream, seed_lo, seed_hi);
    lp_u32 bit = (lp_u32)(i & ((1u << log_per) - 1u)) * r, lane = bit >> 5;
    lp_u32 w = lane == 0 ? b.w[0] : lane == 1 ? b.w[1] : lane == 2 ? b.w[2] : b.w[3];
    return r == 32 ? w : (w >> (bit & 31u)) & ((1u << r) - 1u);
}

#endif

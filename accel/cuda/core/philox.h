/* Philox4x32-10 words: key (seed_lo, seed_hi), counter (g_lo, g_hi, step, stream); an element i takes bits [r j, r (j+1)) of block
 * g = i div (128 / r), j = i mod (128 / r), lane 0 lowest; r in {8, 16, 32}. As lpref.ref.random.
 * Source: Salmon et al., SC 2011; Random123 1.14 philox.h. */
#ifndef LPREF_CORE_PHILOX_H
#define LPREF_CORE_PHILOX_H
#include "base.h"

typedef struct {
    lp_u32 w[4];
} lp_block128;

/* Round n's key: seed_lo + n 0x9E3779B9 below, seed_hi + n 0xBB67AE85 above. */
typedef struct {
    lp_u64 round[10];
} lp_keys;

LPREF_FN lp_keys lp_round_keys(lp_u32 seed_lo, lp_u32 seed_hi) {
    lp_keys k;
#ifdef __CUDACC_RTC__
#pragma unroll
#endif
    for (lp_u32 n = 0; n < 10u; ++n) k.round[n] = (lp_u64)(seed_hi + n * 0xBB67AE85u) << 32 | (seed_lo + n * 0x9E3779B9u);
    return k;
}

/* What the first two rounds make of step and stream alone is found once by a compiler that sees them stay. */
LPREF_FN lp_block128 lp_philox_keyed(lp_u32 c0, lp_u32 c1, lp_u32 c2, lp_u32 c3, const lp_keys *keys) {
#ifdef __CUDACC_RTC__
#pragma unroll
#endif
    for (int round = 0; round < 10; ++round) {
        lp_u64 p0 = lp_product(c0, 0xD2511F53u), p1 = lp_product(c2, 0xCD9E8D57u);
        c0 = (lp_u32)(p1 >> 32) ^ c1 ^ (lp_u32)keys->round[round];
        c2 = (lp_u32)(p0 >> 32) ^ c3 ^ (lp_u32)(keys->round[round] >> 32);
        c1 = (lp_u32)p1;
        c3 = (lp_u32)p0;
    }
    lp_block128 b = {{c0, c1, c2, c3}};
    return b;
}

LPREF_FN lp_block128 lp_philox(lp_u64 g, lp_u32 step, lp_u32 stream, lp_u32 seed_lo, lp_u32 seed_hi) {
    lp_keys keys = lp_round_keys(seed_lo, seed_hi);
    return lp_philox_keyed((lp_u32)g, (lp_u32)(g >> 32), step, stream, &keys);
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

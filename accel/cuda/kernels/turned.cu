/* turned: tensor.cu with the codes stored a second time, rows and columns exchanged: what a product along the other axis reads. One read of x.
 *
 * R and C are multiples of 16, codes have 8 bits. A block takes tiles of 128 x 128: a thread codes four sixteens of a row, which leave for memory and
 * for shared memory as they are; then it takes 16 rows of four columns from there, turns 4 x 4 bytes in registers and stores 16 bytes of each column:
 * both ways whole lines of 128 bytes. Chunk k of row r lies at k ^ (r / 16 mod 8), so that neither side meets a bank twice; two tiles in turn cost
 * one barrier each, and the next sixteens are on their way all the time. Blocks that run at once take LP_TALL tiles below each other, then their
 * neighbours, so that lines side by side are stored together; the last rows go first, which their writer left in the cache. Versions (one H200, 3.3 G
 * float32 elements of a step): 1. tensor.cu, then `turn` of blas.cu: 8.9 ms. 2. one read, a tile loaded, then stored: 6.7. 3. this one. Macros:
 * elements.cuh.
 *
 * LP_UNMADE: x is bfloat16 of which a thread makes what is coded (float32, LP_IN 0), which is then never written (unmade.cuh). */
#ifndef LP_UNMADE
#define LP_UNMADE 0
#endif
#if LP_UNMADE
#include "decided.h"
#endif
#include "tensor.cuh"

#define TILE 128
#define AHEAD (LP_IN || LP_UNMADE ? 4 : 2) /* sixteens that are on their way at once */

/* words a, b, c, d of four rows -> the four bytes of each column */
LPREF_FN void turn4(lp_u32 *w) {
    lp_u32 low = __byte_perm(w[0], w[1], 0x5140), high = __byte_perm(w[0], w[1], 0x7362);
    lp_u32 low2 = __byte_perm(w[2], w[3], 0x5140), high2 = __byte_perm(w[2], w[3], 0x7362);
    w[0] = __byte_perm(low, low2, 0x5410);
    w[1] = __byte_perm(low, low2, 0x7632);
    w[2] = __byte_perm(high, high2, 0x5410);
    w[3] = __byte_perm(high, high2, 0x7632);
}

#ifndef LP_TALL
#define LP_TALL 16
#endif

struct Sides {
    lp_u32 R, units, across; /* rows; sixteens of a row; tiles along it */
};

#include "unmade.cuh"

/* the first row and the first sixteen of tile t */
LPREF_FN void place(const Sides &of, lp_u32 t, lp_u32 *r0, lp_u32 *unit) {
    lp_u32 down = (of.R + TILE - 1) / TILE, left = of.across * LP_TALL, group = t / left, inside = t - group * left;
    lp_u32 high = down - group * LP_TALL < LP_TALL ? down - group * LP_TALL : LP_TALL, c = inside / high;
    *r0 = (down - 1 - (group * LP_TALL + inside - c * high)) * TILE;
    *unit = c * (TILE / 16);
}

/* the sixteens of a thread in rows 32 j, j0 <= j < j0 + AHEAD, of tile t */
LPREF_FN void fetch(Sixteen *x, const lp_16 *from, const Sides &of, lp_u32 t, int j0) {
    lp_u32 r0, unit;
    place(of, t, &r0, &unit);
    unit += threadIdx.x & 7u;
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
        lp_u32 r = r0 + (threadIdx.x >> 3) + 32 * (j0 + j);
        x[j] = {};
        if (r < of.R && unit < of.units) x[j] = loaded(from + ((lp_i64)r * of.units + unit) * PER_LOAD);
    }
}

extern "C" __global__ void __launch_bounds__(256, LP_RESIDENT) turned(const void *x, lp_u8 *codes, lp_u8 *other, lp_u32 *scale, lp_u32 R, lp_u32 C,
    const lp_rule *rule, const lp_u32 *amax, const float *encode_scale, int measured, lp_u64 *counters, LP_WORDS LP_MORE) {
    __shared__ lp_16 held[2][TILE][TILE / 16];
    Whole of = whole_of(rule, amax, encode_scale, measured, scale);
    Address words = LP_ADDRESS;
    Seen seen = {0, 0, measured ? *amax : 0u, 0.0f};
    const Sides sides = {R, C / 16, (C + TILE - 1) / TILE};
    lp_u32 tiles = (R + TILE - 1) / TILE * sides.across, turn = 0;
#if LP_UNMADE
    const Made made = LP_MADE;
#endif
    Sixteen now[AHEAD], next[AHEAD];
    if (blockIdx.x < tiles) fetch(now, (const lp_16 *)x, sides, blockIdx.x, 0);
    for (lp_u32 t = blockIdx.x; t < tiles; t += gridDim.x, turn ^= 1u) {
        lp_u32 r0, first;
        place(sides, t, &r0, &first);
        lp_u32 k = threadIdx.x & 7u, unit = first + k;
#pragma unroll
        for (int j0 = 0; j0 < 4; j0 += AHEAD) {
            if (j0 + AHEAD < 4) fetch(next, (const lp_16 *)x, sides, t, j0 + AHEAD);
            else if (t + gridDim.x < tiles) fetch(next, (const lp_16 *)x, sides, t + gridDim.x, 0);
#pragma unroll
            for (int j = 0; j < AHEAD; ++j) {
                lp_u32 mine = (threadIdx.x >> 3) + 32 * (j0 + j), r = r0 + mine, w[8];
                if (r >= R || unit >= sides.units) continue;
                lp_i64 at = (lp_i64)r * sides.units + unit;
                words16(w, words, (lp_u32)at);
#if LP_UNMADE
                now[j] = made16(now[j], made, r, 16 * unit);
#endif
                Magnitudes m = magnitudes(now[j]);
                int plain = of.plain, over = of.over;
                if (!measured) {
                    lp_u32 own = settled(largest16(now[j], m));
                    seen.top = lp_umax(seen.top, own);
                    over = may_overflow(own, of.b.factor);
                    plain = short_serves(own, of);
                }
                Codes c, d;
                code16(c, d, now[j], m, of.s, of.b, plain, over, w, seen);
                lp_16 whole = {c.lo, c.hi, d.lo, d.hi};
                *(lp_16 *)(codes + 16 * at) = whole; /* read again soon */
                held[turn][mine][k ^ (mine >> 4)] = whole;
            }
#pragma unroll
            for (int j = 0; j < AHEAD; ++j) now[j] = next[j];
        }
        __syncthreads();
        lp_u32 part = threadIdx.x & 7u, word = threadIdx.x >> 3, c0 = 16 * first + 4 * word, r1 = r0 + 16 * part, w[16];
        if (c0 < C && r1 < R) {
            const lp_u32 *from = (const lp_u32 *)held[turn][16 * part] + (word ^ (4 * part));
#pragma unroll
            for (int i = 0; i < 16; ++i) w[i] = from[i * (TILE / 4)];
#pragma unroll
            for (int i = 0; i < 16; i += 4) turn4(w + i);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                lp_16 whole = {w[j], w[4 + j], w[8 + j], w[12 + j]};
                *(lp_16 *)(other + (lp_i64)(c0 + j) * R + r1) = whole;
            }
        }
    }
    flush(seen, counters);
}

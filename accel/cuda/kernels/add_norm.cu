/* add_norm: a residual addition and the norm of its sum in one read (lpref.ref.nn.add_rmsnorm, add_layernorm; without h, rmsnorm and layernorm). A warp
 * a row (warp_norm.cuh). LP_LAYER: LayerNorm; LP_X, LP_H, LP_Y: what x, h and y are (loads.cuh). LP_TURNED: a block has 16 rows, and
 * the greatest magnitude of y after a Hadamard transform of each 16 is noted too (noting.cuh): rows go through shared memory, 384 columns at a time.
 *
 * Versions: 1. this one, for an addition and a norm apart, whose three passes read one number a load. */
#include "warp_norm.cuh"
#include "noting.cuh"

#ifndef LP_H
#define LP_H 0
#endif

#if LP_TURNED
#define ROWS LP_TURNED
#define RESIDENT (LP_FOURS > 4 ? 1 : 2)
#define TILE 3 /* fours of a row at a time */

/* The greatest magnitude after the transform of a block's rows, one a warp. */
LPREF_FN lp_u32 turned_rows(const float (*v)[4], int n, lp_u32 flips) {
    __shared__ __align__(16) float tile[ROWS][128 * TILE];
    lp_u32 top = 0;
#pragma unroll
    for (int first = 0; first < LP_FOURS; first += TILE) {
        if (first) __syncthreads(); /* the last columns are read */
        each_four(n, [&](int j, int i) {
            if (j >= first && j < first + TILE) give<4, 0>(tile[threadIdx.x / 32], i - 128 * first, v[j]);
        });
        __syncthreads();
        int c = 2 * (int)threadIdx.x;
        if (c < 128 * TILE && c < n - 128 * first) {
            float column[2][ROWS];
#pragma unroll
            for (int i = 0; i < ROWS; ++i) {
                float pair[4];
                take<2, 0>(tile[i], c, pair);
                const lp_u32 sign = flips << (31 - i) & 0x80000000u;
                column[0][i] = lp_float(lp_bits(pair[0]) ^ sign);
                column[1][i] = lp_float(lp_bits(pair[1]) ^ sign);
            }
            top = turned_top<ROWS, ROWS>(turned_top<ROWS, ROWS>(top, column[0]), column[1]);
        }
    }
    return top;
}
#else
#define ROWS 8
#define RESIDENT 1
#endif

/* h, b, mean and s may be null: nothing to add, RMSNorm. counters: peak.cuh, for whole eights (LP_TURNED: sixteens) of rows */
extern "C" __global__ void __launch_bounds__(32 * ROWS, RESIDENT) add_norm(const void *x, const void *h, const float *w, const float *b, lp_i64 rows, int n, float count, float eps,
                                                           void *y, float *mean, float *rstd, float *s, lp_u64 *counters, const float *signs, float factor) {
    lp_i64 r = (lp_i64)blockIdx.x * ROWS + threadIdx.x / 32, at = r * n;
    if (r >= rows) return;
    lp_u32 top = 0;
    float v[LP_FOURS][4], gain[LP_FOURS][4], shift[LP_FOURS][4], m = 0.0f;
    read_row<LP_X>(x, at, n, v);
    if (h) {
        float other[LP_FOURS][4];
        read_row<LP_H>(h, at, n, other);
        read_row<0>(w, 0, n, gain);
        each_four(n, [&](int j, int i) {
#pragma unroll
            for (int k = 0; k < 4; ++k) v[j][k] = lp_add(v[j][k], other[j][k]);
            give<4, 0>(s, at + i, v[j]);
        });
    } else {
        read_row<0>(w, 0, n, gain);
    }
    if (LP_LAYER) {
        read_row<0>(b, 0, n, shift);
        m = lp_div(row_sum_of(n, [&](int j, int k) { return v[j][k]; }), count);
#pragma unroll
        for (int j = 0; j < LP_FOURS; ++j) {
#pragma unroll
            for (int k = 0; k < 4; ++k) v[j][k] = lp_sub(v[j][k], m);
        }
    }
    float d = lp_rsqrt(lp_add(lp_div(row_sum_of(n, [&](int j, int k) { return lp_mul(v[j][k], v[j][k]); }), count), eps));
    if ((threadIdx.x & 31) == 0) {
        rstd[r] = d;
        if (LP_LAYER) mean[r] = m;
    }
    each_four(n, [&](int j, int i) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            v[j][k] = lp_mul(lp_mul(v[j][k], d), gain[j][k]);
            if (LP_LAYER) v[j][k] = lp_add(v[j][k], shift[j][k]);
        }
        give<4, LP_Y>(y, at + i, v[j]);
        seen_in<4>(top, v[j]);
    });
    noted(top, counters);
#if LP_TURNED
    lp_u32 turned = turned_rows(v, n, flips_of<ROWS>(signs));
    noted_turned(lp_bits(lp_mul(lp_float(turned), factor)) & LP_ABS, counters);
#endif
}

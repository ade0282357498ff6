/* add_norm: a residual addition and the norm of its sum in one read (lpref.ref.nn.add_rmsnorm, add_layernorm; without h, rmsnorm and layernorm). A warp
 * a row (warp_norm.cuh). LP_LAYER: LayerNorm; LP_X, LP_H, LP_Y: what x, h and y are (loads.cuh).
 *
 * Versions: 1. this one, for an addition and a norm apart, whose three passes read one number a load. */
#include "peak.cuh"
#include "warp_norm.cuh"

#ifndef LP_H
#define LP_H 0
#endif

/* h, b, mean and s may be null: nothing to add, RMSNorm. counters: peak.cuh, for whole eights of rows */
extern "C" __global__ void __launch_bounds__(256) add_norm(const void *x, const void *h, const float *w, const float *b, lp_i64 rows, int n, float count, float eps,
                                                           void *y, float *mean, float *rstd, float *s, lp_u64 *counters) {
    lp_i64 r = (lp_i64)blockIdx.x * 8 + threadIdx.x / 32, at = r * n;
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
}

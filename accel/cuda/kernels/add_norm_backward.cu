/* add_norm_backward: gradients of a norm, what goes past it added, in one read (lpref.ref.nn.add_rmsnorm_backward, add_layernorm_backward; without
 * past, those of rmsnorm and layernorm): dx, a copy of it in bfloat16, and the sums of lane groups for w and b, which column_sums (reduce.cu) ends.
 *
 * The one sum down a column has 1024 lanes: lane l adds the rows l, l + 1024, ... in order. A warp is a lane, its columns in registers (warp_norm.cuh);
 * a block has the lanes g, g + 128, ..., which are halved in shared memory, so that 128 numbers a column are left.
 * LP_LAYER: LayerNorm; LP_AGAIN: the norm itself is made again, in bfloat16; LP_X, LP_DY: what x and dy are (loads.cuh). Versions: 1. this one, for dx, the columns, the addition and the cast apart. */
#include "peak.cuh"
#include "warp_norm.cuh"

#ifndef LP_AGAIN
#define LP_AGAIN 0
#endif
#define LP_SUMS (LP_LAYER ? 2 : 1)
#define LP_AHEAD (LP_FOURS <= 4) /* the next row on its way while this one is computed; longer rows leave no registers for it */

struct Row {
    float dy[LP_FOURS][4], x[LP_FOURS][4], past[LP_FOURS][4], mean, rstd;
};

struct Held {
    const void *dy, *past, *x;
    const float *mean, *rstd;
};

LPREF_FN void fetch(const Held &of, lp_i64 r, int n, Row &row) {
    read_row<LP_DY>(of.dy, r * n, n, row.dy);
    read_row<LP_X>(of.x, r * n, n, row.x);
    if (of.past) read_row<0>(of.past, r * n, n, row.past);
    row.rstd = of.rstd[r];
    if (LP_LAYER) row.mean = of.mean[r];
}

/* sum[0] and, of LayerNorm, sum[1] <- with the terms of this row; row.x <- its dx; where LP_AGAIN, y <- the norm, which begins at element `at` */
LPREF_FN void gradients(Row &row, int n, float count, const float (*w)[4], float (*sum)[LP_FOURS][4], const float *b, lp_u16 *y, lp_i64 at) {
    each_four(n, [&](int j, int i) {
        float norm[4], shift[4] = {};
        if (LP_AGAIN && LP_LAYER) take<4, 0>(b, i, shift);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            float centred = LP_LAYER ? lp_sub(row.x[j][k], row.mean) : row.x[j][k], dy = row.dy[j][k];
            row.x[j][k] = lp_mul(centred, row.rstd);
            norm[k] = lp_mul(row.x[j][k], w[j][k]);
            if (LP_LAYER) norm[k] = lp_add(norm[k], shift[k]);
            sum[0][j][k] = lp_add(sum[0][j][k], lp_mul(dy, row.x[j][k]));
            if (LP_LAYER) sum[LP_SUMS - 1][j][k] = lp_add(sum[LP_SUMS - 1][j][k], dy);
            row.dy[j][k] = lp_mul(dy, w[j][k]);
        }
        if (LP_AGAIN) give<4, 1>(y, at + i, norm);
    });
    float c1 = LP_LAYER ? lp_div(row_sum_of(n, [&](int j, int k) { return row.dy[j][k]; }), count) : 0.0f;
    float c2 = lp_div(row_sum_of(n, [&](int j, int k) { return lp_mul(row.dy[j][k], row.x[j][k]); }), count);
    each_four(n, [&](int j, int) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            float g = LP_LAYER ? lp_sub(row.dy[j][k], c1) : row.dy[j][k];
            row.x[j][k] = lp_mul(lp_sub(g, lp_mul(row.x[j][k], c2)), row.rstd);
        }
    });
}

/* partial [LP_SUMS, gridDim.x, n]; mean, past and copy may be null, b and y too unless LP_AGAIN; counters: peak.cuh. */
extern "C" __global__ void __launch_bounds__(256) add_norm_backward(const void *dy, const void *past, const void *x, const float *w, const float *mean, const float *rstd,
                                                                    lp_i64 rows, int n, float count, float *dx, lp_u16 *copy, float *partial,
                                                                    const float *b, lp_u16 *y, lp_u64 *counters) {
    __shared__ float lanes[8][LP_WIDE];
    const Held of = {dy, past, x, mean, rstd};
    int warp = (int)threadIdx.x / 32;
    float gain[LP_FOURS][4], sum[LP_SUMS][LP_FOURS][4] = {};
    read_row<0>(w, 0, n, gain);
    Row row, next;
    lp_u32 top = 0;
    lp_i64 r = (lp_i64)blockIdx.x + 128 * warp;
    if (LP_AHEAD && r < rows) fetch(of, r, n, next);
    for (; r < rows; r += 1024) {
        if (LP_AHEAD) {
            row = next;
            if (r + 1024 < rows) fetch(of, r + 1024, n, next);
        } else {
            fetch(of, r, n, row);
        }
        gradients(row, n, count, gain, sum, b, y, r * n);
        each_four(n, [&](int j, int i) {
#pragma unroll
            for (int k = 0; k < 4; ++k) row.x[j][k] = past ? lp_add(row.past[j][k], row.x[j][k]) : row.x[j][k];
            give<4, 0>(dx, r * n + i, row.x[j]);
            seen_in<4>(top, row.x[j]);
            if (copy) give<4, 1>(copy, r * n + i, row.x[j]);
        });
    }
#pragma unroll
    for (int s = 0; s < LP_SUMS; ++s) {
        if (s) __syncthreads(); /* the last ones are read */
        each_four(n, [&](int j, int i) { give<4, 0>(lanes[warp], i, sum[s][j]); });
        __syncthreads();
        for (int c = (int)threadIdx.x; c < n; c += 256) {
            float lane[8];
#pragma unroll
            for (int k = 0; k < 8; ++k) lane[k] = lanes[k][c];
            halve<4>(lane);
            partial[((lp_i64)s * gridDim.x + blockIdx.x) * n + c] = lane[0];
        }
    }
    noted(top, counters);
}

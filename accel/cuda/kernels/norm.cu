/* norm: RMSNorm and LayerNorm, the pages of lpref.ref.nn.norm. A team a row (reduce.cuh); rows are read from the cache after the first pass.
 *
 * Gradients of the weights are column sums: *_columns makes the sums of lane groups, reduce.cu's column_sums ends them.
 * Versions: 1. this one. */
#include "elementary.h"
#include "reduce.cuh"

extern "C" __global__ void __launch_bounds__(LP_BLOCK) rmsnorm(const float *x, const float *w, lp_i64 rows, lp_i64 n, float count, float eps, float *y, float *rstd) {
    LP_ROWS(r, rows) {
        const float *v = x + r * n;
        float squares = row_sum(n, [&](lp_place i) { return lp_mul(v[i], v[i]); });
        float s = lp_rsqrt(lp_add(lp_div(squares, count), eps));
        if (LP_MINE == 0) rstd[r] = s;
        LP_COLUMNS(i, n) y[r * n + i] = lp_mul(lp_mul(v[i], s), w[i]);
    }
}

extern "C" __global__ void __launch_bounds__(LP_BLOCK) rmsnorm_rows(const float *dy, const float *x, const float *w, const float *rstd, lp_i64 rows, lp_i64 n, float count, float *dx) {
    LP_ROWS(r, rows) {
        const float *d = dy + r * n, *v = x + r * n;
        float s = rstd[r];
        float c = lp_div(row_sum(n, [&](lp_place i) { return lp_mul(lp_mul(d[i], w[i]), lp_mul(v[i], s)); }), count);
        LP_COLUMNS(i, n) dx[r * n + i] = lp_mul(lp_sub(lp_mul(d[i], w[i]), lp_mul(lp_mul(v[i], s), c)), s);
    }
}

extern "C" __global__ void __launch_bounds__(256) rmsnorm_columns(const float *dy, const float *x, const float *rstd, lp_i64 rows, lp_i64 n, lp_u32 groups, float *partial) {
    column_groups<1>(1, rows, n, groups, partial, [&](lp_i64, lp_i64 r, lp_i64 c, float *v) { v[0] = lp_mul(dy[r * n + c], lp_mul(x[r * n + c], rstd[r])); });
}

extern "C" __global__ void __launch_bounds__(LP_BLOCK) layernorm(const float *x, const float *w, const float *b, lp_i64 rows, lp_i64 n, float count, float eps, float *y,
                                                             float *mean, float *rstd) {
    LP_ROWS(r, rows) {
        const float *v = x + r * n;
        float m = lp_div(row_sum(n, [&](lp_place i) { return v[i]; }), count);
        float squares = row_sum(n, [&](lp_place i) { return lp_mul(lp_sub(v[i], m), lp_sub(v[i], m)); });
        float s = lp_rsqrt(lp_add(lp_div(squares, count), eps));
        if (LP_MINE == 0) {
            mean[r] = m;
            rstd[r] = s;
        }
        LP_COLUMNS(i, n) y[r * n + i] = lp_add(lp_mul(lp_mul(lp_sub(v[i], m), s), w[i]), b[i]);
    }
}

extern "C" __global__ void __launch_bounds__(LP_BLOCK) layernorm_rows(const float *dy, const float *x, const float *w, const float *mean, const float *rstd, lp_i64 rows, lp_i64 n,
                                                                  float count, float *dx) {
    LP_ROWS(r, rows) {
        const float *d = dy + r * n, *v = x + r * n;
        float m = mean[r], s = rstd[r];
        float c1 = lp_div(row_sum(n, [&](lp_place i) { return lp_mul(d[i], w[i]); }), count);
        float c2 = lp_div(row_sum(n, [&](lp_place i) { return lp_mul(lp_mul(d[i], w[i]), lp_mul(lp_sub(v[i], m), s)); }), count);
        LP_COLUMNS(i, n) {
            float h = lp_mul(lp_sub(v[i], m), s);
            dx[r * n + i] = lp_mul(lp_sub(lp_sub(lp_mul(d[i], w[i]), c1), lp_mul(h, c2)), s);
        }
    }
}

/* both gradients in one read: partial [2, groups, n] for w and b */
extern "C" __global__ void __launch_bounds__(256) layernorm_columns(const float *dy, const float *x, const float *mean, const float *rstd, lp_i64 rows, lp_i64 n, lp_u32 groups,
                                                                    float *partial) {
    column_groups<2>(1, rows, n, groups, partial, [&](lp_i64, lp_i64 r, lp_i64 c, float *v) {
        v[1] = dy[r * n + c];
        v[0] = lp_mul(v[1], lp_mul(lp_sub(x[r * n + c], mean[r]), rstd[r]));
    });
}

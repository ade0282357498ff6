/* norm: RMSNorm and LayerNorm, the pages of lpref.ref.nn.norm. A team a row (reduce.cuh); rows are read from the cache after the first pass.
 *
 * Gradients of the weights are column sums: *_columns makes the sums of lane groups, reduce.cu's column_sums ends them.
 * LP_X, LP_DY, LP_Y: what x, dy and y are (loads.cuh). Versions: 1. float32. 2. bfloat16 too. */
#include "elementary.h"
#include "loads.cuh"
#include "reduce.cuh"

#define X(i) load<LP_X>(x, i)
#define DY(i) load<LP_DY>(dy, i)

extern "C" __global__ void __launch_bounds__(LP_BLOCK) rmsnorm(const void *x, const float *w, lp_i64 rows, lp_i64 n, float count, float eps, void *y, float *rstd) {
    LP_ROWS(r, rows) {
        lp_i64 at = r * n;
        float squares = row_sum(n, [&](lp_place i) { return lp_mul(X(at + i), X(at + i)); });
        float s = lp_rsqrt(lp_add(lp_div(squares, count), eps));
        if (LP_MINE == 0) rstd[r] = s;
        LP_COLUMNS(i, n) store<LP_Y>(y, at + i, lp_mul(lp_mul(X(at + i), s), w[i]));
    }
}

extern "C" __global__ void __launch_bounds__(LP_BLOCK) rmsnorm_rows(const void *dy, const void *x, const float *w, const float *rstd, lp_i64 rows, lp_i64 n, float count, float *dx) {
    LP_ROWS(r, rows) {
        lp_i64 at = r * n;
        float s = rstd[r];
        float c = lp_div(row_sum(n, [&](lp_place i) { return lp_mul(lp_mul(DY(at + i), w[i]), lp_mul(X(at + i), s)); }), count);
        LP_COLUMNS(i, n) dx[r * n + i] = lp_mul(lp_sub(lp_mul(DY(at + i), w[i]), lp_mul(lp_mul(X(at + i), s), c)), s);
    }
}

extern "C" __global__ void __launch_bounds__(256) rmsnorm_columns(const void *dy, const void *x, const float *rstd, lp_i64 rows, lp_i64 n, lp_u32 groups, float *partial) {
    column_groups<1>(1, rows, n, groups, partial, [&](lp_i64, lp_i64 r, lp_i64 c, float *v) { v[0] = lp_mul(DY(r * n + c), lp_mul(X(r * n + c), rstd[r])); });
}

extern "C" __global__ void __launch_bounds__(LP_BLOCK) layernorm(const void *x, const float *w, const float *b, lp_i64 rows, lp_i64 n, float count, float eps, void *y,
                                                             float *mean, float *rstd) {
    LP_ROWS(r, rows) {
        lp_i64 at = r * n;
        float m = lp_div(row_sum(n, [&](lp_place i) { return X(at + i); }), count);
        float squares = row_sum(n, [&](lp_place i) { return lp_mul(lp_sub(X(at + i), m), lp_sub(X(at + i), m)); });
        float s = lp_rsqrt(lp_add(lp_div(squares, count), eps));
        if (LP_MINE == 0) {
            mean[r] = m;
            rstd[r] = s;
        }
        LP_COLUMNS(i, n) store<LP_Y>(y, at + i, lp_add(lp_mul(lp_mul(lp_sub(X(at + i), m), s), w[i]), b[i]));
    }
}

extern "C" __global__ void __launch_bounds__(LP_BLOCK) layernorm_rows(const void *dy, const void *x, const float *w, const float *mean, const float *rstd, lp_i64 rows, lp_i64 n,
                                                                  float count, float *dx) {
    LP_ROWS(r, rows) {
        lp_i64 at = r * n;
        float m = mean[r], s = rstd[r];
        float c1 = lp_div(row_sum(n, [&](lp_place i) { return lp_mul(DY(at + i), w[i]); }), count);
        float c2 = lp_div(row_sum(n, [&](lp_place i) { return lp_mul(lp_mul(DY(at + i), w[i]), lp_mul(lp_sub(X(at + i), m), s)); }), count);
        LP_COLUMNS(i, n) {
            float h = lp_mul(lp_sub(X(at + i), m), s);
            dx[r * n + i] = lp_mul(lp_sub(lp_sub(lp_mul(DY(at + i), w[i]), c1), lp_mul(h, c2)), s);
        }
    }
}

/* both gradients in one read: partial [2, groups, n] for w and b */
extern "C" __global__ void __launch_bounds__(256) layernorm_columns(const void *dy, const void *x, const float *mean, const float *rstd, lp_i64 rows, lp_i64 n, lp_u32 groups,
                                                                    float *partial) {
    column_groups<2>(1, rows, n, groups, partial, [&](lp_i64, lp_i64 r, lp_i64 c, float *v) {
        v[1] = DY(r * n + c);
        v[0] = lp_mul(v[1], lp_mul(lp_sub(X(r * n + c), mean[r]), rstd[r]));
    });
}

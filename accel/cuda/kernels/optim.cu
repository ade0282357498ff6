/* optim: update rules in one pass over a parameter, the pages of lpref.ref.optim.rules; the norm of many gradients; whether all are finite.
 *
 * Scalars are rounded on the host as the definition rounds them. Versions: 1. this one. */
#include "elementary.h"
#include "reduce.cuh"

#define KERNEL extern "C" __global__ void __launch_bounds__(256)

/* order: 0 before, 1 inside, 2 after */
KERNEL adamw(const float *p, const float *g, const float *m, const float *v, lp_i64 n, float b1, float c1, float b2, float c2, float a, float r, float eps, float lr, float wd,
             float lrwd, int order, float *delta, float *m_new, float *v_new) {
    LP_EACH(i, n) {
        float m2 = lp_add(lp_mul(b1, m[i]), lp_mul(c1, g[i])), v2 = lp_add(lp_mul(b2, v[i]), lp_mul(c2, lp_mul(g[i], g[i])));
        float s = lp_div(lp_mul(a, m2), lp_add(lp_mul(lp_sqrt(v2), r), eps)), d;
        if (order == 0) d = lp_add(lp_mul(lrwd, p[i]), s);
        else if (order == 1) d = lp_mul(lr, lp_add(s, lp_mul(wd, p[i])));
        else d = lp_add(s, lp_mul(lrwd, lp_sub(p[i], s)));
        delta[i] = lp_neg(d);
        m_new[i] = m2;
        v_new[i] = v2;
    }
}

/* momentum: 0 none, 1 the first step, 2 a running buffer */
KERNEL sgd(const float *p, const float *g, const float *b, lp_i64 n, float lr, float mu, float e, float wd, int decay, int nesterov, int momentum, float *delta, float *b_new) {
    LP_EACH(i, n) {
        float h = decay ? lp_add(g[i], lp_mul(wd, p[i])) : g[i], u = h;
        if (momentum) {
            float next = momentum == 1 ? h : lp_add(lp_mul(mu, b[i]), lp_mul(e, h));
            b_new[i] = next;
            u = nesterov ? lp_add(h, lp_mul(mu, next)) : next;
        }
        delta[i] = lp_neg(lp_mul(lr, u));
    }
}

KERNEL lion(const float *p, const float *g, const float *m, lp_i64 n, float lr, float b1, float c1, float b2, float c2, float wd, float *delta, float *m_new) {
    LP_EACH(i, n) {
        float c = lp_add(lp_mul(b1, m[i]), lp_mul(c1, g[i]));
        delta[i] = lp_neg(lp_mul(lr, lp_add(lp_sign(c), lp_mul(wd, p[i]))));
        m_new[i] = lp_add(lp_mul(b2, m[i]), lp_mul(c2, g[i]));
    }
}

/* arrays: pointer and size of each. A block an array: the sum of its squares. */
extern "C" __global__ void __launch_bounds__(LP_BLOCK) squares(const lp_u64 *arrays, lp_i64 count, float *sums) {
    LP_ROWS(r, count) {
        const float *x = (const float *)arrays[2 * r];
        float sum = row_sum((lp_i64)arrays[2 * r + 1], [&](lp_place i) { return lp_mul(x[i], x[i]); });
        if (LP_MINE == 0) sums[r] = sum;
    }
}

/* the root of the sum of the sums */
extern "C" __global__ void __launch_bounds__(LP_BLOCK) norm_of(const float *sums, lp_i64 count, float *out) {
    float sum = row_sum(count, [&](lp_place i) { return sums[i]; });
    if (LP_MINE == 0) *out = lp_sqrt(sum);
}

/* seen: set to 1 where anything is NaN or infinite */
extern "C" __global__ void __launch_bounds__(LP_BLOCK) nonfinite(const lp_u64 *arrays, lp_i64 count, lp_u32 *seen) {
    for (lp_i64 r = blockIdx.y; r < count; r += gridDim.y) {
        const lp_u32 *x = (const lp_u32 *)arrays[2 * r];
        int bad = 0;
#pragma unroll 8
        LP_EACH(i, (lp_i64)arrays[2 * r + 1]) bad |= (x[i] & LP_ABS) >= LP_INF;
        if (bad) *seen = 1;
    }
}

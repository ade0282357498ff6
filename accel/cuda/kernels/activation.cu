/* activation: the pages of lpref.ref.nn.activation in one pass each; elementary functions in float64, rounded once.
 *
 * Constants come from the host, rounded as the definition rounds them: gelu's (a, b, 3 b) or (sqrt(1/2), 1 / sqrt(2 pi), 0).
 * swiglu: gate g[r pitch + j] and value u[r pitch + j], so that halves of one array are read in place. Versions: 1. this one. */
#include "elementary.h"
#include "reduce.cuh"

#define KERNEL extern "C" __global__ void __launch_bounds__(256)

/* relu: values x; relu_backward: values dy */
KERNEL relu(const float *values, const float *x, lp_i64 n, float *y) {
    LP_EACH(i, n) y[i] = x[i] <= 0.0f ? 0.0f : values[i];
}

LPREF_FN float silu_slope(float x, float s) { return lp_mul(s, lp_add(1.0f, lp_mul(x, lp_sub(1.0f, s)))); }

KERNEL silu(const float *x, lp_i64 n, float *y) {
    LP_EACH(i, n) y[i] = lp_mul(x[i], lp_sigmoid(x[i]));
}

KERNEL silu_backward(const float *dy, const float *x, lp_i64 n, float *dx) {
    LP_EACH(i, n) dx[i] = lp_mul(dy[i], silu_slope(x[i], lp_sigmoid(x[i])));
}

LPREF_FN float gelu_inner(float x, float a, float b) { return lp_tanh(lp_mul(a, lp_add(x, lp_mul(b, lp_mul(lp_mul(x, x), x))))); }

KERNEL gelu_tanh(const float *x, lp_i64 n, float a, float b, float b3, float *y) {
    LP_EACH(i, n) y[i] = lp_mul(lp_mul(0.5f, x[i]), lp_add(1.0f, gelu_inner(x[i], a, b)));
}

KERNEL gelu_erf(const float *x, lp_i64 n, float root, float density, float unused, float *y) {
    LP_EACH(i, n) y[i] = lp_mul(lp_mul(0.5f, x[i]), lp_add(1.0f, lp_erf(lp_mul(x[i], root))));
}

KERNEL gelu_tanh_backward(const float *dy, const float *x, lp_i64 n, float a, float b, float b3, float *dx) {
    LP_EACH(i, n) {
        float v = x[i], t = gelu_inner(v, a, b);
        float slope = lp_mul(lp_sub(1.0f, lp_mul(t, t)), lp_mul(a, lp_add(1.0f, lp_mul(b3, lp_mul(v, v)))));
        dx[i] = lp_mul(dy[i], lp_add(lp_mul(0.5f, lp_add(1.0f, t)), lp_mul(lp_mul(0.5f, v), slope)));
    }
}

KERNEL gelu_erf_backward(const float *dy, const float *x, lp_i64 n, float root, float density, float unused, float *dx) {
    LP_EACH(i, n) {
        float v = x[i], t = lp_erf(lp_mul(v, root)), bell = lp_exp(lp_mul(lp_mul(-0.5f, v), v));
        dx[i] = lp_mul(dy[i], lp_add(lp_mul(0.5f, lp_add(1.0f, t)), lp_mul(v, lp_mul(density, bell))));
    }
}

/* where element i < n of [rows, width] lies in rows of `pitch` */
LPREF_FN lp_i64 pitched(lp_i64 i, lp_i64 n, lp_i64 width, lp_i64 pitch) {
    if (width == pitch) return i;
    lp_i64 r = n >> 31 ? i / width : (lp_i64)((lp_u32)i / (lp_u32)width);
    return i + r * (pitch - width);
}

KERNEL swiglu(const float *g, const float *u, lp_i64 n, lp_i64 width, lp_i64 pitch, float *y) {
    LP_EACH(i, n) {
        lp_i64 at = pitched(i, n, width, pitch);
        float x = g[at];
        y[i] = lp_mul(lp_mul(x, lp_sigmoid(x)), u[at]);
    }
}

KERNEL swiglu_backward(const float *dy, const float *g, const float *u, lp_i64 n, lp_i64 width, lp_i64 pitch, float *dg, float *du) {
    LP_EACH(i, n) {
        lp_i64 at = pitched(i, n, width, pitch);
        float x = g[at], s = lp_sigmoid(x), d = dy[i];
        dg[at] = lp_mul(lp_mul(d, u[at]), silu_slope(x, s));
        du[at] = lp_mul(d, lp_mul(x, s));
    }
}

/* GELU by tanh, lpref.ref.nn.gelu. */
#include "decided.h"

/* t = tanh(a (x + b x^3)) of N elements */
template <int N> LPREF_FN void gelu_inner(const float *x, float a, float b, float *t) {
    float u[4];
#pragma unroll
    for (int k = 0; k < N; ++k) u[k] = lp_mul(a, lp_add(x[k], lp_mul(b, lp_mul(lp_mul(x[k], x[k]), x[k]))));
    lp_each<lp_Tanh, N>(u, t);
}

/* x / 2 (1 + t) */
template <int N> LPREF_FN void gelu_of(const float *x, float a, float b, float *y) {
    float t[4];
    gelu_inner<N>(x, a, b, t);
#pragma unroll
    for (int k = 0; k < N; ++k) y[k] = lp_mul(lp_mul(0.5f, x[k]), lp_add(1.0f, t[k]));
}

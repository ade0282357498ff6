/* exp, tanh and sigmoid with the bits of elementary.h in about a third of its operations.
 *
 * A definition is a float64 value D, rounded once to float32. Here a shorter sequence (fused multiply-adds, polynomials of degree 8 and 7) makes a
 * value V with |V - D| <= eps D. Where no midpoint of two float32 lies within eps V of V, V and D round alike, and the result is known ("decided");
 * midpoints of normal float32 have the lower 29 bits 2^28 of a float64, so that is one test of an integer. Elsewhere (one number in 2^14 for exp and
 * sigmoid, in 2^12 for tanh; arguments where the result is not normal; NaN) the definition is computed.
 *
 * eps. All polynomials interpolate at Chebyshev's points; the truncated series of e^(cx) on |x| <= 1 leaves 2 sum I_n(c) < 2 (c/2)^n / n! (1 + c).
 *   exp      |r| <= 0.3466, degree 8: 7.8e-13 of 0.707 at least, 1.1e-12 (2^-39.7). The reduction's log 2 in one piece: k 2^-55 2^7 < 2^-47; nine
 *            roundings of 2^-53; the definition's own error is below 2^-43 (lpref.ref.elementary). Together 1.4e-12 < 2^-39.
 *   sigmoid  1 / (1 + E), E = exp(-x): the relative error is at most E's, and E's share of it E / (1 + E) <= 1. 2^-39.
 *   tanh     w = e^r - 1 = h G(h), h = r / 2, G of degree 7: 2^-37.5 of w. u = 2^k w + (2^k - 1), tanh = u / (u + 2): the error of w reaches tanh
 *            times 2^k |w| / |u| 2 / (u + 2) <= 1.18 (at k = 1, r = -0.3466). 2^-37.2 and roundings: below 2^-37.
 * Quotients: a reciprocal y of few bits, e = 1 - d y computed exactly enough by one fma, y (1 + e + e^2) leaves e^3; |e| < 2^-15 is tested, so
 * nothing is trusted about the unit that gives y. tests/gpu compares all 2^32 arguments of each function with the definition.
 *
 * LP_NEAR 1, for grade fast: `near` in float32 by the units for 2^x and 1 / x, whose errors are at most 2^-22 and 2^-23 of the value (PTX ISA,
 * ex2.approx.ftz.f32 and rcp.approx.ftz.f32; results below 2^-126 are 0). What follows from them is the page lpref.ref.nn.bounds. */
#ifndef LPREF_CORE_DECIDED_H
#define LPREF_CORE_DECIDED_H
#include "elementary.h"

#ifdef __CUDACC_RTC__
#define LPREF_RARE static __device__ __noinline__
#define LP_UNROLLED _Pragma("unroll")
LPREF_FN double lp_reciprocal_seed(double d) {
    double y;
    asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(y) : "d"(d));
    return y;
}
LPREF_FN float lp_near_exp(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(lp_mul(x, 1.44269504f)));
    return y;
}
LPREF_FN float lp_near_reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#else
#define LPREF_RARE static inline
#define LP_UNROLLED
LPREF_FN double lp_reciprocal_seed(double d) { return (double)(1.0f / (float)d); }
LPREF_FN float lp_near_exp(float x) { return lp_narrow(lp_exp2_64((double)lp_mul(x, 1.44269504f))); }
LPREF_FN float lp_near_reciprocal(float x) { return lp_div(1.0f, x); }
#endif

#ifndef LP_NEAR
#define LP_NEAR 0
#endif

/* whether no midpoint of normal float32 lies within slack 2^-52 2^exponent(v) of v; slack = eps 2^53 */
LPREF_FN bool lp_away(double v, lp_u32 slack) { return ((lp_u32)lp_dbits(v) << 3) - ((0x10000000u - slack) << 3) > slack << 4; }

/* 1 / d times what the caller multiplies: y and p with 1 / d = y + y p; whether they serve */
LPREF_FN bool lp_reciprocal(double d, double *y, double *p) {
    *y = lp_reciprocal_seed(d);
    double e = lp_dfma(-d, *y, 1.0);
    *p = lp_dfma(e, e, e);
    return (lp_dbits(e) >> 32 & 0x7FFFFFFF) < 0x3F000000; /* 2^-15 */
}

#define LP_FUSED(c) p = lp_dfma(p, z, (c));
/* e^x, |x| <= 87 */
LPREF_FN double lp_exp_short(double x) {
    double t = lp_dfma(x, LP_LOG2_E, LP_MAGIC), k = lp_dsub(t, LP_MAGIC), z = lp_dfma(k, -0.6931471805599453, x), p = 2.4876164165064054e-05;
    LP_FUSED(0.00019915867069298518) LP_FUSED(0.0013888821677373743) LP_FUSED(0.008333266097692854) LP_FUSED(0.041666666890958284)
    LP_FUSED(0.1666666689104706) LP_FUSED(0.49999999999797934) LP_FUSED(0.9999999999797851) LP_FUSED(1.0)
    return lp_double((lp_i64)((lp_u64)lp_dbits(p) + ((lp_u64)lp_dbits(t) << 52)));
}

/* (e^r - 1) / h of h = r / 2 */
LPREF_FN double lp_expm1_short(double z) {
    double p = 0.006366174798405267;
    LP_FUSED(0.025481688879992928) LP_FUSED(0.08888857030644456) LP_FUSED(0.2666650732325884) LP_FUSED(0.6666666685802627)
    LP_FUSED(1.3333333429047418) LP_FUSED(1.9999999999982043) LP_FUSED(1.999999999991018)
    return p;
}

/* Each function: `decided` gives y and whether it is the definition's; `defined` is the definition; `near` is near it. */
struct lp_Exp {
    static LPREF_MEMBER bool decided(float x, float *y) {
        double v = lp_exp_short((double)x);
        *y = lp_narrow(v);
        return (lp_float(lp_bits(x) & LP_ABS) <= 87.0f) & lp_away(v, 1u << 14);
    }
    static LPREF_MEMBER float defined(float x) { return lp_exp(x); }
    static LPREF_MEMBER float near(float x) { return lp_near_exp(x); }
};

struct lp_Sigmoid {
    static LPREF_MEMBER bool decided(float x, float *y) {
        double scale, rest, e = lp_exp_short((double)-x);
        bool serves = lp_reciprocal(lp_dadd(e, 1.0), &scale, &rest);
        double v = lp_dfma(scale, rest, scale);
        *y = lp_narrow(v);
        return (lp_float(lp_bits(x) & LP_ABS) <= 87.0f) & serves & lp_away(v, 1u << 14);
    }
    static LPREF_MEMBER float defined(float x) { return lp_sigmoid(x); }
    static LPREF_MEMBER float near(float x) { return lp_near_reciprocal(lp_add(1.0f, lp_near_exp(-x))); }
};

/* below 2^-13, tanh x = x (1 - x^2 / 3 + ...) is nearest to x, and so is the definition's value */
struct lp_Tanh {
    static LPREF_MEMBER bool decided(float x, float *y) {
        float size = lp_float(lp_bits(x) & LP_ABS);
        double a = (double)lp_min(size, 22.0f), t = lp_dfma(a, 2.0 * LP_LOG2_E, LP_MAGIC), k = lp_dsub(t, LP_MAGIC);
        double h = lp_dfma(k, -0.34657359027997264, a), w = lp_dmul(h, lp_expm1_short(h)), scale, rest;
        double power = lp_double((lp_i64)((lp_u64)(lp_dbits(t) + 1023) << 52)), u = lp_dfma(power, w, lp_dsub(power, 1.0));
        bool serves = lp_reciprocal(lp_dadd(u, 2.0), &scale, &rest);
        double q = lp_dmul(u, scale), v = lp_dfma(q, rest, q);
        bool tiny = size < 0.0001220703125f;
        *y = tiny ? x : lp_float(lp_bits(lp_narrow(v)) | (lp_bits(x) & ~LP_ABS));
        return tiny | ((x == x) & serves & lp_away(v, 1u << 16));
    }
    static LPREF_MEMBER float defined(float x) { return lp_tanh(x); }
    static LPREF_MEMBER float near(float x) { return lp_sub(1.0f, lp_mul(2.0f, lp_near_reciprocal(lp_add(1.0f, lp_near_exp(lp_mul(2.0f, x)))))); }
};

template <class F> LPREF_RARE float lp_settle(float x) {
    float y;
    return F::decided(x, &y) ? y : F::defined(x);
}

/* y[i] = F(x[i]), i < N; y may be x */
template <class F, int N> LPREF_FN void lp_each(const float *x, float *y) {
#if LP_NEAR
    LP_UNROLLED
    for (int i = 0; i < N; ++i) y[i] = F::near(x[i]);
#else
    float made[N];
    bool all = true;
    LP_UNROLLED
    for (int i = 0; i < N; ++i) all &= F::decided(x[i], &made[i]);
    if (!all) {
        LP_UNROLLED
        for (int i = 0; i < N; ++i) made[i] = lp_settle<F>(x[i]);
    }
    LP_UNROLLED
    for (int i = 0; i < N; ++i) y[i] = made[i];
#endif
}

#endif

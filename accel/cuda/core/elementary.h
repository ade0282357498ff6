/* The elementary functions of lpref.ref.elementary: the same float64 sequences, operation by operation, and one rounding to float32.
 *
 * lp_exp64, ... take and return float64; lp_exp, ... are the float32 functions. A polynomial is Horner's rule, highest power first, one
 * multiplication and one addition a step (LP_STEP). Coefficients are quotients that the compiler rounds as Python rounds them. Shifts of
 * exponents are unsigned: where an argument is NaN they shift garbage, which NaN times anything hides. */
#ifndef LPREF_CORE_ELEMENTARY_H
#define LPREF_CORE_ELEMENTARY_H
#include "base.h"

#define LP_MAGIC 6755399441055744.0 /* 1.5 2^52 */
#define LP_MAGIC_BITS 0x4338000000000000ll
#define LP_LOG2_E 1.4426950408889634
#define LP_LN2_HIGH 6.93147180369123816490e-01
#define LP_LN2_LOW 1.90821492927058770002e-10
#define LP_DNAN lp_double(0x7FF8000000000000ll)
#define LP_DINF lp_double(0x7FF0000000000000ll)
#define LP_STEP(c) p = lp_dadd(lp_dmul(p, z), (c));

LPREF_FN double lp_dabs(double x) { return lp_double(lp_dbits(x) & 0x7FFFFFFFFFFFFFFFll); }
LPREF_FN double lp_dneg(double x) { return lp_double((lp_i64)((lp_u64)lp_dbits(x) ^ 0x8000000000000000ull)); }
LPREF_FN double lp_dcopysign(double x, double s) {
    return lp_double((lp_i64)(((lp_u64)lp_dbits(x) & 0x7FFFFFFFFFFFFFFFull) | ((lp_u64)lp_dbits(s) & 0x8000000000000000ull)));
}

/* 2^k, k in -1022 .. 1023 */
LPREF_FN double lp_dpower(lp_i64 k) { return lp_double((lp_i64)((lp_u64)(k + 1023) << 52)); }

/* p 2^k in two steps: one rounding, where the result is subnormal */
LPREF_FN double lp_dscale(double p, lp_i64 k) {
    lp_i64 half = k >> 1;
    return lp_dmul(lp_dmul(p, lp_dpower(half)), lp_dpower(k - half));
}

LPREF_FN double lp_dclamp(double x, double low, double high) {
    x = x > high ? high : x;
    return x < low ? low : x;
}

/* sum z^(n-1) / n!, n = 1 .. 11 */
LPREF_FN double lp_exp_tail(double z) {
    double p = 1.0 / 39916800.0;
    LP_STEP(1.0 / 3628800.0) LP_STEP(1.0 / 362880.0) LP_STEP(1.0 / 40320.0) LP_STEP(1.0 / 5040.0) LP_STEP(1.0 / 720.0)
    LP_STEP(1.0 / 120.0) LP_STEP(1.0 / 24.0) LP_STEP(1.0 / 6.0) LP_STEP(0.5) LP_STEP(1.0)
    return p;
}

/* k = rint(x / log 2), the remainder */
LPREF_FN lp_i64 lp_reduce_exp(double x, double *r) {
    double t = lp_dadd(lp_dmul(x, LP_LOG2_E), LP_MAGIC), k = lp_dsub(t, LP_MAGIC);
    *r = lp_dsub(lp_dsub(x, lp_dmul(k, LP_LN2_HIGH)), lp_dmul(k, LP_LN2_LOW));
    return lp_dbits(t) - LP_MAGIC_BITS;
}

LPREF_FN double lp_exp64(double x) {
    double z;
    lp_i64 k = lp_reduce_exp(lp_dclamp(x, -746.0, 710.0), &z);
    double p = lp_exp_tail(z);
    LP_STEP(1.0)
    return lp_dscale(p, k);
}

LPREF_FN double lp_exp2_64(double x) {
    x = lp_dclamp(x, -1076.0, 1025.0);
    double t = lp_dadd(x, LP_MAGIC), z = lp_dmul(lp_dsub(x, lp_dsub(t, LP_MAGIC)), 0.6931471805599453);
    double p = lp_exp_tail(z);
    LP_STEP(1.0)
    return lp_dscale(p, lp_dbits(t) - LP_MAGIC_BITS);
}

/* e, and log(m), of x = 2^e m, m in [sqrt(1/2), sqrt(2)) */
LPREF_FN double lp_split_log(double x, double *log_m) {
    int small = x < 2.2250738585072014e-308;
    lp_i64 bits = lp_dbits(small ? lp_dmul(x, 18014398509481984.0) : x), e = (bits - 0x3FE6A09E667F3BCDll) >> 52;
    double m = lp_double((lp_i64)((lp_u64)bits - ((lp_u64)e << 52))), f = lp_ddiv(lp_dsub(m, 1.0), lp_dadd(m, 1.0)), z = lp_dmul(f, f);
    double p = 2.0 / 19.0;
    LP_STEP(2.0 / 17.0) LP_STEP(2.0 / 15.0) LP_STEP(2.0 / 13.0) LP_STEP(2.0 / 11.0) LP_STEP(2.0 / 9.0)
    LP_STEP(2.0 / 7.0) LP_STEP(2.0 / 5.0) LP_STEP(2.0 / 3.0) LP_STEP(2.0)
    *log_m = lp_dmul(f, p);
    return lp_dsub((double)e, small ? 54.0 : 0.0);
}

LPREF_FN double lp_log_specials(double x, double value) {
    value = x > 0.0 ? value : LP_DNAN;
    value = x == 0.0 ? -LP_DINF : value;
    return x == LP_DINF ? x : value;
}

LPREF_FN double lp_log64(double x) {
    double log_m, e = lp_split_log(x, &log_m);
    return lp_log_specials(x, lp_dadd(lp_dmul(e, LP_LN2_HIGH), lp_dadd(lp_dmul(e, LP_LN2_LOW), log_m)));
}

LPREF_FN double lp_log2_64(double x) {
    double log_m, e = lp_split_log(x, &log_m);
    return lp_log_specials(x, lp_dadd(e, lp_dmul(log_m, LP_LOG2_E)));
}

/* rint: from 2^52 on every value is an integer */
LPREF_FN double lp_drint(double x) {
    double a = lp_dabs(x);
    return a < 4503599627370496.0 ? lp_dcopysign(lp_dsub(lp_dadd(a, 4503599627370496.0), 4503599627370496.0), x) : x;
}

LPREF_FN double lp_pow64(double x, double y) {
    double p = lp_exp64(lp_dmul(y, lp_log64(lp_dabs(x)))), half = lp_dmul(y, 0.5);
    p = (y == 0.0 || x == 1.0 || (x == -1.0 && lp_dabs(y) == LP_DINF)) ? 1.0 : p;
    int whole = lp_drint(y) == y, odd = whole && lp_drint(half) != half;
    p = lp_dbits(x) < 0 && odd ? lp_dneg(p) : p;
    return x < 0.0 && x > -LP_DINF && !whole ? LP_DNAN : p;
}

/* sin(x + quarter pi / 2), |x| <= 2^20, else NaN */
LPREF_FN double lp_trig(double x, lp_i64 quarter) {
    int inside = lp_dabs(x) <= 1048576.0;
    x = inside ? x : 0.0;
    double t = lp_dadd(lp_dmul(x, 0.6366197723675814), LP_MAGIC), k = lp_dsub(t, LP_MAGIC);
    lp_i64 q = lp_dbits(t) + quarter;
    double r = lp_dsub(lp_dsub(lp_dsub(x, lp_dmul(k, 1.57079632673412561417e00)), lp_dmul(k, 6.07710050630396597660e-11)),
                       lp_dmul(k, 2.02226624879595063154e-21));
    double z = lp_dmul(r, r), p = -1.0 / 1307674368000.0, sine;
    LP_STEP(1.0 / 6227020800.0) LP_STEP(-1.0 / 39916800.0) LP_STEP(1.0 / 362880.0) LP_STEP(-1.0 / 5040.0)
    LP_STEP(1.0 / 120.0) LP_STEP(-1.0 / 6.0) LP_STEP(1.0)
    sine = lp_dmul(r, p);
    p = -1.0 / 87178291200.0;
    LP_STEP(1.0 / 479001600.0) LP_STEP(-1.0 / 3628800.0) LP_STEP(1.0 / 40320.0) LP_STEP(-1.0 / 720.0)
    LP_STEP(1.0 / 24.0) LP_STEP(-1.0 / 2.0) LP_STEP(1.0)
    double value = (q & 1) == 0 ? sine : p;
    value = (q & 2) == 0 ? value : lp_dneg(value);
    return inside ? value : LP_DNAN;
}

LPREF_FN double lp_sin64(double x) { return x == 0.0 ? x : lp_trig(x, 0); }
LPREF_FN double lp_cos64(double x) { return lp_trig(x, 1); }

LPREF_FN double lp_tanh64(double x) {
    double a = lp_dabs(x), z;
    lp_i64 k = lp_reduce_exp(lp_dmul(2.0, a > 22.0 ? 22.0 : a), &z);
    double scale = lp_dpower(k), u = lp_dadd(lp_dmul(scale, lp_dmul(z, lp_exp_tail(z))), lp_dsub(scale, 1.0));
    return lp_dcopysign(lp_ddiv(u, lp_dadd(u, 2.0)), x);
}

LPREF_FN double lp_sigmoid64(double x) {
    double e = lp_exp64(lp_dneg(lp_dabs(x)));
    return lp_ddiv(x >= 0.0 ? 1.0 : e, lp_dadd(1.0, e));
}

/* erf(x), |x| <= 1: x 2 / sqrt(pi) sum (-1)^n z^n / (n! (2n + 1)), z = x^2 */
LPREF_FN double lp_erf_near(double x) {
    double z = lp_dmul(x, x), p = 1.0 / 690452066304000.0;
    LP_STEP(-1.0 / 40537905408000.0) LP_STEP(1.0 / 2528170444800.0) LP_STEP(-1.0 / 168129561600.0) LP_STEP(1.0 / 11975040000.0)
    LP_STEP(-1.0 / 918086400.0) LP_STEP(1.0 / 76204800.0) LP_STEP(-1.0 / 6894720.0) LP_STEP(1.0 / 685440.0) LP_STEP(-1.0 / 75600.0)
    LP_STEP(1.0 / 9360.0) LP_STEP(-1.0 / 1320.0) LP_STEP(1.0 / 216.0) LP_STEP(-1.0 / 42.0) LP_STEP(1.0 / 10.0) LP_STEP(-1.0 / 3.0) LP_STEP(1.0)
    return lp_dmul(x, lp_dmul(1.1283791670955126, p));
}

LPREF_FN double lp_erf64(double x) {
    double a = lp_dabs(x), near = lp_erf_near(a <= 1.0 ? x : 0.0), y = a > 6.0 ? 6.0 : a;
    double z = lp_ddiv(lp_dsub(y, 2.5), lp_dadd(y, 2.5)), p = -2.049661327165629e-06;
    LP_STEP(6.527899731555253e-06) LP_STEP(1.8500135323518246e-05) LP_STEP(-3.394161989919106e-05) LP_STEP(-0.00012885536297896856)
    LP_STEP(0.00022835195229831807) LP_STEP(0.0008759134194222215) LP_STEP(-0.002642364228173744) LP_STEP(-0.003993701073826426)
    LP_STEP(0.03992253902486248) LP_STEP(-0.12503305238060552) LP_STEP(0.251713193218007) LP_STEP(-0.37173673394896367) LP_STEP(0.2108063640611426)
    double far = lp_dsub(1.0, lp_dmul(lp_exp64(lp_dneg(lp_dmul(y, y))), p));
    return a <= 1.0 ? near : lp_dcopysign(far, x);
}

LPREF_FN float lp_exp(float x) { return lp_narrow(lp_exp64((double)x)); }
LPREF_FN float lp_exp2(float x) { return lp_narrow(lp_exp2_64((double)x)); }
LPREF_FN float lp_log(float x) { return lp_narrow(lp_log64((double)x)); }
LPREF_FN float lp_log2(float x) { return lp_narrow(lp_log2_64((double)x)); }
LPREF_FN float lp_sin(float x) { return lp_narrow(lp_sin64((double)x)); }
LPREF_FN float lp_cos(float x) { return lp_narrow(lp_cos64((double)x)); }
LPREF_FN float lp_tanh(float x) { return lp_narrow(lp_tanh64((double)x)); }
LPREF_FN float lp_sigmoid(float x) { return lp_narrow(lp_sigmoid64((double)x)); }
LPREF_FN float lp_erf(float x) { return lp_narrow(lp_erf64((double)x)); }
LPREF_FN float lp_rsqrt(float x) { return lp_narrow(lp_ddiv(1.0, lp_dsqrt((double)x))); }

/* Selections and signs of float32, as NumPy on x86: NaN wins, of two equal numbers (zeros of either sign) the second. */
LPREF_FN float lp_maximum(float a, float b) { return (a > b || a != a) ? a : b; }
LPREF_FN float lp_minimum(float a, float b) { return (a < b || a != a) ? a : b; }
LPREF_FN float lp_neg(float x) { return lp_float(lp_bits(x) ^ 0x80000000u); }
LPREF_FN float lp_magnitude(float x) { return lp_float(lp_bits(x) & LP_ABS); }
/* to the nearest integer, even at ties: adding 2^23 leaves no room for a fraction; -0 stays -0 */
LPREF_FN float lp_rint(float x) {
    float m = lp_magnitude(x);
    return m < 8388608.0f ? lp_float(lp_bits(lp_sub(lp_add(m, 8388608.0f), 8388608.0f)) | (lp_bits(x) & 0x80000000u)) : x;
}
LPREF_FN float lp_sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x == 0.0f ? 0.0f : x; }

#endif

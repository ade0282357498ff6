/* Scales of a block from its statistics, float32 in the order of their pages in lpref.ref.scaling: bfp, coat, two_eps, shift (from amax);
 * moments, deviation, center, affine, minmax, s2fp8 (from sums and extremes); overflow_rate, double_rounding (from a state). And `lp_scaled`: what an
 * element is before it is cast, where that is no plain quotient. */
#ifndef LPREF_CORE_RULES_H
#define LPREF_CORE_RULES_H
#include "elementary.h"
#include "scales.h"

#define LP_TINIEST lp_float(1u)

/* A block's scale and what some rules add: `offset` is subtracted before scaling, `zero` added to the rounded quotient. */
typedef struct {
    lp_scale scale;
    float offset;
    lp_i32 zero;
} lp_level;

LPREF_FN int lp_finite(float x) { return (lp_bits(x) & LP_ABS) < LP_INF; }
LPREF_FN float lp_floor(float x) {
    float r = lp_rint(x);
    return r > x ? lp_sub(r, 1.0f) : r;
}
/* np.clip */
LPREF_FN float lp_clip(float x, float low, float high) { return lp_minimum(lp_maximum(x, low), high); }

/* s as it is, with the factor of `apply` */
LPREF_FN lp_scale lp_applied(float s, int inverse) {
    lp_scale r = {lp_bits(s), s, s};
    if (inverse) r.factor = lp_minimum(lp_div(1.0f, s), lp_float(LP_FLT_MAX));
    return r;
}

/* 2^e as E8M0, NaN where not good */
LPREF_FN lp_scale lp_octave(lp_i32 e, int good) {
    lp_scale r = {255u, lp_float(LP_NAN), lp_float(LP_NAN)};
    if (good) {
        e = lp_imin(lp_imax(e, -127), 127);
        r.code = (lp_u32)(e + 127);
        r.value = r.factor = lp_power(e);
    }
    return r;
}

/* ceil: HBFP's; magnitude bits m */
LPREF_FN lp_scale lp_bfp_scale(float amax, float eps, int ceil, lp_i32 m) {
    int good = lp_finite(amax);
    float a = lp_minimum(lp_add(good ? amax : 0.0f, eps), lp_float(LP_FLT_MAX));
    lp_u32 fraction = 0;
    lp_i32 e = a == 0.0f ? -149 : lp_exponent(a, &fraction) + 1;
    if (a != 0.0f && ceil && fraction == 0) e -= 1;
    return lp_octave(e - m, good);
}

LPREF_FN lp_scale lp_coat_scale(float amax, float eps, float target) {
    float a = lp_add(amax, eps), s = a == 0.0f ? 1.0f : lp_maximum(lp_div(a, target), LP_TINIEST);
    return lp_applied(lp_bits(a) == LP_INF ? lp_float(LP_NAN) : s, 0);
}

LPREF_FN lp_scale lp_two_eps_scale(float amax, float eps, float target) {
    float factor = lp_div(target, lp_add(amax, eps));
    factor = (lp_bits(factor) & LP_ABS) == LP_INF ? 1.0f : factor;
    float value = lp_finite(amax) ? lp_div(1.0f, lp_add(factor, eps)) : lp_float(LP_NAN);
    lp_scale r = {lp_bits(value), value, factor};
    return r;
}

/* x 2^-g, rounded once */
LPREF_FN float lp_shifted(float x, lp_i32 g) { return lp_narrow(lp_dmul((double)x, lp_double((lp_i64)(1023 - lp_imin(g, 1000)) << 52))); }

LPREF_FN lp_scale lp_shift_scale(float amax, float tensor, float target, lp_i32 group) {
    float s = tensor == 0.0f ? 1.0f : lp_maximum(lp_div(tensor, target), LP_TINIEST);
    lp_i32 shifts = 0;
    for (lp_i32 g = 1; g < group; ++g) shifts += amax <= lp_shifted(tensor, g);
    return lp_applied(lp_finite(tensor) ? lp_maximum(lp_shifted(s, shifts), LP_TINIEST) : lp_float(LP_NAN), 0);
}

/* The state's scale, or where it is 0 the one that fits the tensor. */
LPREF_FN lp_scale lp_overflow_rate_scale(float state, float amax, float target) {
    float s = state;
    if (s == 0.0f && amax > 0.0f && lp_finite(amax)) {
        s = lp_power_of_two(lp_div(amax, target), LP_POW2_UP);
        s = lp_clip(s, lp_float(0x00800000u), lp_float(0x7E800000u));
    }
    return lp_applied(s > 0.0f ? s : 1.0f, 0);
}

/* m2: mean of squares, m1: mean magnitude; a coefficient 0 leaves its term out */
LPREF_FN lp_scale lp_moments_scale(float m2, float m1, float amax, float rms, float mean, float eps, float target, lp_i32 pow2, int inverse) {
    float level = 0.0f;
    if (rms != 0.0f) level = lp_mul(lp_sqrt(m2), rms);
    if (mean != 0.0f) level = lp_add(level, lp_mul(m1, mean));
    if (level <= 0.0f) level = amax;
    float s = lp_power_of_two(lp_div(lp_add(level, eps), target), pow2);
    s = s == 0.0f ? 1.0f : lp_finite(s) && lp_finite(amax) ? s : lp_float(LP_NAN);
    return lp_applied(s, inverse);
}

LPREF_FN lp_scale lp_deviation_scale(float m2, float m, float std, float eps) {
    float variance = lp_sub(m2, lp_mul(m, m)), level = lp_add(lp_mul(lp_sqrt(lp_maximum(variance, 0.0f)), std), eps);
    lp_u32 fraction;
    int good = lp_finite(level);
    return lp_octave(!good ? 0 : level == 0.0f ? -127 : lp_exponent(level, &fraction), good);
}

/* total: the sum of log2 |x| over `live` elements */
LPREF_FN lp_scale lp_center_scale(float total, lp_i64 live, int finite) {
    float e = lp_clip(lp_rint(lp_div(total, (float)(live > 1 ? live : 1))), -127.0f, 127.0f);
    return lp_applied(!finite ? lp_float(LP_NAN) : live == 0 ? 1.0f : lp_power((lp_i32)e), 0);
}

LPREF_FN float lp_widened(float lo, float hi, float s, float n, float *steps) {
    float z = lp_clip(lp_floor(lp_div(lp_neg(lo), s)), lo < 0.0f ? 1.0f : 0.0f, hi > 0.0f ? lp_sub(n, 1.0f) : n);
    float below = z > 0.0f ? lp_div(lp_neg(lo), lp_maximum(z, 1.0f)) : 0.0f;
    float above = z < n ? lp_div(hi, lp_maximum(lp_sub(n, z), 1.0f)) : 0.0f;
    *steps = z;
    return lp_maximum(s, lp_maximum(below, above));
}

LPREF_FN lp_level lp_affine_level(float low, float high, float qmin, float qmax, float eps, int widen, int inverse) {
    lp_level r;
    float lo = lp_minimum(low, 0.0f), hi = lp_maximum(high, 0.0f), n = lp_sub(qmax, qmin), z;
    int good = lp_finite(lo) && lp_finite(hi);
    lo = good ? lo : 0.0f;
    hi = good ? hi : 0.0f;
    float span = lp_sub(hi, lo);
    float s = lp_finite(span) ? lp_maximum(lp_div(span, n), span > 0.0f ? LP_TINIEST : 0.0f) : lp_sub(lp_div(hi, n), lp_div(lo, n));
    s = lp_maximum(s, eps);
    s = s == 0.0f ? 1.0f : s;
    if (widen) {
        s = lp_widened(lo, hi, s, n, &z);
        z = lp_add(qmin, z);
    } else {
        z = lp_clip(lp_add(qmin, lp_rint(lp_div(lp_neg(lo), s))), qmin, qmax);
    }
    r.scale = lp_applied(good ? s : lp_float(LP_NAN), inverse);
    r.offset = 0.0f;
    r.zero = (lp_i32)z;
    return r;
}

/* offset: what is subtracted; stored as 0 where the scale is NaN */
LPREF_FN lp_level lp_minmax_level(float low, float high, float n, float eps) {
    lp_level r;
    float s = lp_minimum(lp_div(n, lp_add(lp_sub(high, low), eps)), lp_float(LP_FLT_MAX));
    r.scale = lp_applied(lp_finite(low) && lp_finite(high) ? s : lp_float(LP_NAN), 0);
    r.offset = r.scale.value != r.scale.value ? 0.0f : low;
    r.zero = 0;
    return r;
}

/* log_target: fl32(log2(target)); highest: the largest logarithm. alpha and beta in factor and offset; value 1, NaN where the tensor decodes to NaN. */
LPREF_FN lp_level lp_s2fp8_level(float total, lp_i64 live, float highest, int finite, float log_target) {
    lp_level r;
    float alpha = 1.0f, beta = 0.0f;
    if (live) {
        float mu = lp_div(total, (float)live), spread = lp_sub(highest, mu);
        alpha = spread > 0.0f ? lp_div(log_target, spread) : 1.0f;
        beta = lp_neg(lp_mul(alpha, mu));
    }
    r.scale = lp_applied(finite ? 1.0f : lp_float(LP_NAN), 0);
    r.scale.factor = finite ? alpha : lp_float(LP_NAN);
    r.offset = finite ? beta : lp_float(LP_NAN);
    r.zero = 0;
    return r;
}

/* x^ of the element y under alpha and beta */
LPREF_FN double lp_expanded(double y, double alpha, double beta) {
    if (alpha != alpha) return lp_double(0x7FF8000000000000ll);
    if (y == 0.0) return y;
    return lp_dcopysign(lp_exp2_64(lp_ddiv(lp_dsub(lp_log2_64(lp_dabs(y)), beta), alpha)), y);
}

enum { LP_MULTIPLY, LP_DIVIDED, LP_SPAN, LP_CENTERED, LP_ROUNDED, LP_SQUEEZED };

/* What is cast for the element v. LP_SPAN: (v - offset) factor. LP_CENTERED: v - offset, 0 where that is not finite. LP_ROUNDED: the code of more bits,
 * clip(rint(v / factor), -top, top - 1), times down. LP_SQUEEZED: sgn(v) 2^(factor log2|v| + offset). */
LPREF_FN float lp_scaled(int how, float v, float factor, float offset, float top, float down) {
    switch (how) {
    case LP_MULTIPLY: return lp_mul(v, factor);
    case LP_DIVIDED: return lp_div(v, factor);
    case LP_SPAN: return lp_mul(lp_sub(v, offset), factor);
    case LP_CENTERED: {
        float u = lp_sub(v, offset);
        return lp_finite(u) ? u : 0.0f;
    }
    case LP_ROUNDED: return lp_mul(lp_clip(lp_rint(lp_div(v, factor)), lp_neg(top), lp_sub(top, 1.0f)), down);
    default: {
        if (v == 0.0f || !lp_finite(v)) return v;
        float y = lp_exp2(lp_add(lp_mul(factor, lp_log2(lp_magnitude(v))), offset));
        return lp_float(lp_bits(y) | (lp_bits(v) & 0x80000000u));
    }
    }
}

#endif

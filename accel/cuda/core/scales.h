/* Scales of a block from the bits of its amax: the pages amax, te, mx, nvfp4 of lpref.ref.scaling, float32, in their order.
 *
 * A scale is {code, value, factor}: the stored code (uint32 bits of a float32, or an 8-bit code), the float32 it decodes to (NaN: the block is
 * dead, its codes are those of zero), and what an element is divided by or multiplied with. */
#ifndef LPREF_CORE_SCALES_H
#define LPREF_CORE_SCALES_H
#include "base.h"
#include "cast.h"

typedef struct {
    lp_u32 code;
    float value, factor;
} lp_scale;

enum { LP_RULE_AMAX, LP_RULE_TE, LP_RULE_MX, LP_RULE_NVFP4, LP_RULE_TORCHAO };
enum { LP_MX_FRACTION, LP_MX_RCEIL, LP_MX_TETRAJET };
enum { LP_FLOAT32, LP_E8M0, LP_SMALL };
enum { LP_POW2_NONE, LP_POW2_UP, LP_POW2_DOWN, LP_POW2_NEAREST };

/* What a rule is told. mode, emax, threshold: mx (threshold: fraction bits of amax from which the exponent is one more; floor, even,
 * ceil, midmax differ in nothing else). saturate: mx, infinity is 2^128. target, inverse = fl32(1 / target), eps: float32.
 * divider: te's 2^margin. format, pow2, apply_inverse: amax and te. least: the smallest value of a small stored format (E4M3). */
typedef struct {
    lp_i32 rule, mode, emax, threshold, saturate, format, pow2, apply_inverse;
    float target, inverse, eps, divider, least;
} lp_rule;

/* Bits of a > 0 -> floor(log2 a) and the fraction below the leading one, 23 bits. */
LPREF_FN lp_i32 lp_exponent(float a, lp_u32 *fraction) {
    int tiny = lp_bits(a) < 0x00800000u;
    lp_u32 big = lp_bits(tiny ? lp_mul(a, 4294967296.0f) : a);
    *fraction = big & 0x7FFFFFu;
    return (lp_i32)(big >> 23) - 127 - (tiny ? 32 : 0);
}

/* 2^e for e in -149 .. 127. */
LPREF_FN float lp_power(lp_i32 e) { return lp_float(e >= -126 ? (lp_u32)(e + 127) << 23 : 1u << (e + 149)); }

/* s > 0 rounded to a power of two from its exponent bits, at most 2^127; zero, NaN and infinity pass. */
LPREF_FN float lp_power_of_two(float s, lp_i32 direction) {
    lp_u32 fraction, b = lp_bits(s);
    if (b == 0 || b >= LP_INF || direction == LP_POW2_NONE) return s;
    lp_i32 e = lp_exponent(s, &fraction);
    int up = direction == LP_POW2_UP ? fraction != 0 : direction == LP_POW2_NEAREST && fraction >= 3474676u; /* sqrt(2) */
    return lp_power(lp_imin(e + up, 127));
}

/* E8M0 code of a power of two, NaN is 255. */
LPREF_FN lp_u32 lp_e8m0_code(float s) {
    lp_u32 fraction, b = lp_bits(s) & LP_ABS;
    if (b > LP_INF) return 255u;
    if (b == LP_INF) return 254u;
    return b == 0 ? 126u : (lp_u32)lp_imin(lp_imax(lp_exponent(s, &fraction) + 127, 0), 254);
}

/* A non-negative number to nearest even in a small format without sign of its own needs: M trailing bits, bias; saturation is the caller's. */
LPREF_FN lp_u32 lp_small_code(float a, lp_u32 trailing, lp_u32 bias, float *value) {
    lp_u32 shift = (23u - trailing) << 23, emin = (128u - bias) << 23;
    lp_u32 binade = lp_umax(lp_bits(a) & LP_INF, emin);
    float c = lp_float(binade + shift), sum = lp_add(a, c); /* float addition rounds at the target's spacing, ties to even */
    *value = lp_sub(sum, c);
    return (lp_bits(sum) - lp_bits(c)) + ((binade - emin) >> (23u - trailing));
}

LPREF_FN lp_scale lp_mx_scale(lp_u32 amax, const lp_rule *q) {
    lp_scale s;
    float a = lp_float(amax);
    lp_u32 fraction;
    lp_i32 e;
    if (amax >= LP_INF && !(q->saturate && amax == LP_INF)) {
        s.code = 255u;
        s.value = s.factor = lp_float(LP_NAN);
        return s;
    }
    if (amax == LP_INF) {
        e = q->mode == LP_MX_FRACTION ? lp_imin(128 - q->emax, 127) : 127;
    } else if (q->mode == LP_MX_FRACTION) {
        e = lp_exponent(a, &fraction) - q->emax;
        e += (lp_i32)fraction >= q->threshold;
    } else {
        float ratio = q->mode == LP_MX_RCEIL ? lp_mul(a, q->inverse) : lp_div(a, q->target);
        e = lp_exponent(ratio, &fraction) + (fraction != 0);
        e = lp_bits(ratio) == 0 ? -127 : lp_bits(ratio) == LP_INF ? 127 : e;
    }
    e = amax == 0 ? -127 : lp_imin(lp_imax(e, -127), 127);
    s.code = (lp_u32)(e + 127);
    s.value = s.factor = lp_power(e);
    return s;
}

/* NVFP4 after TransformerEngine: S, mult = S fl32(1 / 6), inverse = fl32(1 / S), tensor_scale = fl32(amax / 2688). */
typedef struct {
    float mult, inverse, tensor_scale;
} lp_nvfp4;

LPREF_FN lp_nvfp4 lp_nvfp4_tensor(float amax, float target, float sixth) {
    lp_nvfp4 t;
    float s = lp_div(lp_mul(448.0f, target), amax); /* NaN passes the minimum, as np.minimum lets it */
    s = lp_bits(s) == LP_INF ? lp_float(LP_FLT_MAX) : s;
    s = (amax == 0.0f || s == 0.0f) ? 1.0f : s;
    t.mult = lp_mul(s, sixth);
    t.inverse = lp_div(1.0f, s);
    t.tensor_scale = lp_div(amax, lp_mul(448.0f, target));
    return t;
}

LPREF_FN lp_scale lp_nvfp4_scale(lp_u32 amax, const lp_nvfp4 *t) {
    lp_scale s;
    float a = lp_mul(lp_float(amax), t->mult);
    if (!(a >= 0.0f)) {
        s.code = 0x7Fu;
        s.value = s.factor = lp_float(LP_NAN);
        return s;
    }
    s.code = lp_small_code(lp_min(a, 448.0f), 3u, 7u, &s.value);
    float f = lp_div(1.0f, lp_mul(s.value, t->inverse));
    s.factor = f != f ? f : lp_min(f, lp_float(LP_FLT_MAX));
    return s;
}

/* NVFP4 after torchao: tensor_scale = fl32(amax / 2688) in t->tensor_scale. */
LPREF_FN lp_scale lp_torchao_scale(lp_u32 amax, const lp_nvfp4 *t, float target) {
    lp_scale s;
    float outer = t->tensor_scale, safe = outer == 0.0f ? 1.0f : outer;
    float a = lp_div(lp_div(lp_float(amax), target), safe);
    if (a != a) {
        s.code = 0x7Fu;
        s.value = s.factor = lp_float(LP_NAN);
        return s;
    }
    s.code = lp_small_code(lp_min(lp_max(a, 0.015625f), 448.0f), 3u, 7u, &s.value);
    float f = lp_div(lp_div(1.0f, safe), s.value);
    s.factor = f != f ? f : lp_min(f, lp_float(LP_FLT_MAX));
    return s;
}

LPREF_FN lp_scale lp_amax_scale(lp_u32 amax, const lp_rule *q) {
    lp_scale r;
    float a = lp_max(lp_float(amax), q->eps), s;
    if (amax >= LP_INF) {
        s = lp_float(LP_NAN);
    } else {
        s = lp_power_of_two(lp_div(a, q->target), q->pow2);
        s = a == 0.0f ? 1.0f : lp_max(s, lp_float(1u));
        if (q->format == LP_E8M0) s = lp_max(s, lp_float(0x00400000u));
    }
    r.code = q->format == LP_E8M0 ? lp_e8m0_code(s) : lp_bits(s);
    r.value = s;
    if (q->format == LP_SMALL) {
        if (s == s) {
            r.code = lp_small_code(lp_min(lp_max(s, q->least), 448.0f), 3u, 7u, &r.value);
        } else {
            r.code = 0x7Fu;
        }
    }
    r.factor = r.value;
    if (q->apply_inverse) {
        float f = lp_div(1.0f, r.value);
        r.factor = f != f ? f : lp_min(f, lp_float(LP_FLT_MAX));
    }
    return r;
}

LPREF_FN lp_scale lp_te_scale(lp_u32 amax, const lp_rule *q) {
    lp_scale r;
    float a = lp_max(lp_float(amax), q->eps), s = lp_div(lp_div(q->target, a), q->divider);
    s = lp_bits(s) == LP_INF ? lp_float(LP_FLT_MAX) : s;
    s = lp_power_of_two(s, q->pow2);
    if (amax >= LP_INF || a == 0.0f) s = 1.0f;
    r.factor = s;
    r.value = lp_div(1.0f, s);
    r.code = q->format == LP_E8M0 ? lp_e8m0_code(r.value) : lp_bits(r.value);
    return r;
}

LPREF_FN lp_scale lp_block_scale(lp_u32 amax, const lp_rule *q, const lp_nvfp4 *t) {
    if (q->rule == LP_RULE_MX) return lp_mx_scale(amax, q);
    if (q->rule == LP_RULE_NVFP4) return lp_nvfp4_scale(amax, t);
    if (q->rule == LP_RULE_TORCHAO) return lp_torchao_scale(amax, t, q->target);
    if (q->rule == LP_RULE_TE) return lp_te_scale(amax, q);
    return lp_amax_scale(amax, q);
}

#endif

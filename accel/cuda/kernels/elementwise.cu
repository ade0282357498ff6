/* elementwise: the elementary functions, and + - x / max min where and comparisons of operands that are whole, repeated, or numbers.
 *
 * An operand is a pointer (null: `number` stands for it) and where element i of the result reads it: `each` 0: at i; else at i / each mod count,
 * which is any run of axes repeated (a row vector, a column, a scalar on the device). LP_A, LP_B: what the two operands of + - x are (loads.cuh).
 * Versions: 1. one element a step. 2. + - x / max min of two whole arrays by fours (57 -> 82 % of the copy bandwidth). 3. operands in bfloat16. */
#include "elementary.h"
#include "loads.cuh"
#include "reduce.cuh"

#ifndef LP_A
#define LP_A 0
#endif
#ifndef LP_B
#define LP_B 0
#endif

#define KERNEL extern "C" __global__ void __launch_bounds__(256)

template <class Index> LPREF_FN Index place(Index i, lp_i64 n, lp_i64 each, lp_i64 count) {
    if (each == 0) return i;
    if (count == 1) return 0;
    Index q = each == 1 ? i : i / (Index)each;
    return each * count == n ? q : q % (Index)count;
}

#define OPERAND(a) const void *a, float a##_number, lp_i64 a##_each, lp_i64 a##_count
#define READ_AS(kind, a) (a ? load<kind>(a, place(i, n, a##_each, a##_count)) : a##_number)
#define READ(a) READ_AS(0, a)
/* every i < n, counted in 32 bits where they do: divisions of 64 bits cost more than the rest */
#define EVERY(n, body)                                                                                     \
    if ((n) >> 31) {                                                                                       \
        for (lp_u64 i = LP_INDEX; i < (lp_u64)(n); i += (lp_u64)gridDim.x * blockDim.x) body;              \
    } else {                                                                                               \
        for (lp_u32 i = (lp_u32)LP_INDEX; i < (lp_u32)(n); i += gridDim.x * blockDim.x) body;              \
    }

#define UNARY(name, function) \
    KERNEL each_##name(const float *x, lp_i64 n, float *out) { LP_EACH(i, n) out[i] = function(x[i]); }
UNARY(exp, lp_exp)
UNARY(exp2, lp_exp2)
UNARY(log, lp_log)
UNARY(log2, lp_log2)
UNARY(sin, lp_sin)
UNARY(cos, lp_cos)
UNARY(tanh, lp_tanh)
UNARY(sigmoid, lp_sigmoid)
UNARY(erf, lp_erf)
UNARY(rsqrt, lp_rsqrt)
UNARY(sqrt, lp_sqrt)
UNARY(neg, lp_neg)
UNARY(abs, lp_magnitude)
UNARY(rint, lp_rint)

/* two whole arrays: four elements a step, by loads and stores of 16 bytes */
template <class Function> LPREF_FN void pairs(const void *a, const void *b, lp_i64 n, float *out, Function f) {
    lp_i64 done = 0;
    if ((((lp_u64)a | (lp_u64)b | (lp_u64)out) & 15) == 0) {
        LP_EACH(i, n / 4) {
            float4 u = load4<LP_A>(a, i), v = load4<LP_B>(b, i);
            float4 r = {f(u.x, v.x), f(u.y, v.y), f(u.z, v.z), f(u.w, v.w)};
            ((float4 *)out)[i] = r;
        }
        done = n / 4 * 4;
    }
    for (lp_i64 i = done + LP_INDEX; i < n; i += (lp_i64)gridDim.x * blockDim.x) out[i] = f(load<LP_A>(a, i), load<LP_B>(b, i));
}

#define BINARY(name, function)                                                                              \
    KERNEL each_##name(OPERAND(a), OPERAND(b), lp_i64 n, float *out) {                                      \
        if (a && b && a_each == 0 && b_each == 0) pairs(a, b, n, out, [](float u, float v) { return function(u, v); }); \
        else EVERY(n, out[i] = function(READ_AS(LP_A, a), READ_AS(LP_B, b)))                                \
    }
BINARY(add, lp_add)
BINARY(sub, lp_sub)
BINARY(mul, lp_mul)
BINARY(div, lp_div)
BINARY(maximum, lp_maximum)
BINARY(minimum, lp_minimum)

#define COMPARISON(name, relation) \
    KERNEL each_##name(OPERAND(a), OPERAND(b), lp_i64 n, lp_u8 *out) { EVERY(n, out[i] = READ(a) relation READ(b)) }
COMPARISON(greater, >)
COMPARISON(greater_equal, >=)
COMPARISON(equal, ==)

/* float32 of bfloat16: eight elements a thread, by loads and stores of 16 bytes where both lie so */
KERNEL widen(const lp_u16 *x, lp_i64 n, float *out) {
    LP_EACH(i, (n + 7) / 8) {
        if (8 * i + 8 <= n && (((lp_u64)x | (lp_u64)out) & 15) == 0) {
            uint4 h = ((const uint4 *)x)[i];
            uint4 low = {h.x << 16, h.x & 0xFFFF0000u, h.y << 16, h.y & 0xFFFF0000u}, high = {h.z << 16, h.z & 0xFFFF0000u, h.w << 16, h.w & 0xFFFF0000u};
            ((uint4 *)out)[2 * i] = low;
            ((uint4 *)out)[2 * i + 1] = high;
        } else {
            for (lp_i64 k = 8 * i; k < 8 * i + 8 && k < n; ++k) out[k] = lp_float((lp_u32)x[k] << 16);
        }
    }
}

/* bfloat16 of float32, to nearest even: eight elements a thread */
LPREF_FN void shortened(const float *x, lp_i64 n, lp_u16 *out) {
    LP_EACH(i, (n + 7) / 8) {
        if (8 * i + 8 <= n && (((lp_u64)x | (lp_u64)out) & 15) == 0) {
            float4 u = ((const float4 *)x)[2 * i], v = ((const float4 *)x)[2 * i + 1];
            uint4 h = {pack(u.x, u.y), pack(u.z, u.w), pack(v.x, v.y), pack(v.z, v.w)};
            ((uint4 *)out)[i] = h;
        } else {
            for (lp_i64 k = 8 * i; k < 8 * i + 8 && k < n; ++k) out[k] = (lp_u16)short_bits(x[k]);
        }
    }
}

KERNEL shorten(const float *x, lp_i64 n, lp_u16 *out) { shortened(x, n, out); }

/* The same of many arrays: (x, out, elements) of each, one for every blockIdx.y. */
KERNEL shorten_each(const lp_u64 *table) {
    const lp_u64 *at = table + 3 * (lp_i64)blockIdx.y;
    shortened((const float *)at[0], (lp_i64)at[2], (lp_u16 *)at[1]);
}

/* the exponent in float64: float32 numbers on the device, or one number */
KERNEL each_pow(OPERAND(a), OPERAND(b), double exponent, lp_i64 n, float *out) {
    EVERY(n, out[i] = lp_narrow(lp_pow64((double)READ(a), b ? (double)READ(b) : exponent)))
}

KERNEL each_where(const lp_u8 *condition, lp_i64 each, lp_i64 count, OPERAND(a), OPERAND(b), lp_i64 n, float *out) {
    EVERY(n, out[i] = condition[place(i, n, each, count)] ? READ(a) : READ(b))
}

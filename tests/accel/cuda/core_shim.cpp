// The functions of accel/cuda/core over arrays, for ctypes.
#include "cast.h"
#include "decided.h"
#include "elementary.h"
#include "element.h"
#include "pack.h"
#include "philox.h"
#include "scales.h"
#include "table.h"

extern "C" {
void encode(const lp_u32 *x, long n, const lp_u32 *q, lp_u32 *out) {
    lp_plan p = lp_read_plan(q);
    for (long i = 0; i < n; ++i) out[i] = lp_encode(x[i], &p);
}
void encode_words(const lp_u32 *x, long n, const lp_u32 *q, const lp_u32 *words, lp_u32 r, int variant, lp_u32 *out) {
    lp_plan p = lp_read_plan(q);
    for (long i = 0; i < n; ++i) out[i] = variant ? lp_encode_bc(x[i], &p, words[i], r, variant) : lp_encode_stochastic(x[i], &p, words[i], r);
}
void encode_cells(const lp_u32 *x, long n, const lp_u32 *first, const lp_u64 *entries, lp_u32 *out) {
    for (long i = 0; i < n; ++i) out[i] = lp_encode_cells(x[i], first, entries);
}
void encode_neighbours(const lp_u32 *x, long n, const lp_u32 *first, const lp_u64 *entries, const double *lower, const double *width,
                       const lp_u16 *above, lp_u32 half, const lp_u32 *words, lp_u32 r, int variant, lp_u32 *out) {
    for (long i = 0; i < n; ++i) out[i] = lp_encode_neighbours(x[i], first, entries, lower, width, above, half, words[i], r, variant);
}
void words(lp_u64 start, long n, lp_u32 r, lp_u32 step, lp_u32 stream, lp_u64 seed, lp_u32 *out) {
    for (long i = 0; i < n; ++i) {
        lp_u64 at = start + i;
        lp_block128 b = lp_philox(at / (128 / r), step, stream, (lp_u32)seed, (lp_u32)(seed >> 32));
        out[i] = lp_word(at, r, step, stream, (lp_u32)seed, (lp_u32)(seed >> 32));
        if (out[i] != lp_word_of(&b, (lp_u32)(at % (128 / r)), r)) out[i] = 0xDEADBEEF;
    }
}
void scales(const lp_u32 *amax, long n, const lp_rule *q, float tensor_amax, lp_u32 *codes, float *values, float *factors, float *tensor_scale) {
    lp_nvfp4 t = lp_nvfp4_tensor(tensor_amax, q->target, q->inverse);
    *tensor_scale = t.tensor_scale;
    for (long i = 0; i < n; ++i) {
        lp_scale s = lp_block_scale(amax[i], q, &t);
        codes[i] = s.code;
        values[i] = s.value;
        factors[i] = s.factor;
    }
}
/* of the half of the pair that begins at bit `half` */
static lp_u32 pair_code(float u, lp_u32 word, lp_u32 half) {
    float small = lp_mul(u, 6.103515625e-05f);
    lp_u32 both = lp_pair_e2m1(half ? 0.0f : small, half ? small : 0.0f) >> half & 0xFFFFu;
    return (((both + 2u * word) >> 9) & 7u) | (both >> 12 & 8u);
}
void elements(const float *u, long n, int kind, lp_u32 trailing, int emin, float low, float high, lp_u32 bits, const lp_u32 *words, lp_u32 r, lp_u32 *out) {
    for (long i = 0; i < n; ++i) {
        lp_u32 w = words[i] & ((1u << r) - 1u), sign = (lp_bits(u[i]) >> 31) << 3;
        float a = lp_float(lp_bits(u[i]) & LP_ABS);
        out[i] = kind == 0   ? lp_nearest_float(u[i], trailing, emin, high, bits)
                 : kind == 1 ? lp_stochastic_float(u[i], trailing, emin, high, bits, w, r)
                 : kind == 2 ? lp_nearest_int(u[i], low, high, bits)
                 : kind == 3 ? lp_stochastic_int(u[i], low, high, bits, w, r)
                 : kind == 4 ? (lp_nearest_e2m1(a) - LP_E2M1_BASE) | sign
                 : kind == 5 ? (((lp_stochastic_e2m1(a) + w + 0x700u) >> 8) & 7u) | sign
                             : pair_code(u[i], w, i % 2 * 16);
    }
}
#define UNARY(name) \
    void name##_of(const float *x, long n, float *out) { \
        for (long i = 0; i < n; ++i) out[i] = lp_##name(x[i]); \
    }
UNARY(exp) UNARY(exp2) UNARY(log) UNARY(log2) UNARY(sin) UNARY(cos) UNARY(tanh) UNARY(sigmoid) UNARY(erf) UNARY(rsqrt) UNARY(sqrt)
UNARY(neg) UNARY(magnitude) UNARY(sign) UNARY(rint)
#define DECIDED(name, function) \
    void decided_##name(const float *x, long n, float *y, lp_u8 *known, float *whole) { \
        for (long i = 0; i < n; ++i) { \
            known[i] = function::decided(x[i], &y[i]); \
            lp_each<function, 1>(x + i, whole + i); \
        } \
    }
DECIDED(exp, lp_Exp) DECIDED(tanh, lp_Tanh) DECIDED(sigmoid, lp_Sigmoid)
#define BINARY(name) \
    void name##_of(const float *x, const float *y, long n, float *out) { \
        for (long i = 0; i < n; ++i) out[i] = lp_##name(x[i], y[i]); \
    }
BINARY(maximum) BINARY(minimum)
void pow_of(const float *x, const double *y, long n, float *out) {
    for (long i = 0; i < n; ++i) out[i] = lp_narrow(lp_pow64((double)x[i], y[i]));
}
void quotients(const float *x, const float *s, long n, float *out) {
    for (long i = 0; i < n; ++i) out[i] = lp_quotient(x[i], s[i], lp_div(1.0f, s[i]));
}
void pack(const lp_u8 *codes, long rows, long columns, lp_u32 bits, long bytes, lp_u8 *out) {
    for (long i = 0; i < rows * bytes; ++i) out[i] = lp_packed_byte(codes + i / bytes * columns, columns, bits, i % bytes);
}
}

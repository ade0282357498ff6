/* Sixteens of float32 as they are read (LP_UNMADE 0), or as a thread makes them of sixteen bfloat16: 1 the gradient of logits (cross_entropy_backward of
 * loss.cu), 2 GELU by tanh (activation.cu), with the operations of those kernels under LP_NEAR. LP_MORE: what they read beside; Made: that, as LP_MADE.
 * Behind tensor.cuh. */

#if LP_UNMADE == 0
#define PER_LOAD PER_UNIT
#define LP_MORE
LPREF_FN Sixteen loaded(const lp_16 *p) { return load16th(p); }
#else
#define PER_LOAD 2
LPREF_FN Sixteen loaded(const lp_16 *p) {
    Sixteen x = {};
    x.a.a = cached16(p);
    x.a.b = cached16(p + 1);
    return x;
}

LPREF_FN void sixteen_of(const Sixteen &x, float *v) {
    const lp_u32 raw[8] = {x.a.a.x, x.a.a.y, x.a.a.z, x.a.a.w, x.a.b.x, x.a.b.y, x.a.b.z, x.a.b.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) v[2 * i] = lp_float(raw[i] << 16), v[2 * i + 1] = lp_float(raw[i] & 0xFFFF0000u);
}

LPREF_FN Sixteen of_sixteen(const float *v) {
    Sixteen x;
    x.a.a = {lp_bits(v[0]), lp_bits(v[1]), lp_bits(v[2]), lp_bits(v[3])};
    x.a.b = {lp_bits(v[4]), lp_bits(v[5]), lp_bits(v[6]), lp_bits(v[7])};
    x.b.a = {lp_bits(v[8]), lp_bits(v[9]), lp_bits(v[10]), lp_bits(v[11])};
    x.b.b = {lp_bits(v[12]), lp_bits(v[13]), lp_bits(v[14]), lp_bits(v[15])};
    return x;
}
#endif

#if LP_UNMADE == 1
#include "shares.cuh"
#define LP_MORE , const float *tops, const float *sums, const lp_i64 *targets, const float *dloss, float number, float count
#define LP_MADE {tops, sums, targets, lp_div(dloss ? *dloss : number, count)}
struct Made {
    const float *tops, *sums;
    const lp_i64 *targets;
    float scale;
};

/* sixteen logits of row r, from column c on */
LPREF_FN Sixteen made16(const Sixteen &x, const Made &of, lp_u32 r, lp_u32 c) {
    float top = of.tops[r], s = of.sums[r], reciprocal = lp_div(1.0f, s), p[16];
    sixteen_of(x, p);
    lp_i64 ahead = of.targets[r] - c;
    int hit = ahead >= 0 && ahead < 16 ? (int)ahead : 16;
#pragma unroll
    for (int k = 0; k < 16; ++k) p[k] = lp_sub(p[k], top);
#pragma unroll
    for (int k = 0; k < 16; k += 4) {
        lp_each<lp_Exp, 4>(p + k, p + k);
        shares<4>(p + k, s, reciprocal, p + k);
    }
#pragma unroll
    for (int k = 0; k < 16; ++k) p[k] = lp_mul(k == hit ? lp_sub(p[k], 1.0f) : p[k], of.scale);
    return of_sixteen(p);
}
#elif LP_UNMADE == 2
#include "gelu.cuh"
#define LP_MORE , float a, float b, float unused
#define LP_MADE {a, b}
struct Made {
    float a, b;
};

LPREF_FN Sixteen made16(const Sixteen &x, const Made &of, lp_u32, lp_u32) {
    float v[16];
    sixteen_of(x, v);
#pragma unroll
    for (int k = 0; k < 16; k += 4) gelu_of<4>(v + k, of.a, of.b, v + k);
    return of_sixteen(v);
}
#endif

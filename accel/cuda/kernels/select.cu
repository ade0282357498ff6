/* select: NVFP4 block scales with amax at 6 or at 4, whichever has the smaller error (lpref.ref.scaling.four_over_six); a warp a block, a
 * thread a line.
 *
 * Errors are summed along k in ascending order from 0, the lines of a block by the one sum. Versions: 1. this one. */
#include "elementary.h"
#include "element.h"
#include "scales.h"
#include "source.cuh"

struct Grid {
    const void *x;
    lp_i64 R, C, r0, c0;
    lp_i32 lines, depth, along; /* along: k lies along columns */
    LPREF_MEMBER float at(lp_i32 line, lp_i32 k) const {
        lp_i64 r = r0 + (along ? line : k), c = c0 + (along ? k : line);
        return r < R && c < C ? lp_float(source(x, r * C + c)) : 0.0f;
    }
};

/* u rounded to E2M1; NaN is 0 */
LPREF_FN float e2m1(float u) {
    lp_u32 code = lp_nearest_e2m1(u == u ? lp_min(lp_magnitude(u), 6.0f) : 0.0f) - LP_E2M1_BASE;
    float a = code < 5u ? lp_mul((float)code, 0.5f) : code == 5u ? 3.0f : code == 6u ? 4.0f : 6.0f;
    return u < 0.0f ? lp_neg(a) : a;
}

/* the error of the block scale nearest to raw */
LPREF_FN float candidate(const Grid &b, float raw, float inverse, float amax, float denominator, int absolute, lp_scale *s) {
    s->code = 0x7Fu;
    s->value = lp_float(LP_NAN);
    if (raw == raw) s->code = lp_small_code(lp_min(raw, 448.0f), 3u, 7u, &s->value);
    s->factor = lp_minimum(lp_div(1.0f, lp_mul(s->value, inverse)), lp_float(LP_FLT_MAX));
    lp_i32 line = (lp_i32)(threadIdx.x & 31);
    float sum = 0.0f;
    for (lp_i32 k = 0; k < b.depth && line < b.lines; ++k) {
        float v = b.at(line, k), q = e2m1(lp_mul(v, s->factor));
        float diff = lp_sub(lp_div(lp_mul(lp_mul(q, s->value), amax), denominator), v);
        sum = lp_add(sum, absolute ? lp_magnitude(diff) : lp_mul(diff, diff));
    }
#pragma unroll
    for (int d = 16; d; d /= 2) sum = lp_add(sum, __shfl_xor_sync(0xFFFFFFFFu, sum, d));
    return lp_add(sum, 0.0f);
}

/* most: scale_max; along: k lies along columns; absolute: mean absolute errors */
extern "C" __global__ void __launch_bounds__(256) four_over_six(const void *x, lp_i64 R, lp_i64 C, lp_i64 br, lp_i64 bc, lp_i64 count, const lp_u32 *block_amax,
                                                                const lp_u32 *tensor, float most, int along, int absolute, lp_u8 *codes, float *values, float *factors,
                                                                float *tensor_scale) {
    lp_i64 wide = (C + bc - 1) / bc, first = ((lp_i64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    float amax = lp_float(*tensor), denominator = lp_mul(most, 6.0f), encode = lp_div(denominator, amax);
    encode = lp_minimum(encode, lp_float(LP_FLT_MAX));
    encode = amax == 0.0f || encode == 0.0f ? 1.0f : encode;
    float inverse = lp_div(1.0f, encode);
    if (first == 0 && threadIdx.x == 0) *tensor_scale = lp_div(amax, denominator);
    for (lp_i64 at = first; at < count; at += (lp_i64)gridDim.x * blockDim.x / 32) {
        Grid b = {x, R, C, at / wide * br, at % wide * bc, (lp_i32)(along ? br : bc), (lp_i32)(along ? bc : br), along};
        float base = lp_mul(lp_div(lp_float(block_amax[at]), 6.0f), encode);
        lp_scale six, four;
        float error6 = candidate(b, base, inverse, amax, denominator, absolute, &six);
        float error4 = candidate(b, lp_mul(base, 1.5f), inverse, amax, denominator, absolute, &four);
        if (threadIdx.x & 31) continue;
        if (error4 < error6) six = four;
        codes[at] = (lp_u8)six.code;
        values[at] = six.value;
        factors[at] = six.factor;
    }
}

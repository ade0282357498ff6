/* rules: scales that are made from more than the amax of a block: sums, extremes, logarithms (lpref.ref.scaling: moments, deviation, center, affine, minmax,
 * s2fp8, absmean with center). A team of threads a block of the quantizer; its sums are those of lpref.ref.reduce, and the rule itself is core/rules.h.
 *
 * Ragged edges: sums take elements outside the tensor as +0 (`padded`), extremes leave them out. Versions: 1. this one. */
#include "reduce.cuh"
#include "rules.h"
#include "source.cuh"

/* A block br x bc of x [R, C]. */
struct Block {
    const void *x;
    lp_i64 C, r0, c0, height, width, br, bc;
    LPREF_MEMBER lp_u32 bits(lp_i64 i) const { return width == C ? source(x, r0 * C + i) : source(x, (r0 + i / width) * C + c0 + i % width); }
    LPREF_MEMBER float value(lp_i64 i) const { return lp_float(bits(i)); }
    LPREF_MEMBER float padded(lp_i64 i) const {
        if (width == bc) return i < height * width ? value(i) : 0.0f;
        lp_i64 r = i / bc, c = i % bc;
        return r < height && c < width ? lp_float(source(x, (r0 + r) * C + c0 + c)) : 0.0f;
    }
    LPREF_MEMBER lp_i64 inside() const { return height * width; }
    LPREF_MEMBER lp_i64 whole() const { return br * bc; }
};

LPREF_FN Block block_at(const void *x, lp_i64 R, lp_i64 C, lp_i64 br, lp_i64 bc, lp_i64 at) {
    lp_i64 wide = (C + bc - 1) / bc, r0 = at / wide * br, c0 = at % wide * bc;
    Block b = {x, C, r0, c0, r0 + br < R ? br : R - r0, c0 + bc < C ? bc : C - c0, br, bc};
    return b;
}

LPREF_FN lp_u32 block_top(const Block &b) {
    lp_i32 top = 0;
    LP_COLUMNS(i, b.inside()) top = lp_imax(top, (lp_i32)(b.bits(i) & LP_ABS));
    return (lp_u32)team_max(top);
}

/* smallest and largest element; NaN wins; of zeros +0 */
LPREF_FN void block_ends(const Block &b, float *low, float *high) {
    lp_i32 least = (lp_i32)0x80000000u, most = (lp_i32)0x80000000u, top = 0;
    LP_COLUMNS(i, b.inside()) {
        lp_u32 bits = b.bits(i);
        least = lp_imax(least, ~lp_rank(bits));
        most = lp_imax(most, lp_rank(bits));
        top = lp_imax(top, (lp_i32)(bits & LP_ABS));
    }
    least = team_max(least);
    most = team_max(most);
    int nan = team_max(top) > (lp_i32)LP_INF;
    *low = nan ? lp_float(LP_NAN) : lp_add(lp_float((lp_u32)lp_rank((lp_u32)~least)), 0.0f);
    *high = nan ? lp_float(LP_NAN) : lp_add(lp_float((lp_u32)lp_rank((lp_u32)most)), 0.0f);
}

/* Logarithms of what is neither zero nor NaN nor infinite: their sum, their number, the largest; whether all elements are finite. */
struct Logarithms {
    float total, highest;
    lp_i64 live;
    int finite;
};

/* the sum of the team's integers */
LPREF_FN lp_i64 team_total(lp_i64 v) {
#pragma unroll
    for (int d = 16; d; d /= 2) v += __shfl_xor_sync(LP_ALL, v, d);
#if LP_WARPS > 1
    __shared__ lp_i64 all[LP_WARPS];
    __syncthreads();
    if ((threadIdx.x & 31) == 0) all[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
    for (int w = 0; w < LP_WARPS; ++w) v += all[w];
#endif
    return v;
}

LPREF_FN int alive(float v) { return v != 0.0f && lp_finite(v); }

LPREF_FN Logarithms logarithms(const Block &b) {
    Logarithms r;
    lp_i32 highest = (lp_i32)0x80000000u, top = 0;
    lp_i64 live = 0;
    LP_COLUMNS(i, b.inside()) {
        float v = b.value(i);
        top = lp_imax(top, (lp_i32)(lp_bits(v) & LP_ABS));
        if (alive(v)) {
            highest = lp_imax(highest, lp_rank(lp_bits(lp_log2(lp_magnitude(v)))));
            ++live;
        }
    }
    r.total = row_sum(b.whole(), [&](lp_i64 i) {
        float v = b.padded(i);
        return alive(v) ? lp_log2(lp_magnitude(v)) : 0.0f;
    });
    r.highest = lp_float((lp_u32)lp_rank((lp_u32)team_max(highest)));
    r.finite = team_max(top) < (lp_i32)LP_INF;
    r.live = team_total(live);
    return r;
}

LPREF_FN void put_scale(lp_i64 at, const lp_scale &s, void *codes, int bytes, float *values, float *factors) {
    if (bytes == 4) ((lp_u32 *)codes)[at] = s.code;
    else if (bytes == 1) ((lp_u8 *)codes)[at] = (lp_u8)s.code;
    values[at] = s.value;
    factors[at] = s.factor;
}

#define LP_SOURCE const void *x, lp_i64 R, lp_i64 C, lp_i64 br, lp_i64 bc, lp_i64 count
#define LP_SCALES void *codes, int bytes, float *values, float *factors
#define LP_BLOCKS(at) LP_ROWS(at, count)

extern "C" __global__ void __launch_bounds__(LP_BLOCK) moments(LP_SOURCE, float rms, float mean, float eps, float target, int pow2, int inverse, LP_SCALES) {
    LP_BLOCKS(at) {
        Block b = block_at(x, R, C, br, bc, at);
        float n = (float)b.inside(), m2 = 0.0f, m1 = 0.0f;
        float top = lp_float(block_top(b));
        if (rms != 0.0f) m2 = lp_div(row_sum(b.whole(), [&](lp_i64 i) { float v = b.padded(i); return lp_mul(v, v); }), n);
        if (mean != 0.0f) m1 = lp_div(row_sum(b.whole(), [&](lp_i64 i) { return lp_magnitude(b.padded(i)); }), n);
        if (LP_MINE == 0) put_scale(at, lp_moments_scale(m2, m1, top, rms, mean, eps, target, pow2, inverse), codes, bytes, values, factors);
    }
}

extern "C" __global__ void __launch_bounds__(LP_BLOCK) deviation(LP_SOURCE, float std, float eps, LP_SCALES) {
    LP_BLOCKS(at) {
        Block b = block_at(x, R, C, br, bc, at);
        float n = (float)b.inside(), m = lp_div(row_sum(b.whole(), [&](lp_i64 i) { return b.padded(i); }), n);
        float m2 = lp_div(row_sum(b.whole(), [&](lp_i64 i) { float v = b.padded(i); return lp_mul(v, v); }), n);
        if (LP_MINE == 0) put_scale(at, lp_deviation_scale(m2, m, std, eps), codes, bytes, values, factors);
    }
}

extern "C" __global__ void __launch_bounds__(LP_BLOCK) center(LP_SOURCE, LP_SCALES) {
    LP_BLOCKS(at) {
        Logarithms l = logarithms(block_at(x, R, C, br, bc, at));
        if (LP_MINE == 0) put_scale(at, lp_center_scale(l.total, l.live, l.finite), codes, bytes, values, factors);
    }
}

/* offsets: beta; factors: alpha */
extern "C" __global__ void __launch_bounds__(LP_BLOCK) s2fp8(LP_SOURCE, float log_target, float *offsets, LP_SCALES) {
    LP_BLOCKS(at) {
        Logarithms l = logarithms(block_at(x, R, C, br, bc, at));
        if (LP_MINE) continue;
        lp_level r = lp_s2fp8_level(l.total, l.live, l.highest, l.finite, log_target);
        put_scale(at, r.scale, codes, bytes, values, factors);
        offsets[at] = r.offset;
    }
}

/* the mean of every block, for absmean with center */
extern "C" __global__ void __launch_bounds__(LP_BLOCK) mean(LP_SOURCE, float *means) {
    LP_BLOCKS(at) {
        Block b = block_at(x, R, C, br, bc, at);
        float m = lp_div(row_sum(b.whole(), [&](lp_i64 i) { return b.padded(i); }), (float)b.inside());
        if (LP_MINE == 0) means[at] = m;
    }
}

/* ends [2, count]: smallest and largest elements; symmetric: -max|x| and max|x| */
extern "C" __global__ void __launch_bounds__(LP_BLOCK) ends(LP_SOURCE, int symmetric, float *low, float *high) {
    LP_BLOCKS(at) {
        float least, most;
        block_ends(block_at(x, R, C, br, bc, at), &least, &most);
        if (symmetric) {
            most = lp_maximum(lp_neg(least), most);
            least = lp_add(lp_neg(most), 0.0f);
        }
        if (LP_MINE == 0) {
            low[at] = least;
            high[at] = most;
        }
    }
}

/* below: from ends to scales, a thread a block */

/* zeros: int32; seen: 0, or where low and high (with zero between them) go */
extern "C" __global__ void __launch_bounds__(256) affine(const float *low, const float *high, lp_i64 count, float qmin, float qmax, float eps, int widen, int inverse,
                                                         lp_i32 *zeros, LP_SCALES) {
    LP_EACH(at, count) {
        lp_level r = lp_affine_level(low[at], high[at], qmin, qmax, eps, widen, inverse);
        put_scale(at, r.scale, codes, bytes, values, factors);
        zeros[at] = r.zero;
    }
}

/* offsets: what is subtracted; stored: what decoding adds */
extern "C" __global__ void __launch_bounds__(256) minmax(const float *low, const float *high, lp_i64 count, float n, float eps, float *offsets, float *stored, LP_SCALES) {
    LP_EACH(at, count) {
        lp_level r = lp_minmax_level(low[at], high[at], n, eps);
        put_scale(at, r.scale, codes, bytes, values, factors);
        offsets[at] = low[at];
        stored[at] = r.offset;
    }
}

/* what a rule with a memory tells: bits of two float32; around_zero: min(low, 0) and max(high, 0) */
extern "C" __global__ void told(const float *low, const float *high, int around_zero, lp_u64 *out) {
    float a = *low, b = *high;
    out[0] = lp_bits(around_zero ? lp_minimum(a, 0.0f) : a);
    out[1] = lp_bits(around_zero ? lp_maximum(b, 0.0f) : b);
}

/* one scale for all blocks: the state's (fitting 0: it must be positive), or where that is 0 the one that fits a tensor of this amax */
extern "C" __global__ void __launch_bounds__(256) of_state(const float *state, const lp_u32 *amax, float target, lp_i64 count, LP_SCALES) {
    LP_EACH(at, count) {
        lp_scale s = amax ? lp_overflow_rate_scale(*state, lp_float(*amax), target) : lp_applied(*state, 0);
        put_scale(at, s, codes, bytes, values, factors);
    }
}

/* x^ of every code of a format under alpha and beta; values: of the codes without them */
extern "C" __global__ void __launch_bounds__(256) expand(const float *values, lp_i64 n, const float *alpha, const float *beta, double *out) {
    LP_EACH(i, n) out[i] = lp_expanded((double)values[i], (double)*alpha, (double)*beta);
}

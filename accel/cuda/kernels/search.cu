/* search: the clipping threshold of every block, the best of evenly spaced candidates (lpref.ref.scaling.clip), and what a threshold costs.
 *
 * A block of 1024 threads a block of the quantizer; sums are the defined ones in float64. Versions: 1. this one. */
#include "lanes.cuh"
#include "elementary.h"
#include "source.cuh"

enum { LP_MSE, LP_WEIGHTED, LP_COSINE };

struct Cells {
    const void *x;
    lp_i64 R, C, r0, c0, bc, n;
    LPREF_MEMBER float at(lp_i64 i) const {
        lp_i64 r = r0 + i / bc, c = c0 + i % bc;
        return r < R && c < C ? lp_float(source(x, r * C + c)) : 0.0f;
    }
};

LPREF_FN float rounded(float v, float s, float target) {
    float q = lp_rint(lp_div(v, s));
    return lp_minimum(lp_maximum(q, lp_neg(target)), target);
}

LPREF_FN double cost(const Cells &b, float s, float target, int criterion, double squares, double *lanes) {
    double first = 0.0, second = 0.0;
    for (lp_i64 i = threadIdx.x; i < b.n; i += LANES) {
        float v = b.at(i);
        double x = (double)v, q = lp_dmul((double)rounded(v, s, target), (double)s), e = lp_dsub(x, q), error = lp_dmul(e, e);
        if (criterion == LP_COSINE) {
            first = lp_dadd(first, lp_dmul(x, q));
            second = lp_dadd(second, lp_dmul(q, q));
        } else {
            first = lp_dadd(first, criterion == LP_WEIGHTED ? lp_dmul(lp_dabs(x), error) : error);
        }
    }
    first = halved(lanes, first);
    if (criterion != LP_COSINE) return first;
    second = halved(lanes, second);
    return lp_dsub(1.0, lp_ddiv(first, lp_dsqrt(lp_dmul(squares, second))));
}

LPREF_FN double squares_of(const Cells &b, double *lanes) {
    double sum = 0.0;
    for (lp_i64 i = threadIdx.x; i < b.n; i += LANES) sum = lp_dadd(sum, lp_dmul((double)b.at(i), (double)b.at(i)));
    return halved(lanes, sum);
}

/* shares: fl32(i / steps), i = 1 .. steps. deviations: 1 - cos of the scales taken. */
extern "C" __global__ void __launch_bounds__(LANES) search(const void *x, lp_i64 R, lp_i64 C, lp_i64 br, lp_i64 bc, lp_i64 count, const lp_u32 *amax, float target,
                                                           const float *shares, int steps, int criterion, lp_u32 *codes, float *values, float *factors,
                                                           double *deviations) {
    __shared__ double lanes[LANES];
    lp_i64 wide = (C + bc - 1) / bc;
    for (lp_i64 at = blockIdx.x; at < count; at += gridDim.x) {
        Cells b = {x, R, C, at / wide * br, at % wide * bc, bc, br * bc};
        double squares = squares_of(b, lanes), least = lp_double(0x7FF0000000000000ll);
        float top = lp_float(amax[at]), best = lp_div(top, target);
        for (int i = steps; i; --i) {
            float s = lp_div(lp_mul(top, shares[i - 1]), target);
            double found = cost(b, s, target, criterion, squares, lanes);
            if (found < least) {
                least = found;
                best = s;
            }
        }
        float s = amax[at] < LP_INF ? (best > 0.0f ? best : 1.0f) : lp_float(LP_NAN);
        double d = cost(b, s, target, LP_COSINE, squares, lanes);
        if (threadIdx.x) continue;
        codes[at] = lp_bits(s);
        values[at] = factors[at] = s;
        deviations[at] = d;
    }
}

/* scales of a state, one for all blocks or one each; NaN where the block has NaN or infinity */
extern "C" __global__ void __launch_bounds__(256) kept(const float *scale, int each, const lp_u32 *amax, lp_i64 count, lp_u32 *codes, float *values, float *factors) {
    for (lp_i64 at = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (lp_i64)gridDim.x * blockDim.x) {
        float s = scale[each ? at : 0];
        s = amax[at] < LP_INF ? (s > 0.0f ? s : 1.0f) : lp_float(LP_NAN);
        codes[at] = lp_bits(s);
        values[at] = factors[at] = s;
    }
}

/* operand: what operands need beside codes: error statistics (lpref.ref.quantize.stats) and the scales of mean magnitudes (lpref.ref.scaling.absmean).
 *
 * Both are sums of lpref.ref.reduce: 1024 lanes, lane l adds x[l], x[l + 1024], ... in order, then halving. stats_lanes gives a warp 32 lanes, eight
 * loads in flight, so that a tensor is read by 32 multiprocessors; absmean gives a block of the quantizer to a team of 1024 (reduce.cuh).
 * Versions: 1. this one. */
#include "lanes.cuh"
#define LP_TEAM LANES
#define LP_SLOTS 1
#include "reduce.cuh"
#include "source.cuh"

/* lanes [2, 1024]: squared errors and squared values of the elements where both are finite; seen: {bits of the largest error, elements} */
extern "C" __global__ void __launch_bounds__(32) stats_lanes(const float *x, const double *decoded, lp_i64 n, double *lanes, lp_u64 *seen) {
    lp_i64 lane = (lp_i64)blockIdx.x * 32 + threadIdx.x;
    double noise = 0.0, signal = 0.0, largest = 0.0;
    lp_u64 good = 0;
    for (lp_i64 base = lane; base < n; base += 8 * LANES) {
        float v[8];
        double d[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            lp_i64 i = base + j * LANES;
            v[j] = i < n ? x[i] : 0.0f;
            d[j] = i < n ? decoded[i] : 0.0;
        }
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            double value = (double)v[j], error = lp_dsub(d[j], value);
            int finite = lp_dsub(error, error) == 0.0 && lp_dsub(value, value) == 0.0;
            value = finite ? value : 0.0;
            error = finite ? error : 0.0;
            noise = lp_dadd(noise, lp_dmul(error, error));
            signal = lp_dadd(signal, lp_dmul(value, value));
            largest = fmax(largest, fabs(error));
            good += finite && base + j * LANES < n;
        }
    }
    lanes[lane] = noise;
    lanes[LANES + lane] = signal;
    atomicMax(seen, (lp_u64)lp_dbits(largest));
    atomicAdd(seen + 1, good);
}

/* out: noise, signal, largest error, elements */
extern "C" __global__ void __launch_bounds__(LANES) stats_sums(const double *lanes, const lp_u64 *seen, double *out) {
    __shared__ double shared[LANES];
    double noise = halved(shared, lanes[threadIdx.x]), signal = halved(shared, lanes[LANES + threadIdx.x]);
    if (threadIdx.x == 0) {
        out[0] = noise;
        out[1] = signal;
        out[2] = lp_double((lp_i64)seen[0]);
        out[3] = (double)seen[1];
    }
}

/* One block of threads a block br x bc of x (LP_IN as in source.cuh). zero: the element format has one. eps, apply_inverse: of the rule. */
extern "C" __global__ void __launch_bounds__(LANES) absmean(const void *x, lp_i64 R, lp_i64 C, lp_i64 br, lp_i64 bc, float eps, int zero, int apply_inverse,
                                                            lp_u32 *codes, float *values, float *factors) {
    lp_i64 wide = (C + bc - 1) / bc, at = blockIdx.x, r0 = at / wide * br, c0 = at % wide * bc;
    lp_i64 height = r0 + br < R ? br : R - r0, width = c0 + bc < C ? bc : C - c0, n = height * width;
    auto magnitude = [&](lp_i64 i) { return source(x, (r0 + i / width) * C + c0 + i % width) & LP_ABS; };
    float mean = lp_div(row_sum(n, [&](lp_i64 i) { return lp_float(magnitude(i)); }), (float)n);
    if (lp_bits(mean) == LP_INF) { /* the same for all threads */
        lp_i32 top = 0;
        LP_COLUMNS(i, n) top = lp_imax(top, (lp_i32)magnitude(i));
        top = team_max(top);
        if (top < (lp_i32)LP_INF) {
            float scaled = lp_div(row_sum(n, [&](lp_i64 i) { return lp_mul(lp_float(magnitude(i)), 2.3283064365386963e-10f); }), (float)n);
            mean = lp_min(lp_mul(scaled, 4294967296.0f), lp_float((lp_u32)top));
        }
    }
    if (threadIdx.x) return;
    float s = mean != mean ? lp_float(LP_NAN) : lp_max(mean, eps), one = s == 0.0f ? 1.0f : lp_bits(s) == LP_INF ? lp_float(LP_NAN) : s, value = one, factor = one;
    if (!zero) {
        value = s == 0.0f ? 0.0f : one;
        factor = value != value ? value : 1.0f;
    } else if (apply_inverse) {
        factor = lp_div(1.0f, one);
        factor = factor != factor ? factor : lp_min(factor, lp_float(LP_FLT_MAX));
    }
    codes[at] = value != value ? LP_NAN : lp_bits(value);
    values[at] = value;
    factors[at] = factor;
}

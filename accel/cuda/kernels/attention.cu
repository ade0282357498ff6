/* attention: the rows of scores between the products of lpref.ref.attention.dense; the products themselves are product.cu's.
 *
 * A warp takes a row of S numbers; lane t holds the lanes t, t + 32, ... of the defined sum (lpref.ref.reduce), so strides of 32 and more are added inside
 * a thread and the rest by shuffles. Rows of at most 32 LP_SLOTS numbers stay in registers between the passes; longer ones (LP_SLOTS = 32) are read
 * again by the thread that wrote them. Of a masked position nothing is read: its score is -inf, and the exponential of -inf - max is made once a row.
 * Versions: 1. this one: softmax in place of the scores: one read and one write of the probabilities that are kept anyway. */
#define LP_TEAM 32
#include "elementary.h"
#include "reduce.cuh"

#define LANES 1024
#define WARPS 4

/* One slot of a row of n > LANES numbers, or the only round of a shorter one. */
#define SLOTS(j, m, first)                                                  \
    _Pragma("unroll") for (int m = 0; m < LP_SLOTS; ++m)                     \
        for (int j = (first) + 32 * m + lane_id, once = 1; once; once = 0)

/* p [rows, S] from q k^T to probabilities; row r is query r % T and sees causal ? r % T + 1 + S - T : S positions */
extern "C" __global__ void __launch_bounds__(32 * WARPS) softmax(float *p, lp_i64 rows, int T, int S, int causal, float scale) {
    int lane_id = (int)threadIdx.x & 31;
    lp_i64 row = (lp_i64)blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (row >= rows) return; /* a whole warp */
    p += row * S;
    int seen = causal ? (int)(row % T) + 1 + S - T : S;
    float v[LP_SLOTS], lanes[LP_SLOTS], top = -lp_float(LP_INF);
    int nan = 0;
    for (int first = 0; first < seen; first += LANES)
        SLOTS(j, m, first) {
            v[m] = j < seen ? lp_mul(p[j], scale) : -lp_float(LP_INF);
            nan |= v[m] != v[m];
            top = lp_max(top, v[m]);
        }
    nan = __any_sync(LP_ALL, nan);
#pragma unroll
    for (int half = 16; half; half /= 2) top = lp_max(top, __shfl_xor_sync(LP_ALL, top, half));
    top = nan ? lp_float(LP_NAN) : top;
    float masked = lp_narrow(lp_exp64((double)lp_sub(-lp_float(LP_INF), top)));
#pragma unroll
    for (int m = 0; m < LP_SLOTS; ++m) lanes[m] = 0.0f;
    for (int first = 0; first < S; first += LANES)
        SLOTS(j, m, first) {
            if (j >= S) continue;
            if (S > LANES && j < seen) v[m] = lp_mul(p[j], scale);
            v[m] = j < seen ? lp_narrow(lp_exp64((double)lp_sub(v[m], top))) : masked;
            lanes[m] = lp_add(lanes[m], v[m]);
            if (S > LANES) p[j] = v[m];
        }
    halve<LP_SLOTS / 2>(lanes);
    float total = team_sum(lanes[0]);
    for (int first = 0; first < S; first += LANES)
        SLOTS(j, m, first) if (j < S) p[j] = lp_div(S > LANES ? p[j] : v[m], total);
}

/* ds [rows, S] from dp to (p (dp - delta)) scale, delta = sum of dp p. Where *skip, masked positions hold nothing: they are +0 (p is). */
extern "C" __global__ void __launch_bounds__(32 * WARPS) score_gradient(float *ds, const float *p, lp_i64 rows, int T, int S, const int *skip, float scale) {
    int lane_id = (int)threadIdx.x & 31;
    lp_i64 row = (lp_i64)blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (row >= rows) return;
    ds += row * S;
    p += row * S;
    int seen = *skip ? (int)(row % T) + 1 + S - T : S;
    float d[LP_SLOTS], q[LP_SLOTS], lanes[LP_SLOTS];
#pragma unroll
    for (int m = 0; m < LP_SLOTS; ++m) lanes[m] = d[m] = q[m] = 0.0f;
    for (int first = 0; first < seen; first += LANES)
        SLOTS(j, m, first) {
            if (j >= seen) continue;
            d[m] = ds[j];
            q[m] = p[j];
            lanes[m] = lp_add(lanes[m], lp_mul(d[m], q[m]));
        }
    halve<LP_SLOTS / 2>(lanes);
    float delta = team_sum(lanes[0]);
    for (int first = 0; first < S; first += LANES)
        SLOTS(j, m, first) {
            if (j >= S) continue;
            if (S > LANES && j < seen) {
                d[m] = ds[j];
                q[m] = p[j];
            }
            ds[j] = j < seen ? lp_mul(lp_mul(q[m], lp_sub(d[m], delta)), scale) : 0.0f;
        }
}

/* May what causality masks be left out of a backward? Where no masked product can overflow, and p (of which it is a factor) is +0 there.
 * reach: bits of the greatest magnitudes of do, q, k, v, p. Forward (E = -1): is v, the only one, finite? */
extern "C" __global__ void may_skip(const lp_u32 *reach, int E, float scale, int *out) {
    if (E < 0) {
        *out = reach[0] < LP_INF;
        return;
    }
    int finite = 1;
    for (int i = 0; i < 5; ++i) finite &= reach[i] < LP_INF;
    double d = (double)lp_float(reach[0]), q = (double)lp_float(reach[1]), k = (double)lp_float(reach[2]), v = (double)lp_float(reach[3]);
    double most = lp_dmul(lp_dmul(lp_dmul(d, v), (double)(E + 1)), fmax(1.0, fabs((double)scale)));
    *out = finite && lp_dmul(most, lp_dadd(lp_dadd(k, q), 1.0)) < 1e30 && lp_float(reach[4]) <= 1.0f;
}

/* out [B, G, n] <- parts [B, G group, n], a group's heads added in ascending order from the first */
extern "C" __global__ void __launch_bounds__(256) gather(const float *parts, lp_i64 heads, int group, lp_i64 n, float *out) {
    LP_EACH(i, heads * n) {
        const float *p = parts + i / n * group * n + i % n;
        float total = *p;
        for (int g = 1; g < group; ++g) total = lp_add(total, p[g * n]);
        out[i] = total;
    }
}

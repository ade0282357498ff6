/* loss: softmax cross-entropy, the page of lpref.ref.nn.loss. Forward keeps of each row its maximum and the sum of its e^z; what the gradient needs
 * of the probabilities it computes again, with the same bits, so that they are never stored.
 *
 * LP_X, LP_Y: what logits and their gradient are (loads.cuh). cross_entropy: a team a row. cross_entropy_long: 256 threads a row of a multiple of four elements; thread t has the lanes 4 t .. 4 t + 3. The row's
 * first elements stay in shared memory between the search for the maximum and the sum, the rest is read again from the second-level cache,
 * which two rows a multiprocessor then leave room for. LP_PEAK: what the amax of the gradient follows from is kept too. Versions: 1. e^z by float64 alone, stored, read and divided by the sum (16384 x 50304 on an
 * H200: 5.3 ms, gradient 2.1). 2. this one. */
#include "decided.h"
#include "element.h"
#include "reduce.cuh"
#include "fours.cuh"
#include "peak.cuh"
#include "shares.cuh"

#if LP_X
typedef uint2 Four;
#else
typedef float4 Four;
#endif

/* the larger one; NaN wins */
#ifdef __CUDACC_RTC__
LPREF_FN float larger(float a, float b) {
    float most;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(most) : "f"(a), "f"(b));
    return most;
}
#else
LPREF_FN float larger(float a, float b) { return a != a || b != b ? lp_float(LP_NAN) : a > b ? a : b; }
#endif
LPREF_FN float team_top(float most) { return lp_float((lp_u32)lp_rank((lp_u32)team_max(lp_rank(lp_bits(most))))); }

LPREF_FN float exp_of(float x) {
    float y;
    lp_each<lp_Exp, 1>(&x, &y);
    return y;
}

extern "C" __global__ void __launch_bounds__(LP_BLOCK) cross_entropy(const void *logits, const lp_i64 *targets, lp_i64 rows, lp_i64 n, float *tops, float *sums,
                                                                     float *losses) {
    LP_ROWS(r, rows) {
        lp_i64 z = r * n;
        float most = -lp_float(LP_INF);
        LP_COLUMNS(i, n) most = larger(most, load<LP_X>(logits, z + i));
        float top = team_top(most), s = row_sum(n, [&](lp_place i) { return exp_of(lp_sub(load<LP_X>(logits, z + i), top)); });
        if (LP_MINE == 0) {
            tops[r] = top;
            sums[r] = s;
            losses[r] = lp_sub(lp_log(s), lp_sub(load<LP_X>(logits, r * n + targets[r]), top));
        }
    }
}

#if LP_TEAM == 256 && LP_SLOTS == 4
#ifdef __CUDACC_RTC__
#define ROW(name) extern __shared__ __align__(16) Four name[]
#else
#define ROW(name) static __attribute__((aligned(16))) Four name[1 << 14]
#endif
#define AHEAD 8 /* loads of 16 bytes that a thread has on their way */

/* n: a multiple of four; kept: fours */
extern "C" __global__ void __launch_bounds__(256, 2) cross_entropy_long(const void *logits, const lp_i64 *targets, lp_i64 rows, lp_i64 n, int kept, float *tops,
                                                                        float *sums, float *losses, float *others) {
    ROW(near);
    int mine = threadIdx.x, end = (int)(n / 4);
    for (lp_i64 r = blockIdx.x; r < rows; r += gridDim.x) {
        const Four *z = (const Four *)logits + r * (n / 4);
        float most = -lp_float(LP_INF);
        for (int base = mine; base < end; base += 256 * AHEAD) {
            Four four[AHEAD];
#pragma unroll
            for (int k = 0; k < AHEAD; ++k) four[k] = z[base + 256 * k < end ? base + 256 * k : mine];
#pragma unroll
            for (int k = 0; k < AHEAD; ++k) {
                float v[4];
                take<4, LP_X>(&four[k], 0, v);
                if (base + 256 * k < kept) near[base + 256 * k] = four[k]; /* read by this thread only */
                most = larger(larger(larger(most, v[0]), larger(v[1], v[2])), v[3]);
            }
        }
        float top = team_top(most), lane[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        Four next[2];
        auto fetch = [&](int i) {
#pragma unroll
            for (int k = 0; k < 2; ++k) {
                int at = i + 256 * k < end ? i + 256 * k : mine;
                if (at < kept) next[k] = near[at];
                else next[k] = z[at];
            }
        };
        fetch(mine);
#if LP_PEAK
        lp_u32 rest = 0;
        int target = (int)targets[r], four = target / 4;
        Four around = z[four];
#endif
        auto add = [&](auto c, int i) { /* the fours i and, of eight, i + 256 */
            const int N = decltype(c)::n;
            float e[N];
#pragma unroll
            for (int k = 0; k < N / 4; ++k) take<4, LP_X>(&next[k], 0, e + 4 * k);
            if (i + 512 < end) fetch(i + 512);
#pragma unroll
            for (int k = 0; k < N; ++k) e[k] = lp_sub(e[k], top);
            lp_each<lp_Exp, N>(e, e);
#pragma unroll
            for (int k = 0; k < N; ++k) lane[k % 4] = lp_add(lane[k % 4], e[k]);
#if LP_PEAK
#pragma unroll
            for (int k = 0; k < N; k += 4) {
                lp_u32 high = lp_umax(lp_umax(lp_bits(e[k]), lp_bits(e[k + 1])), lp_umax(lp_bits(e[k + 2]), lp_bits(e[k + 3])));
                rest = lp_umax(rest, i + 64 * k == four ? 0u : high);
            }
#endif
        };
        int i = mine;
        for (; i + 256 < end; i += 512) add(Count<8>(), i);
        if (i < end) add(Count<4>(), i);
#pragma unroll
        for (int k = 0; k < 4; ++k) lane[k] = team_sum(lane[k]); /* lanes 512, ..., 4 apart */
        float s = lp_add(lp_add(lane[0], lane[2]), lp_add(lane[1], lane[3]));
#if LP_PEAK
        if (four % 256 == mine) { /* the target's neighbours */
            float e[4];
            take<4, LP_X>(&around, 0, e);
#pragma unroll
            for (int k = 0; k < 4; ++k) e[k] = lp_sub(e[k], top);
            lp_each<lp_Exp, 4>(e, e);
#pragma unroll
            for (int k = 0; k < 4; ++k) rest = lp_umax(rest, k == target % 4 ? 0u : lp_bits(e[k]));
        }
        rest = (lp_u32)team_max((int)(rest & LP_ABS));
        if (threadIdx.x == 0) others[r] = lp_float(rest);
#endif
        if (threadIdx.x == 0) {
            tops[r] = top;
            sums[r] = s;
            losses[r] = lp_sub(lp_log(s), lp_sub(load<LP_X>(logits, r * n + targets[r]), top));
        }
    }
}
#endif

/* x: the logits with each row's maximum and sum, or (tops null) the probabilities. targets: or null, for the probabilities times the scale. dloss: on
 * the device, or null and a number. counters: peak.cuh. A block's rows are its y, its x goes along them. */
extern "C" __global__ void __launch_bounds__(256, 4) cross_entropy_backward(const void *x, const float *tops, const float *sums, const lp_i64 *targets, lp_i64 rows,
                                                                            lp_i64 n, const float *dloss, float number, float count, void *dlogits, lp_u64 *counters) {
    lp_u32 most = 0;
    float scale = lp_div(dloss ? *dloss : number, count);
    bool fours = (n & 3) == 0 && aligned<LP_X>(x) && aligned<LP_Y>(dlogits);
    for (lp_i64 r = (lp_i64)blockIdx.y * blockDim.y + threadIdx.y; r < rows; r += (lp_i64)gridDim.y * blockDim.y) {
        lp_i64 row = r * n, target = targets ? targets[r] : -1;
        float top = tops ? tops[r] : 0.0f, s = tops ? sums[r] : 1.0f, reciprocal = lp_div(1.0f, s);
        by_fours<1>(
            n, fours, [&](auto c, lp_i64 i, float (*v)[4]) { take<decltype(c)::n, LP_X>(x, row + i, v[0]); },
            [&](auto c, lp_i64 i, float (*v)[4]) {
                const int N = decltype(c)::n;
                float p[4];
                if (tops) {
#pragma unroll
                    for (int k = 0; k < N; ++k) p[k] = lp_sub(v[0][k], top);
                    lp_each<lp_Exp, N>(p, p);
                    shares<N>(p, s, reciprocal, p);
                } else {
#pragma unroll
                    for (int k = 0; k < N; ++k) p[k] = v[0][k];
                }
                lp_i64 ahead = target - i;
                int hit = ahead >= 0 && ahead < N ? (int)ahead : N;
#pragma unroll
                for (int k = 0; k < N; ++k) p[k] = lp_mul(k == hit ? lp_sub(p[k], 1.0f) : p[k], scale);
                give<N, LP_Y>(dlogits, row + i, p);
                seen_in<N>(most, p);
            });
    }
    noted(most, counters);
}

/* The greatest magnitude of that gradient, without it: of a row's classes but the target, that with the largest e^z (others) has it, since quotients and
 * products do not pass one another. */
extern "C" __global__ void __launch_bounds__(256) cross_entropy_peak(const void *x, const float *others, const float *tops, const float *sums, const lp_i64 *targets,
                                                                     const float *dloss, float number, float count, lp_i64 rows, lp_i64 n, lp_u64 *counters) {
    lp_u32 most = 0;
    float scale = lp_div(dloss ? *dloss : number, count);
    LP_EACH(r, rows) {
        float s = sums[r], e[2] = {others[r], exp_of(lp_sub(load<LP_X>(x, r * n + targets[r]), tops[r]))}, p[2];
        shares<2>(e, s, lp_div(1.0f, s), p);
        p[0] = lp_mul(p[0], scale);
        p[1] = lp_mul(lp_sub(p[1], 1.0f), scale);
        seen_in<2>(most, p);
    }
    noted(most, counters);
}

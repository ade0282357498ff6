/* optim: update rules in one pass over a parameter; the norm of many gradients; whether all are finite.
 *
 * squares gives 32 of an array's 1024 lanes to a block: all its threads load (the next 256 rows are on their way while one warp adds those that lie
 * in shared memory), so that one long array is read by 32 multiprocessors; the longest arrays begin, since their lanes are chains of additions.
 * Versions: 1. a block an array. 2. blocks of 256 threads, 128 rows, in the arrays' order (163 M numbers, two arrays of 39 M: 1.14 ms on an H200).
 * 3. so (model of 0.9 M numbers, 27 arrays: 10.9 us, of which most is blocks waiting for others). 4. this one: blocks of 256 threads where all numbers
 * are few. */
#include "reduce.cuh"
#include "rules.cuh"

#define KERNEL extern "C" __global__ void __launch_bounds__(256)

KERNEL adamw(const float *p, const float *g, const float *m, const float *v, lp_i64 n, float b1, float c1, float b2, float c2, float a, float r, float eps, float lr, float wd,
             float lrwd, int order, float *delta, float *m_new, float *v_new) {
    AdamW k = {b1, c1, b2, c2, a, r, eps, lr, wd, lrwd};
    LP_EACH(i, n) {
        float m2 = m[i], v2 = v[i];
        delta[i] = adamw_of(p[i], g[i], m2, v2, k, order);
        m_new[i] = m2;
        v_new[i] = v2;
    }
}

KERNEL sgd(const float *p, const float *g, const float *b, lp_i64 n, float lr, float mu, float e, float wd, int decay, int nesterov, int momentum, float *delta, float *b_new) {
    Sgd k = {lr, mu, e, wd, decay, nesterov, momentum};
    LP_EACH(i, n) {
        float b2 = momentum ? b[i] : 0.0f;
        delta[i] = sgd_of(p[i], g[i], b2, k);
        if (momentum) b_new[i] = b2;
    }
}

KERNEL lion(const float *p, const float *g, const float *m, lp_i64 n, float lr, float b1, float c1, float b2, float c2, float wd, float *delta, float *m_new) {
    Lion k = {lr, b1, c1, b2, c2, wd};
    LP_EACH(i, n) {
        float m2 = m[i];
        delta[i] = lion_of(p[i], g[i], m2, k);
        m_new[i] = m2;
    }
}

/* rows row + threadIdx.y, HIGH rows apart, of a lane */
template <int HIGH, int DEEP> LPREF_FN void ahead(const float *x, lp_i64 n, lp_i64 row, lp_i64 lane, float *v) {
#pragma unroll
    for (int k = 0; k < DEEP; ++k) {
        lp_i64 i = (row + threadIdx.y + HIGH * k) * 1024 + lane;
        v[k] = i < n ? x[i] : 0.0f;
    }
}

/* arrays: pointer, size and number of each; by: what every element is multiplied with, or 0. lanes [arrays, 1024]: the squares of each lane, added in
 * order. odd, or 0: set to 1 where anything is NaN or infinite. A block: 32 lanes of an array, HIGH rows of threads, each with DEEP rows on their way. */
template <int HIGH, int DEEP> LPREF_FN void squared(const lp_u64 *arrays, const float *by, float *lanes, lp_u32 *odd) {
    __shared__ float tile[HIGH * DEEP][32];
    const float *x = (const float *)arrays[3 * blockIdx.y];
    lp_i64 n = (lp_i64)arrays[3 * blockIdx.y + 1], first = 32 * blockIdx.x, lane = first + threadIdx.x;
    lp_i64 rows = n > first ? (n - first + 1023) / 1024 : 0;
    float sum = 0.0f, factor = by ? *by : 1.0f, v[DEEP];
    int bad = 0;
    ahead<HIGH, DEEP>(x, n, 0, lane, v);
    for (lp_i64 row = 0; row < rows; row += HIGH * DEEP) {
#pragma unroll
        for (int k = 0; k < DEEP; ++k) {
            float g = lp_mul(v[k], factor);
            bad |= (lp_bits(g) & LP_ABS) >= LP_INF;
            tile[threadIdx.y + HIGH * k][threadIdx.x] = lp_mul(g, g);
        }
        __syncthreads();
        if (row + HIGH * DEEP < rows) ahead<HIGH, DEEP>(x, n, row + HIGH * DEEP, lane, v);
        if (threadIdx.y == 0) {
#pragma unroll 32
            for (int k = 0; k < HIGH * DEEP; ++k) sum = lp_add(sum, tile[k][threadIdx.x]);
        }
        __syncthreads();
    }
    if (threadIdx.y == 0) lanes[arrays[3 * blockIdx.y + 2] * 1024 + lane] = sum;
    if (bad && odd) *odd = 1;
}

extern "C" __global__ void __launch_bounds__(1024) squares(const lp_u64 *arrays, const float *by, float *lanes, lp_u32 *odd) {
    squared<32, 8>(arrays, by, lanes, odd);
}

/* the same for arrays so small that all blocks should be there at once */
extern "C" __global__ void __launch_bounds__(256) squares_of_few(const lp_u64 *arrays, const float *by, float *lanes, lp_u32 *odd) {
    squared<8, 12>(arrays, by, lanes, odd);
}

/* sums [arrays]: each array's lanes, halved */
extern "C" __global__ void __launch_bounds__(LP_BLOCK) halved(const float *lanes, float *sums) {
    float sum = team_sum(lanes[(lp_i64)blockIdx.x * LP_TEAM + threadIdx.x]);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

/* the root of the sum of the sums */
extern "C" __global__ void __launch_bounds__(LP_BLOCK) norm_of(const float *sums, lp_i64 count, float *out) {
    float sum = row_sum(count, [&](lp_place i) { return sums[i]; });
    if (LP_MINE == 0) *out = lp_sqrt(sum);
}

/* seen: set to 1 where anything is NaN or infinite */
extern "C" __global__ void __launch_bounds__(LP_BLOCK) nonfinite(const lp_u64 *arrays, lp_i64 count, lp_u32 *seen) {
    for (lp_i64 r = blockIdx.y; r < count; r += gridDim.y) {
        const lp_u32 *x = (const lp_u32 *)arrays[2 * r];
        int bad = 0;
#pragma unroll 8
        LP_EACH(i, (lp_i64)arrays[2 * r + 1]) bad |= (x[i] & LP_ABS) >= LP_INF;
        if (bad) *seen = 1;
    }
}

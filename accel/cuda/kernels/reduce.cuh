/* The one sum (lpref.ref.reduce.tree_sum) and maxima, for kernels that go along rows or down columns.
 *
 * Rows: a team of LP_TEAM threads takes a row; thread t holds the lanes t, t + LP_TEAM, ... (LP_SLOTS of them; LP_TEAM LP_SLOTS
 * is 1024, or the power of two from the row's length up: the lanes above it are +0 and change nothing). Halving goes through the thread's own lanes,
 * then through shared memory (strides of 32 and more), then through shuffles; both halves of a pair add the same two numbers, so every thread ends
 * with the sum. A team of more than 32 threads is a whole block. Lanes start with their first term instead of +0: that is the same but for -0, and
 * the sum is never -0.
 * Columns: a thread takes the lanes g, g + 256, g + 512, g + 768 of one column; the 256 sums of a column are halved by column_sums (reduce.cu). Many
 * threads with few loads each: the compiler keeps about eight loads of a thread in flight, however it is written (32 lanes a thread: a fifth of the
 * copy bandwidth). Terms are functions: what is summed is computed on the way. */
#include "base.h"

#define LP_ALL 0xFFFFFFFFu
#define LP_INDEX ((lp_i64)blockIdx.x * blockDim.x + threadIdx.x)
/* every i < n, by the whole grid */
#define LP_EACH(i, n) for (lp_i64 i = LP_INDEX; i < (n); i += (lp_i64)gridDim.x * blockDim.x)

/* bits <-> integers in the order of the floats */
LPREF_FN lp_i32 lp_rank(lp_u32 bits) { return (lp_i32)bits ^ (((lp_i32)bits >> 31) & 0x7FFFFFFF); }

/* lane[0] <- the sum of a thread's 2 HALF lanes, in the order of halving; recursion, since a loop inside a loop is not always unrolled */
template <int HALF> LPREF_FN void halve(float *lane) {
    if constexpr (HALF > 0) {
#pragma unroll
        for (int k = 0; k < HALF; ++k) lane[k] = lp_add(lane[k], lane[k + HALF]);
        halve<HALF / 2>(lane);
    }
}

#ifdef LP_TEAM
#define LP_BLOCK (LP_TEAM < 256 ? 256 : LP_TEAM)
#if LP_TEAM >= 1024
typedef lp_i64 lp_place; /* where a row's element is; smaller teams have so many rows that none has 2^31 */
#else
typedef int lp_place;
#endif
#define LP_MINE (threadIdx.x % LP_TEAM)
/* every row r < n, one a team */
#define LP_ROWS(r, n) \
    for (lp_i64 r = (lp_i64)blockIdx.x * (blockDim.x / LP_TEAM) + threadIdx.x / LP_TEAM; r < (n); r += (lp_i64)gridDim.x * (blockDim.x / LP_TEAM))
/* every i < n of a row, by the team */
#define LP_COLUMNS(i, n) for (lp_place i = LP_MINE; i < (lp_place)(n); i += LP_TEAM)
#define LP_WARPS (LP_TEAM / 32)

/* the sum of the team's numbers, in the order of halving; never -0 */
LPREF_FN float team_sum(float v) {
#if LP_WARPS > 1
    __shared__ float all[LP_TEAM];
    float own[LP_WARPS];
    __syncthreads(); /* who read the last sum is done */
    all[threadIdx.x] = v;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < LP_WARPS; ++w) own[w] = all[(threadIdx.x & 31) + 32 * w];
    halve<LP_WARPS / 2>(own);
    v = own[0];
#endif
#pragma unroll
    for (int d = 16; d; d /= 2) v = lp_add(v, __shfl_xor_sync(LP_ALL, v, d));
    return lp_add(v, 0.0f);
}

/* sum of term(i), i < n; in long rows 16 terms a thread are made before any is added, so that their loads are in flight together */
template <class Term> LPREF_FN float row_sum(lp_i64 length, Term term) {
    const int PERIOD = LP_TEAM * LP_SLOTS, AHEAD = LP_SLOTS < 16 ? 16 : LP_SLOTS;
    lp_place n = (lp_place)length, i = LP_MINE;
    float lane[LP_SLOTS];
#pragma unroll
    for (int j = 0; j < LP_SLOTS; ++j) lane[j] = i + j * LP_TEAM < n ? term(i + j * LP_TEAM) : 0.0f;
    if constexpr (PERIOD == 1024) { /* else the row is over */
        lp_i64 at = i + PERIOD;
        for (; at + (AHEAD - 1) * LP_TEAM < n; at += AHEAD * LP_TEAM) {
            float v[AHEAD];
#pragma unroll
            for (int j = 0; j < AHEAD; ++j) v[j] = term((lp_place)at + j * LP_TEAM);
#pragma unroll
            for (int j = 0; j < AHEAD; ++j) lane[j % LP_SLOTS] = lp_add(lane[j % LP_SLOTS], v[j]);
        }
        for (; at < n; at += PERIOD) {
#pragma unroll
            for (int j = 0; j < LP_SLOTS; ++j) {
                if (at + j * LP_TEAM < n) lane[j] = lp_add(lane[j], term((lp_place)at + j * LP_TEAM));
            }
        }
    }
    halve<LP_SLOTS / 2>(lane);
    return team_sum(lane[0]);
}

/* the largest of the team's integers */
LPREF_FN lp_i32 team_max(lp_i32 v) {
    v = __reduce_max_sync(LP_ALL, v);
#if LP_WARPS > 1
    __shared__ lp_i32 all[32];
    __syncthreads();
    if ((threadIdx.x & 31) == 0) all[threadIdx.x / 32] = v;
    __syncthreads();
    v = __reduce_max_sync(LP_ALL, all[(threadIdx.x & 31) % LP_WARPS]);
#endif
    return v;
}
#endif

/* sum[s] <- the sum of the lanes g, g + 1024 / PER, ... of N terms side by side, term(i, v), i < n: 16 rows are read before any is added */
template <int N, int PER, class Term> LPREF_FN void lane_group(lp_i64 n, lp_u32 g, float *sum, Term term) {
    const int STEP = 1024 / PER, ROUNDS = PER < 16 ? 16 / PER : 1;
    float lane[N][PER];
#pragma unroll
    for (int k = 0; k < PER * N; ++k) lane[k / PER][k % PER] = 0.0f;
    lp_i64 base = g;
    for (; base + 1024 * (ROUNDS - 1) + STEP * (PER - 1) < n; base += 1024 * ROUNDS) {
#pragma unroll
        for (int first = 0; first < ROUNDS * PER; first += 16) {
            float v[16][N];
#pragma unroll
            for (int k = 0; k < 16; ++k) term(base + STEP * ((first + k) % PER) + 1024 * ((first + k) / PER), v[k]);
#pragma unroll
            for (int k = 0; k < 16 * N; ++k) lane[k % N][(first + k / N) % PER] = lp_add(lane[k % N][(first + k / N) % PER], v[k / N][k % N]);
        }
    }
    for (; base < n; base += 1024) {
        const int MOST = PER < 16 ? PER : 16;
#pragma unroll
        for (int first = 0; first < PER; first += MOST) {
            float v[MOST][N];
#pragma unroll
            for (int k = 0; k < MOST; ++k)
                if (base + STEP * (first + k) < n) term(base + STEP * (first + k), v[k]);
#pragma unroll
            for (int k = 0; k < MOST; ++k)
#pragma unroll
                for (int s = 0; s < N; ++s)
                    if (base + STEP * (first + k) < n) lane[s][first + k] = lp_add(lane[s][first + k], v[k][s]);
        }
    }
#pragma unroll
    for (int s = 0; s < N; ++s) {
        halve<PER / 2>(lane[s]);
        sum[s] = lane[s][0];
    }
}

/* The sums of lane groups of N columns side by side: blocks of 32 columns x some of the 256 groups. term(b, i, c, v) gives the N terms of row i;
 * partial [N, batch, groups, columns]. */
template <int N, class Term> LPREF_FN void column_groups(lp_i64 batch, lp_i64 n, lp_i64 columns, lp_u32 groups, float *partial, Term term) {
    lp_i64 c = (lp_i64)blockIdx.x * 32 + threadIdx.x;
    lp_u32 g = blockIdx.y * blockDim.y + threadIdx.y;
    if (c >= columns || g >= groups) return;
    for (lp_i64 b = blockIdx.z; b < batch; b += gridDim.z) {
        float sum[N];
        lane_group<N, 4>(n, g, sum, [&](lp_i64 i, float *v) { term(b, i, c, v); });
#pragma unroll
        for (int s = 0; s < N; ++s) partial[((s * batch + b) * groups + g) * columns + c] = sum[s];
    }
}

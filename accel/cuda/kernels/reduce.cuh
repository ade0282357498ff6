/* The one sum (lpref.ref.reduce.tree_sum) and maxima, for kernels that go along rows or down columns.
 *
 * Rows: a team of LP_TEAM threads takes a row; thread t holds the lanes t, t + LP_TEAM, ... (LP_SLOTS of them; LP_TEAM LP_SLOTS is 1024, or the
 * power of two from the row's length up: the lanes above it are +0 and change nothing). Halving goes through the thread's own lanes, then
 * through shared memory (strides of 32 and more), then through shuffles; both halves of a pair add the same two numbers, so every thread ends with
 * the sum. A team of more than 32 threads is a whole block.
 * Columns: a thread takes the lanes g, g + 32, ..., g + 992 of one column, so that 32 loads are in flight; the 32 sums of a column are halved by
 * whoever has them. Terms are functions: what is summed is computed on the way. */
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
#define LP_MINE (threadIdx.x % LP_TEAM)
/* every row r < n, one a team */
#define LP_ROWS(r, n) \
    for (lp_i64 r = (lp_i64)blockIdx.x * (blockDim.x / LP_TEAM) + threadIdx.x / LP_TEAM; r < (n); r += (lp_i64)gridDim.x * (blockDim.x / LP_TEAM))
/* every i < n of a row, by the team */
#define LP_COLUMNS(i, n) for (lp_i64 i = LP_MINE; i < (n); i += LP_TEAM)
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

/* sum of term(i), i < n */
template <class Term> LPREF_FN float row_sum(lp_i64 n, Term term) {
    float lane[LP_SLOTS];
#pragma unroll
    for (int j = 0; j < LP_SLOTS; ++j) lane[j] = 0.0f;
#pragma unroll 8 / LP_SLOTS
    for (lp_i64 base = LP_MINE; base < n; base += LP_TEAM * LP_SLOTS) {
#pragma unroll
        for (int j = 0; j < LP_SLOTS; ++j) {
            lp_i64 i = base + j * LP_TEAM;
            if (i < n) lane[j] = lp_add(lane[j], term(i));
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

/* maximum of x[i], i < n, n > 0; NaN wins */
LPREF_FN float row_max(const float *x, lp_i64 n) {
    lp_i32 best = (lp_i32)0x80000000u, top = 0;
    LP_COLUMNS(i, n) {
        lp_u32 bits = lp_bits(x[i]);
        best = lp_imax(best, lp_rank(bits));
        top = lp_imax(top, (lp_i32)(bits & LP_ABS));
    }
    best = team_max(best);
    top = team_max(top);
    return lp_float(top > (lp_i32)LP_INF ? LP_NAN : (lp_u32)lp_rank((lp_u32)best));
}
#endif

/* the sum of the lanes g, g + 32, ... of term(i), i < n */
template <class Term> LPREF_FN float lane_group(lp_i64 n, lp_u32 g, Term term) {
    float lane[32];
#pragma unroll
    for (int k = 0; k < 32; ++k) lane[k] = 0.0f;
    for (lp_i64 base = g; base < n; base += 1024) {
#pragma unroll
        for (int k = 0; k < 32; ++k) {
            lp_i64 i = base + 32 * k;
            if (i < n) lane[k] = lp_add(lane[k], term(i));
        }
    }
    halve<16>(lane);
    return lane[0];
}

/* The sums of a column's lane groups: blocks of 32 columns x some groups; partial [batch, groups, columns]. */
template <class Term> LPREF_FN void column_groups(lp_i64 batch, lp_i64 n, lp_i64 columns, lp_u32 groups, float *partial, Term term) {
    lp_i64 c = (lp_i64)blockIdx.x * 32 + threadIdx.x;
    lp_u32 g = blockIdx.y * blockDim.y + threadIdx.y;
    if (c >= columns || g >= groups) return;
    for (lp_i64 b = blockIdx.z; b < batch; b += gridDim.z) {
        partial[(b * groups + g) * columns + c] = lane_group(n, g, [&](lp_i64 i) { return term(b, i, c); });
    }
}

/* reduce: the one sum over an axis, its mean, and the greatest magnitude. x is [batch, n, columns], contiguous.
 *
 * row_sums: columns = 1, a team a row. groups_of_columns, then column_sums: other columns; up to 256 numbers go to column_sums at once.
 * groups_of_fours: of float32, four columns a thread, where that still fills the device; groups_of_pairs: of bfloat16, two. row_tops, column_tops: maxima of integers, in any order. Versions: 1. 32 lane groups a
 * column, blocks of up to 1024 threads a row (16384 x 768: 0.8 and 1.2 TB/s on an H200). 2. this one (2.7 and 3.5 of 4.2 TB/s). */
#include "reduce.cuh"

/* count >= 0: divided by it (the mean) */
LPREF_FN float settled(float sum, float count) { return count >= 0.0f ? lp_div(sum, count) : sum; }

extern "C" __global__ void __launch_bounds__(LP_BLOCK) row_sums(const float *x, lp_i64 rows, lp_i64 n, float count, float *out) {
    LP_ROWS(r, rows) {
        const float *v = x + r * n;
        float sum = row_sum(n, [&](lp_place i) { return v[i]; });
        if (LP_MINE == 0) out[r] = settled(sum, count);
    }
}

extern "C" __global__ void __launch_bounds__(256) groups_of_columns(const float *x, lp_i64 batch, lp_i64 n, lp_i64 columns, lp_u32 groups, float *partial) {
    column_groups<1>(batch, n, columns, groups, partial, [&](lp_i64 b, lp_i64 i, lp_i64 c, float *v) { v[0] = x[(b * n + i) * columns + c]; });
}

/* the same, `fours` of columns: 32 a block */
extern "C" __global__ void __launch_bounds__(256) groups_of_fours(const float4 *x, lp_i64 batch, lp_i64 n, lp_i64 fours, lp_u32 groups, float4 *partial) {
    lp_i64 c = (lp_i64)blockIdx.x * 32 + threadIdx.x;
    lp_u32 g = blockIdx.y * blockDim.y + threadIdx.y;
    if (c >= fours || g >= groups) return;
    for (lp_i64 b = blockIdx.z; b < batch; b += gridDim.z) {
        float sum[4];
        lane_group<4, 4>(n, g, sum, [&](lp_i64 i, float *v) {
            float4 four = x[(b * n + i) * fours + c];
            v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
        });
        partial[(b * groups + g) * fours + c] = {sum[0], sum[1], sum[2], sum[3]};
    }
}

/* the same of bfloat16, `pairs` of columns: 32 a block */
extern "C" __global__ void __launch_bounds__(256) groups_of_pairs(const lp_u32 *x, lp_i64 batch, lp_i64 n, lp_i64 pairs, lp_u32 groups, float *partial) {
    lp_i64 c = (lp_i64)blockIdx.x * 32 + threadIdx.x;
    lp_u32 g = blockIdx.y * blockDim.y + threadIdx.y;
    if (c >= pairs || g >= groups) return;
    for (lp_i64 b = blockIdx.z; b < batch; b += gridDim.z) {
        float sum[2], *to = partial + 2 * ((b * groups + g) * pairs + c);
        lane_group<2, 4>(n, g, sum, [&](lp_i64 i, float *v) {
            lp_u32 pair = x[(b * n + i) * pairs + c];
            v[0] = lp_float(pair << 16);
            v[1] = lp_float(pair & 0xFFFF0000u);
        });
        to[0] = sum[0];
        to[1] = sum[1];
    }
}

/* partial [batch, groups <= 256, columns] -> out [batch, columns]: blocks of 32 columns x 8; thread y halves the groups y, y + 8, ... */
extern "C" __global__ void __launch_bounds__(256) column_sums(const float *partial, lp_i64 batch, lp_u32 groups, lp_i64 columns, float count, float *out) {
    __shared__ float sums[8][32];
    lp_i64 c = (lp_i64)blockIdx.x * 32 + threadIdx.x;
    for (lp_i64 b = blockIdx.y; b < batch; b += gridDim.y) {
        float lane[32];
#pragma unroll
        for (int k = 0; k < 32; ++k) lane[k] = threadIdx.y + 8 * k < groups && c < columns ? partial[(b * groups + threadIdx.y + 8 * k) * columns + c] : 0.0f;
        halve<16>(lane);
        __syncthreads(); /* the last sums are read */
        sums[threadIdx.y][threadIdx.x] = lane[0];
        __syncthreads();
        if (threadIdx.y == 0 && c < columns) {
#pragma unroll
            for (int k = 0; k < 8; ++k) lane[k] = sums[k][threadIdx.x];
            halve<4>(lane);
            out[b * columns + c] = settled(lp_add(lane[0], 0.0f), count);
        }
    }
}

extern "C" __global__ void __launch_bounds__(LP_BLOCK) row_tops(const float *x, lp_i64 rows, lp_i64 n, lp_u32 *out) {
    LP_ROWS(r, rows) {
        lp_i32 top = 0;
        const float *v = x + r * n;
        LP_COLUMNS(i, n) top = lp_imax(top, (lp_i32)(lp_bits(v[i]) & LP_ABS));
        top = team_max(top);
        if (LP_MINE == 0) out[r] = (lp_u32)top;
    }
}

/* out [batch, columns], zeroed; a thread takes `span` numbers of a column */
extern "C" __global__ void __launch_bounds__(256) column_tops(const float *x, lp_i64 batch, lp_i64 n, lp_i64 columns, lp_i64 span, lp_u32 *out) {
    lp_i64 parts = (n + span - 1) / span;
    LP_EACH(i, batch * parts * columns) {
        lp_i64 c = i % columns, part = i / columns % parts, b = i / columns / parts, last = part * span + span;
        lp_u32 top = 0;
        for (lp_i64 k = part * span; k < (last < n ? last : n); ++k) top = lp_umax(top, lp_bits(x[(b * n + k) * columns + c]) & LP_ABS);
        if (top) atomicMax(out + b * columns + c, top);
    }
}

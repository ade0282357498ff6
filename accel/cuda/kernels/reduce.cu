/* reduce: the one sum over an axis, its mean, and the greatest magnitude. x is [batch, n, columns], contiguous.
 *
 * row_sums: columns = 1, a team a row. column_groups, then column_sums: other columns; up to 32 numbers go to column_sums at once.
 * row_tops, column_tops: maxima of integers, in any order. Versions: 1. this one. */
#include "reduce.cuh"

/* count > 0: divided by it (the mean) */
LPREF_FN float settled(float sum, float count) { return count >= 0.0f ? lp_div(sum, count) : sum; }

extern "C" __global__ void __launch_bounds__(LP_BLOCK) row_sums(const float *x, lp_i64 rows, lp_i64 n, float count, float *out) {
    LP_ROWS(r, rows) {
        const float *v = x + r * n;
        float sum = row_sum(n, [&](lp_i64 i) { return v[i]; });
        if (LP_MINE == 0) out[r] = settled(sum, count);
    }
}

extern "C" __global__ void __launch_bounds__(128) groups_of_columns(const float *x, lp_i64 batch, lp_i64 n, lp_i64 columns, lp_u32 groups, float *partial) {
    column_groups<1>(batch, n, columns, groups, partial, [&](lp_i64 b, lp_i64 i, lp_i64 c, float *v) { v[0] = x[(b * n + i) * columns + c]; });
}

/* partial [batch, groups <= 32, columns] -> out [batch, columns] */
extern "C" __global__ void __launch_bounds__(256) column_sums(const float *partial, lp_i64 batch, lp_u32 groups, lp_i64 columns, float count, float *out) {
    LP_EACH(i, batch * columns) {
        lp_i64 b = i / columns, c = i - b * columns;
        float lane[32];
#pragma unroll
        for (int g = 0; g < 32; ++g) lane[g] = g < groups ? partial[(b * groups + g) * columns + c] : 0.0f;
        halve<16>(lane);
        out[i] = settled(lp_add(lane[0], 0.0f), count);
    }
}

extern "C" __global__ void __launch_bounds__(LP_BLOCK) row_tops(const float *x, lp_i64 rows, lp_i64 n, lp_u32 *out) {
    LP_ROWS(r, rows) {
        lp_i32 top = 0;
        LP_COLUMNS(i, n) top = lp_imax(top, (lp_i32)(lp_bits(x[r * n + i]) & LP_ABS));
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

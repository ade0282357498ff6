/* flash_forward: softmax attention without its probabilities: o, and the logarithm to base 2 of every row's sum of exponentials (grade fast).
 *
 * A block takes ROWS queries of a head, a warp 16 LP_MT of them, and walks LP_BN keys at a time as far as causality lets it see: scores by the tensor
 * cores (times scale log2 e they are exponents of 2), a running maximum, exponentials that are the left side of the next product
 * where they lie in registers, sums rescaled where a maximum grew (Milakov and Gimelshein 2018; Dao 2023, algorithm 1). The next keys and values are
 * on their way while these are multiplied; two tiles of each, so one barrier a turn. What it promises: lpref.ref.attention.fused.
 * Versions: 1. mma.sync. 2. LP_GROUP: wgmma, a turn ahead of the threads (Shah et al. 2024, section 3.2). */
#include "heads.cuh"
#include "elementary.h"

#define NT (LP_BN / 8)
#define PAIR (OF_K(LP_BN) + OF_V(LP_BN)) /* a tile of keys and one of values */
#define HALVES (OF_K(ROWS) + 2 * PAIR)

/* Scores to exponentials; top (of scores) and total [fragment][row of two] follow; less: what earlier sums shrink by. Masked: keys after `last` plus the
 * query's number, or from `keys` on. */
LPREF_FN void exponentials(float (&s)[LP_MT][NT][4], float (&less)[LP_MT][2], float (&top)[LP_MT][2], float (&total)[LP_MT][2], Exponent by, int first, int last,
                           int keys) {
    turned_over(s, by);
#pragma unroll
    for (int m = 0; m < LP_MT; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            int stop = lp_imin(keys, last + row_of(m, h) + 1) - first - 2 * (LANE & 3);
            float most = top[m][h], sum = 0.0f;
            if (stop < LP_BN)
#pragma unroll
                for (int n = 0; n < NT; ++n)
#pragma unroll
                    for (int i = 0; i < 2; ++i)
                        if (8 * n + i >= stop) s[m][n][2 * h + i] = -lp_float(LP_INF);
#pragma unroll
            for (int n = 0; n < NT; ++n)
#pragma unroll
                for (int i = 0; i < 2; ++i) most = lp_max(most, s[m][n][2 * h + i]);
            most = lp_max(most, __shfl_xor_sync(0xFFFFFFFFu, most, 1));
            most = lp_max(most, __shfl_xor_sync(0xFFFFFFFFu, most, 2));
            float base = lp_mul(most, by.factor);
            less[m][h] = power(lp_mul(lp_sub(top[m][h], most), by.factor));
            if (lp_max(base, -base) < 65536.0f) { /* base is off by 2^-8, at most, and e within what scores are off */
#pragma unroll
                for (int n = 0; n < NT; ++n)
#pragma unroll
                    for (int i = 0; i < 2; ++i) s[m][n][2 * h + i] = lp_fma(s[m][n][2 * h + i], by.factor, -base);
            } else { /* the largest must be 1 */
#pragma unroll
                for (int n = 0; n < NT; ++n)
#pragma unroll
                    for (int i = 0; i < 2; ++i) s[m][n][2 * h + i] = lp_mul(lp_sub(s[m][n][2 * h + i], most), by.factor);
            }
#pragma unroll
            for (int n = 0; n < NT; ++n)
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    float e = power(s[m][n][2 * h + i]);
                    s[m][n][2 * h + i] = e;
                    sum = lp_add(sum, e);
                }
            top[m][h] = most;
            total[m][h] = lp_add(lp_mul(total[m][h], less[m][h]), sum);
        }
}

/* o times less; nothing to do where no maximum of the warp's rows grew */
LPREF_FN void shrink(float (&o)[LP_MT][LP_WIDE / 8][4], float (&less)[LP_MT][2]) {
    int same = 1;
#pragma unroll
    for (int i = 0; i < 2 * LP_MT; ++i) same &= less[i / 2][i % 2] == 1.0f;
    if (__all_sync(0xFFFFFFFFu, same)) return;
#pragma unroll
    for (int m = 0; m < LP_MT; ++m)
#pragma unroll
        for (int n = 0; n < LP_WIDE / 8; ++n)
#pragma unroll
            for (int c = 0; c < 4; ++c) o[m][n][c] = lp_mul(o[m][n][c], less[m][c / 2]);
}

/* o's rows divided by their sums, and lse. */
LPREF_FN void finish(float (&o)[LP_MT][LP_WIDE / 8][4], float (&top)[LP_MT][2], float (&total)[LP_MT][2], Exponent by, float *lse, int first, int T) {
#pragma unroll
    for (int m = 0; m < LP_MT; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            float sum = total[m][h];
            sum = lp_add(sum, __shfl_xor_sync(0xFFFFFFFFu, sum, 1));
            sum = lp_add(sum, __shfl_xor_sync(0xFFFFFFFFu, sum, 2));
            float part = lp_div(1.0f, sum);
#pragma unroll
            for (int n = 0; n < LP_WIDE / 8; ++n)
#pragma unroll
                for (int i = 0; i < 2; ++i) o[m][n][2 * h + i] = lp_mul(o[m][n][2 * h + i], part);
            int r = first + row_of(m, h);
            if ((LANE & 3) == 0 && r < T) lse[r] = lp_add(lp_mul(top[m][h], by.factor), lp_log2(sum));
        }
}

/* q [B, H, T, D], k and v [B, H / group, S, D and E] by their strides of batch, head and row; o likewise; lse [B, H, T]; c = scale log2 e; kept: the
 * planes of rotated queries, where LP_TURN is 3; counters: peak.cuh */
extern "C" __global__ void __launch_bounds__(THREADS, LP_RESIDENT)
    forward(const Number *q, lp_i64 qb, lp_i64 qh, lp_i64 qt, const Number *k, lp_i64 kb, lp_i64 kh, lp_i64 kt, const Number *v, lp_i64 vb, lp_i64 vh, lp_i64 vt,
            float *o, lp_i64 ob, lp_i64 oh, lp_i64 ot, float *lse, const float *cos, const float *sin, int H, int group, int T, int S, int causal, float c,
            lp_u16 *kept, lp_i64 gb, lp_i64 gh, lp_i64 gt, lp_u64 *counters) {
    lp_u32 peak = 0;
    POOL(2 * HALVES);
    int tiles = (T + ROWS - 1) / ROWS, head = (int)blockIdx.x / tiles, first = (tiles - 1 - (int)blockIdx.x % tiles) * ROWS, b = head / H, h = head % H;
    int keys = causal ? lp_imin(S, first + ROWS + S - T) : S, last = causal ? first + S - T : S;
    lp_u16 *side = pool + OF_K(ROWS);
    Exponent by = exponent_of(c);
    Turn turn = {cos, sin};
    q += b * qb + h * qh;
    k += b * kb + h / group * kh;
    v += b * vb + h / group * vh;
    clear(pool, HALVES);
    {
        Rows<Number, ROWS, LP_D, TURN_IN || LP_TURN == 3, PLANES_K> rows;
        rows.fetch(q, qt, first, T);
        rows.put(pool, turn, q, qt, first, T, LP_TURN == 3 ? kept + b * gb + h * gh : 0, gt);
    }
    Rows<Number, LP_BN, LP_D, TURN_IN, PLANES_K> next_k;
    Rows<Number, LP_BN, LP_E, false, PLANES_V> next_v;
    next_k.fetch(k, kt, 0, S);
    next_v.fetch(v, vt, 0, S);
    next_k.put(side, turn, k, kt, 0, S);
    next_v.put(side + OF_K(LP_BN), turn, v, vt, 0, S);
    if (LP_GROUP) { /* keys are two tiles ahead, values one, and what comes then is in registers */
        next_k.fetch(k, kt, LP_BN, S);
        next_k.put(side + PAIR, turn, k, kt, LP_BN, S);
        next_k.fetch(k, kt, 2 * LP_BN, S);
        next_v.fetch(v, vt, LP_BN, S);
    }
    published();
    __syncthreads();
    float sum[LP_MT][LP_WIDE / 8][4], top[LP_MT][2], total[LP_MT][2];
    zero(sum);
#pragma unroll
    for (int i = 0; i < 2 * LP_MT; ++i) {
        top[i / 2][i % 2] = -lp_float(LP_INF);
        total[i / 2][i % 2] = 0.0f;
    }
    float s[LP_MT][NT][4], less[LP_MT][2];
#if LP_GROUP
    /* The unit makes the next scores and this tile's part of o while threads put the tiles after them and make exponentials of those scores. */
    int tiles_seen = (lp_imin(keys, last + 64 * (GROUP + 1)) + LP_BN - 1) / LP_BN, count = (keys + LP_BN - 1) / LP_BN;
    Left<NT> left;
    zero(s);
    by_rows<NT, PLANES_K, PLANES_K>(s, pool, side);
    settle(s);
    exponentials(s, less, top, total, by, 0, last, keys);
    left.take(s);
    __syncthreads(); /* the first keys were read by all: those of turn 2 may lie there */
    auto turned_in = [&](int n) { /* the tiles after those of turn n, where there are any */
        if (n + 1 >= count) return;
        next_k.put(side + n % 2 * PAIR, turn, k, kt, (n + 2) * LP_BN, S);
        next_v.put(side + (n + 1) % 2 * PAIR + OF_K(LP_BN), turn, v, vt, (n + 1) * LP_BN, S);
        next_k.fetch(k, kt, (n + 3) * LP_BN, S);
        next_v.fetch(v, vt, (n + 2) * LP_BN, S);
    };
    int n = 0;
    for (; n + 1 < tiles_seen; ++n) {
        by_rows<NT, PLANES_K, PLANES_K>(s, pool, side + (n + 1) % 2 * PAIR);
        by_columns<NT, PLANES_V>(sum, left, side + n % 2 * PAIR + OF_K(LP_BN));
        turned_in(n);
        settle<NT, 1>(s);
        exponentials(s, less, top, total, by, (n + 1) * LP_BN, last, keys);
        settle(sum);
        shrink(sum, less);
        left.take(s);
        published();
        __syncthreads();
    }
    by_columns<NT, PLANES_V>(sum, left, side + n % 2 * PAIR + OF_K(LP_BN));
    turned_in(n);
    settle(sum);
    while (n + 1 < count) {
        published();
        __syncthreads();
        turned_in(++n);
    }
#else
    for (int from = 0, odd = 0; from < keys; from += LP_BN, odd ^= 1) {
        lp_u16 *here = side + odd * PAIR, *there = side + (odd ^ 1) * PAIR;
        bool more = from + LP_BN < keys, sees = last + 16 * LP_MT * (WARP + 1) > from; /* the last query sees the first key */
        zero(s);
        if (more) next_k.fetch(k, kt, from + LP_BN, S);
        if (sees) by_rows<NT, PLANES_K, PLANES_K>(s, pool, here);
        if (more) {
            next_k.put(there, turn, k, kt, from + LP_BN, S);
            next_v.fetch(v, vt, from + LP_BN, S);
        }
        if (sees) {
            exponentials(s, less, top, total, by, from, last, keys);
            shrink(sum, less);
            by_columns<NT, PLANES_V>(sum, s, here + OF_K(LP_BN));
        }
        if (more) next_v.put(there + OF_K(LP_BN), turn, v, vt, from + LP_BN, S);
        __syncthreads();
    }
#endif
    finish(sum, top, total, by, lse + (lp_i64)head * T, first, T);
    store<LP_E, false>(o + b * ob + h * oh, ot, first, T, sum, 1.0f, turn, peak);
    noted(peak, counters);
}

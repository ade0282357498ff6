/* flash_whole: all gradients of softmax attention where a block holds all rows of a head (T = S <= ROWS, one query head a key head, LP_BN = ROWS).
 *
 * What flash_backward does in two kernels that read everything twice: dq by rows of queries, then dk and dv by rows of keys; two warpgroups, 64 rows
 * each, nothing to wait for between the products but their own results. Rows are rotated on the way (LP_TURN 2), each once.
 * Versions: 1. this one. */
#include "gradients.cuh"

#define HALVES (2 * OF_K(ROWS) + OF_V(ROWS) + OF_D(ROWS))

extern "C" __global__ void __launch_bounds__(THREADS, LP_RESIDENT)
    whole(const Number *q, lp_i64 qb, lp_i64 qh, lp_i64 qt, const Number *k, lp_i64 kb, lp_i64 kh, lp_i64 kt, const Number *v, lp_i64 vb, lp_i64 vh, lp_i64 vt,
          const float *o, lp_i64 ob, lp_i64 oh, lp_i64 ot, const Do *d, lp_i64 db, lp_i64 dh, lp_i64 dt, Stored *dq, lp_i64 xb, lp_i64 xh, lp_i64 xt, Stored *dk,
          lp_i64 yb, lp_i64 yh, lp_i64 yt, Stored *dv, lp_i64 zb, lp_i64 zh, lp_i64 zt, const float *lse, const float *cos, const float *sin, int H, int T,
          int causal, float c, float scale, lp_u64 *counters) {
    lp_u32 peak = 0;
    POOL(2 * HALVES);
    __shared__ float stats[2][LP_BN]; /* logarithms and deltas of all rows */
    int b = (int)blockIdx.x / H, h = (int)blockIdx.x % H, ahead = causal ? 0 : T, i = (int)threadIdx.x;
    lp_u16 *tile_q = pool, *tile_k = tile_q + OF_K(ROWS), *tile_v = tile_k + OF_K(ROWS), *tile_d = tile_v + OF_V(ROWS);
    Exponent by = exponent_of(c);
    Turn turn = {cos, sin};
    q += b * qb + h * qh;
    k += b * kb + h * kh;
    v += b * vb + h * vh;
    d += b * db + h * dh;
    {
        Rows<Number, ROWS, LP_E, false, PLANES_V> rows_v;
        Rows<Do, ROWS, LP_E, false, PLANES_D> rows_d;
        Rows<Number, ROWS, LP_D, TURN_IN, PLANES_K> rows_q, rows_k;
        rows_v.fetch(v, vt, 0, T);
        rows_v.put(tile_v, turn, v, vt, 0, T);
        rows_d.fetch(d, dt, 0, T);
        rows_d.put(tile_d, turn, d, dt, 0, T);
        rows_q.fetch(q, qt, 0, T);
        rows_k.fetch(k, kt, 0, T);
        if (i < LP_BN) stats[0][i] = i < T ? lse[(lp_i64)blockIdx.x * T + i] : lp_float(LP_INF);
        if (i >= T && i < LP_BN) stats[1][i] = 0.0f;
        deltas(d, dt, o + b * ob + h * oh, ot, stats[1], 0, T);
        rows_q.put(tile_q, turn, q, qt, 0, T);
        rows_k.put(tile_k, turn, k, kt, 0, T);
    }
    published();
    __syncthreads();
    float s[LP_MT][NT][4], dp[LP_MT][NT][4];
    zero(s);
    zero(dp);
    {
        float sum[LP_MT][LP_WIDE / 8][4], logs[LP_MT][2], held[LP_MT][2];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            logs[0][j] = stats[0][row_of(0, j)];
            held[0][j] = stats[1][row_of(0, j)];
        }
        zero(sum);
        by_rows<NT, PLANES_K, PLANES_K>(s, tile_q, tile_k);
        by_rows<NT, PLANES_D, PLANES_V>(dp, tile_d, tile_v);
        settle(s);
        settle(dp);
        gradients<true>(s, dp, by, logs, held, 0, 0, 0, ahead, T);
        Left<NT> left;
        left.take(dp);
        by_columns<NT, PLANES_K>(sum, left, tile_k);
        settle(sum);
        store<LP_D, LP_TURN != 0>(dq + b * xb + h * xh, xt, 0, T, sum, scale, turn, peak);
    }
    float sum_k[LP_MT][LP_WIDE / 8][4], sum_v[LP_MT][LP_WIDE / 8][4];
    const float none[LP_MT][2] = {};
    zero(sum_k);
    zero(sum_v);
    by_rows<NT, PLANES_K, PLANES_K>(s, tile_k, tile_q);
    by_rows<NT, PLANES_V, PLANES_D>(dp, tile_v, tile_d);
    settle(s);
    settle(dp);
    gradients<false>(s, dp, by, none, none, stats[0], 0, 0, ahead, T);
    Left<NT> left_v, left_k;
    left_v.take(s);
    by_columns<NT, PLANES_D>(sum_v, left_v, tile_d);
    left_k.take(dp);
    by_columns<NT, PLANES_K>(sum_k, left_k, tile_q);
    settle(sum_v);
    settle(sum_k);
    store<LP_D, LP_TURN != 0>(dk + b * yb + h * yh, yt, 0, T, sum_k, scale, turn, peak);
    store<LP_E, false>(dv + b * zb + h * zh, zt, 0, T, sum_v, 1.0f, turn, peak);
    noted(peak, counters);
}

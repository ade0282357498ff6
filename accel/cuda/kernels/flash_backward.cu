/* flash_backward: gradients of softmax attention from o and the logarithms of the sums of exponentials, which make the probabilities anew (grade fast).
 *
 * One source, two kernels, so that every sum has one owner and one order: no atomics. A block holds ROWS rows and walks LP_BN rows of the other side.
 *   queries   holds queries and do, walks keys and values:    dq = scale sum_j ds_ij k_j; it also makes delta_i = sum_e do_ie o_ie
 *   keys      holds keys and values, walks queries and do of every query head of the group: dk = scale sum_i ds_ij q_i, dv = sum_i p_ij do_i
 * p_ij = 2^(s_ij - lse_i), dp_ij = sum_e do_ie v_je, ds_ij = p_ij (dp_ij - delta_i); queries are times scale log2 e, as forward.
 * Source: Dao 2023 (arXiv:2307.08691), algorithm 2, with the loop over queries and the loop over keys apart. Versions: 1. this one. */
#include "heads.cuh"

#define NT (LP_BN / 8)
#define PAIR (2 * OF(LP_BN))
#define HALVES (2 * OF(ROWS) + 2 * PAIR)

/* One head's tensors: rows of queries or keys, then those of do or values. */
struct Side {
    const float *first, *second;
    lp_i64 first_pitch, second_pitch;
    int rows;
};

/* s, dp -> p, ds for ROWS queries (queries false) or keys; masked: where the key comes after the query + ahead */
template <bool QUERIES> LPREF_FN void gradients(float (&s)[LP_MT][NT][4], float (&dp)[LP_MT][NT][4], const float (&log)[LP_MT][2], const float (&delta)[LP_MT][2],
                                                const float *stat, int first, int from, int ahead, int stop) {
#pragma unroll
    for (int m = 0; m < LP_MT; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            int row = first + row_of(m, h), column = from + 2 * (LANE & 3);
            /* numbers of a row that count: keys up to the query's; queries from the key's */
            int until = QUERIES ? lp_imin(stop, row + ahead + 1) - column : LP_BN, since = QUERIES ? 0 : row - ahead - column;
            if (until < LP_BN || since > 0)
#pragma unroll
                for (int n = 0; n < NT; ++n)
#pragma unroll
                    for (int i = 0; i < 2; ++i)
                        if (8 * n + i >= until || 8 * n + i < since) s[m][n][2 * h + i] = -lp_float(LP_INF);
#pragma unroll
            for (int n = 0; n < NT; ++n)
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    const float *held = stat + 8 * n + i + 2 * (LANE & 3);
                    float p = power(lp_sub(s[m][n][2 * h + i], QUERIES ? log[m][h] : held[0]));
                    s[m][n][2 * h + i] = p;
                    dp[m][n][2 * h + i] = lp_mul(p, lp_sub(dp[m][n][2 * h + i], QUERIES ? delta[m][h] : held[LP_BN]));
                }
        }
}

/* delta of ROWS queries: a warp takes its rows one after another */
LPREF_FN void deltas(const float *d, lp_i64 dt, const float *o, lp_i64 ot, float *to, int first, int T) {
    int lane = LANE;
#pragma unroll 4
    for (int i = 0; i < 16 * LP_MT; ++i) {
        int r = first + 16 * LP_MT * WARP + i;
        float sum = 0.0f;
#pragma unroll
        for (int e = 0; e < LP_E; e += 32)
            if (e + lane < LP_E && r < T) sum = lp_add(sum, lp_mul(d[r * dt + e + lane], o[r * ot + e + lane]));
#pragma unroll
        for (int half = 16; half; half /= 2) sum = lp_add(sum, __shfl_xor_sync(0xFFFFFFFFu, sum, half));
        if (lane == 0 && r < T) to[r] = sum;
    }
}

#if LP_KEYS == 0
extern "C" __global__ void __launch_bounds__(THREADS, LP_RESIDENT)
    queries(const float *q, lp_i64 qb, lp_i64 qh, lp_i64 qt, const float *k, lp_i64 kb, lp_i64 kh, lp_i64 kt, const float *v, lp_i64 vb, lp_i64 vh, lp_i64 vt,
            const float *o, lp_i64 ob, lp_i64 oh, lp_i64 ot, const float *d, lp_i64 db, lp_i64 dh, lp_i64 dt, float *dq, lp_i64 gb, lp_i64 gh, lp_i64 gt,
            const float *lse, volatile float *delta, const float *cos, const float *sin, int H, int group, int T, int S, int causal, float c, float scale) {
    POOL(2 * HALVES);
    int tiles = (T + ROWS - 1) / ROWS, head = (int)blockIdx.x / tiles, first = (tiles - 1 - (int)blockIdx.x % tiles) * ROWS, b = head / H, h = head % H;
    int ahead = causal ? S - T : S, keys = causal ? lp_imin(S, first + ROWS + S - T) : S;
    lp_u16 *side = pool + 2 * OF(ROWS);
    Turn turn = {cos, sin};
    k += b * kb + h / group * kh;
    v += b * vb + h / group * vh;
    d += b * db + h * dh;
    lse += (lp_i64)head * T;
    delta += (lp_i64)head * T;
    clear(pool, HALVES);
    {
        Rows<ROWS, LP_D, LP_TURN> rows;
        rows.fetch(q + b * qb + h * qh, qt, first, T);
        rows.template put<true>(pool, c, turn, first, T);
    }
    {
        Rows<ROWS, LP_E, false> rows;
        rows.fetch(d, dt, first, T);
        rows.template put<false>(pool + OF(ROWS), 1.0f, turn, first, T);
    }
    Rows<LP_BN, LP_D, LP_TURN> next_k;
    Rows<LP_BN, LP_E, false> next_v;
    next_k.fetch(k, kt, 0, S);
    next_v.fetch(v, vt, 0, S);
    deltas(d, dt, o + b * ob + h * oh, ot, (float *)delta, first, T);
    next_k.template put<false>(side, 1.0f, turn, 0, S);
    next_v.template put<false>(side + OF(LP_BN), 1.0f, turn, 0, S);
    __syncthreads();
    float sum[LP_MT][LP_WIDE / 8][4], logs[LP_MT][2], held[LP_MT][2];
    zero(sum);
#pragma unroll
    for (int i = 0; i < 2 * LP_MT; ++i) {
        int r = first + row_of(i / 2, i % 2);
        logs[i / 2][i % 2] = r < T ? lse[r] : lp_float(LP_INF);
        held[i / 2][i % 2] = r < T ? delta[r] : 0.0f;
    }
    for (int from = 0, odd = 0; from < keys; from += LP_BN, odd ^= 1) {
        lp_u16 *here = side + odd * PAIR, *there = side + (odd ^ 1) * PAIR;
        bool more = from + LP_BN < keys, sees = first + ahead + 16 * LP_MT * (WARP + 1) > from;
        float s[LP_MT][NT][4], dp[LP_MT][NT][4];
        zero(s);
        zero(dp);
        if (more) next_k.fetch(k, kt, from + LP_BN, S);
        if (sees) by_rows<NT>(s, pool, here);
        if (more) {
            next_k.template put<false>(there, 1.0f, turn, from + LP_BN, S);
            next_v.fetch(v, vt, from + LP_BN, S);
        }
        if (sees) by_rows<NT>(dp, pool + OF(ROWS), here + OF(LP_BN));
        if (more) next_v.template put<false>(there + OF(LP_BN), 1.0f, turn, from + LP_BN, S);
        if (sees) {
            gradients<true>(s, dp, logs, held, 0, first, from, ahead, keys);
            by_columns<NT>(sum, dp, here);
        }
        __syncthreads();
    }
    store<LP_D, LP_TURN>(dq + b * gb + h * gh, gt, first, T, sum, scale, turn);
}
#else
extern "C" __global__ void __launch_bounds__(THREADS, LP_RESIDENT)
    keys(const float *q, lp_i64 qb, lp_i64 qh, lp_i64 qt, const float *k, lp_i64 kb, lp_i64 kh, lp_i64 kt, const float *v, lp_i64 vb, lp_i64 vh, lp_i64 vt,
         const float *d, lp_i64 db, lp_i64 dh, lp_i64 dt, float *dk, lp_i64 gb, lp_i64 gh, lp_i64 gt, float *dv, lp_i64 wb, lp_i64 wh, lp_i64 wt, const float *lse,
         const float *delta, const float *cos, const float *sin, int H, int group, int T, int S, int causal, float c, float scale) {
    POOL(2 * HALVES);
    __shared__ float stats[2][2][LP_BN];
    int tiles = (S + ROWS - 1) / ROWS, G = H / group, head = (int)blockIdx.x / tiles, first = (int)blockIdx.x % tiles * ROWS, b = head / G, g = head % G;
    int ahead = causal ? S - T : S, begin = lp_imax(0, first - ahead) / LP_BN * LP_BN, turns = (T - begin + LP_BN - 1) / LP_BN;
    lp_u16 *side = pool + 2 * OF(ROWS);
    Turn turn = {cos, sin};
    q += b * qb + g * group * qh;
    d += b * db + g * group * dh;
    lse += ((lp_i64)b * H + g * group) * T;
    delta += ((lp_i64)b * H + g * group) * T;
    clear(pool, HALVES);
    {
        Rows<ROWS, LP_D, LP_TURN> rows;
        rows.fetch(k + b * kb + g * kh, kt, first, S);
        rows.template put<false>(pool, 1.0f, turn, first, S);
    }
    {
        Rows<ROWS, LP_E, false> rows;
        rows.fetch(v + b * vb + g * vh, vt, first, S);
        rows.template put<false>(pool + OF(ROWS), 1.0f, turn, first, S);
    }
    Rows<LP_BN, LP_D, LP_TURN> next_q;
    Rows<LP_BN, LP_E, false> next_d;
    float next_log = 0.0f, next_delta = 0.0f;
    int most = group * turns, i = (int)threadIdx.x;
    float sum_k[LP_MT][LP_WIDE / 8][4], sum_v[LP_MT][LP_WIDE / 8][4];
    const float none[LP_MT][2] = {};
    zero(sum_k);
    zero(sum_v);
    for (int n = -1; n < most; ++n) {
        int odd = n & 1, from = begin + (n < 0 ? 0 : n % turns) * LP_BN, at = n + 1, row = begin + at % turns * LP_BN;
        lp_i64 of = at / turns;
        lp_u16 *here = side + odd * PAIR, *there = side + (odd ^ 1) * PAIR;
        bool more = at < most, sees = n >= 0 && first + 16 * LP_MT * WARP < lp_imin(T, from + LP_BN) + ahead;
        float s[LP_MT][NT][4], dp[LP_MT][NT][4];
        zero(s);
        zero(dp);
        if (more) {
            next_q.fetch(q + of * qh, qt, row, T);
            if (i < LP_BN) {
                next_log = row + i < T ? lse[of * T + row + i] : lp_float(LP_INF);
                next_delta = row + i < T ? delta[of * T + row + i] : 0.0f;
            }
        }
        if (sees) by_rows<NT>(s, pool, here);
        if (more) {
            next_q.template put<true>(there, c, turn, row, T);
            next_d.fetch(d + of * dh, dt, row, T);
            if (i < LP_BN) {
                stats[odd ^ 1][0][i] = next_log;
                stats[odd ^ 1][1][i] = next_delta;
            }
        }
        if (sees) {
            by_rows<NT>(dp, pool + OF(ROWS), here + OF(LP_BN));
            gradients<false>(s, dp, none, none, stats[odd][0], first, from, ahead, T);
            by_columns<NT>(sum_v, s, here + OF(LP_BN));
        }
        if (more) next_d.template put<false>(there + OF(LP_BN), 1.0f, turn, row, T);
        if (sees) by_columns<NT>(sum_k, dp, here);
        __syncthreads();
    }
    store<LP_D, LP_TURN>(dk + b * gb + g * gh, gt, first, S, sum_k, scale, turn);
    store<LP_E, false>(dv + b * wb + g * wh, wt, first, S, sum_v, 1.0f, turn);
}
#endif

/* flash_backward: gradients of softmax attention from o and the logarithms of the sums of exponentials, which make the probabilities anew (grade fast).
 *
 * One source, two kernels, so that every sum has one owner and one order: no atomics. A block holds ROWS rows and walks LP_BN rows of the other side.
 *   queries   holds queries and do, walks keys and values:    dq = scale sum_j ds_ij k_j; it also makes delta_i = sum_e do_ie o_ie
 *   keys      holds keys and values, walks queries and do of every query head of the group: dk = scale sum_i ds_ij q_i, dv = sum_i p_ij do_i
 * p_ij = 2^(c s_ij - lse_i), dp_ij = sum_e do_ie v_je, ds_ij = p_ij (dp_ij - delta_i); c = scale log2 e.
 * counters: peak.cuh. Source: Dao 2023 (arXiv:2307.08691), algorithm 2, with the loop over queries and the loop over keys apart.
 * Versions: 1. mma.sync. 2. LP_GROUP 1: wgmma, a turn ahead of the threads; three pairs of tiles, for its products read two. 3. LP_GROUP 2: wgmma and
 * threads in turns, in fewer registers, so that the other blocks of a multiprocessor fill the gaps. */
#include "gradients.cuh"

#define HELD (OF_K(ROWS) + (LP_KEYS ? OF_V(ROWS) : OF_D(ROWS)))
#define PAIR (OF_K(LP_BN) + (LP_KEYS ? OF_D(LP_BN) : OF_V(LP_BN)))
#define PAIRS (LP_GROUP == 1 ? 3 : 2) /* in use, of the next products, and on the way */
#define HALVES (HELD + PAIRS * PAIR)

#if LP_KEYS == 0
extern "C" __global__ void __launch_bounds__(THREADS, LP_RESIDENT)
    queries(const Number *q, lp_i64 qb, lp_i64 qh, lp_i64 qt, const Number *k, lp_i64 kb, lp_i64 kh, lp_i64 kt, const Number *v, lp_i64 vb, lp_i64 vh, lp_i64 vt,
            const float *o, lp_i64 ob, lp_i64 oh, lp_i64 ot, const Do *d, lp_i64 db, lp_i64 dh, lp_i64 dt, Stored *dq, lp_i64 gb, lp_i64 gh, lp_i64 gt,
            const float *lse, volatile float *delta, const float *cos, const float *sin, int H, int group, int T, int S, int causal, float c, float scale,
            lp_u64 *counters) {
    lp_u32 peak = 0;
    POOL(2 * HALVES);
    int tiles = (T + ROWS - 1) / ROWS, head = (int)blockIdx.x / tiles, first = (tiles - 1 - (int)blockIdx.x % tiles) * ROWS, b = head / H, h = head % H;
    int ahead = causal ? S - T : S, keys = causal ? lp_imin(S, first + ROWS + S - T) : S;
    lp_u16 *side = pool + HELD;
    Exponent by = exponent_of(c);
    Turn turn = {cos, sin};
    q += b * qb + h * qh;
    k += b * kb + h / group * kh;
    v += b * vb + h / group * vh;
    d += b * db + h * dh;
    lse += (lp_i64)head * T;
    delta += (lp_i64)head * T;
    clear(pool, HALVES);
    {
        Rows<Number, ROWS, LP_D, TURN_IN, PLANES_K> rows;
        rows.fetch(q, qt, first, T);
        rows.put(pool, turn, q, qt, first, T);
    }
    {
        Rows<Do, ROWS, LP_E, false, PLANES_D> rows;
        rows.fetch(d, dt, first, T);
        rows.put(pool + OF_K(ROWS), turn, d, dt, first, T);
    }
    Rows<Number, LP_BN, LP_D, TURN_IN, PLANES_K> next_k;
    Rows<Number, LP_BN, LP_E, false, PLANES_V> next_v;
    next_k.fetch(k, kt, 0, S);
    next_v.fetch(v, vt, 0, S);
    if (!LP_DO) deltas(d, dt, o + b * ob + h * oh, ot, (float *)delta, first, T);
    next_k.put(side, turn, k, kt, 0, S);
    next_v.put(side + OF_K(LP_BN), turn, v, vt, 0, S);
    if (LP_GROUP) { /* what comes then is in registers */
        next_k.fetch(k, kt, LP_BN, S);
        next_v.fetch(v, vt, LP_BN, S);
    }
    if (LP_GROUP == 1) { /* two tiles ahead */
        next_k.put(side + PAIR, turn, k, kt, LP_BN, S);
        next_v.put(side + PAIR + OF_K(LP_BN), turn, v, vt, LP_BN, S);
        next_k.fetch(k, kt, 2 * LP_BN, S);
        next_v.fetch(v, vt, 2 * LP_BN, S);
    }
    if (LP_DO) deltas(d, dt, o + b * ob + h * oh, ot, (float *)delta, first, T);
    published();
    __syncthreads();
    float sum[LP_MT][LP_WIDE / 8][4], s[LP_MT][NT][4], dp[LP_MT][NT][4], logs[LP_MT][2], held[LP_MT][2];
    zero(sum);
#pragma unroll
    for (int i = 0; i < 2 * LP_MT; ++i) {
        int r = first + row_of(i / 2, i % 2);
        logs[i / 2][i % 2] = r < T ? lse[r] : lp_float(LP_INF);
        held[i / 2][i % 2] = r < T ? delta[r] : 0.0f;
    }
#if LP_GROUP
    int count = (keys + LP_BN - 1) / LP_BN, seen = (lp_imin(keys, first + ahead + 64 * (GROUP + 1)) + LP_BN - 1) / LP_BN, n = 0;
    auto turned_in = [&]() { /* the tile after those of turn n, where there is one */
        int next = n + PAIRS - 1;
        if (next >= count) return;
        lp_u16 *there = side + next % PAIRS * PAIR;
        next_k.put(there, turn, k, kt, next * LP_BN, S);
        next_v.put(there + OF_K(LP_BN), turn, v, vt, next * LP_BN, S);
        next_k.fetch(k, kt, (next + 1) * LP_BN, S);
        next_v.fetch(v, vt, (next + 1) * LP_BN, S);
    };
    Left<NT> left;
    zero(s);
    zero(dp);
#endif
#if LP_GROUP == 2
    for (; n < count; ++n) {
        lp_u16 *here = side + n % PAIRS * PAIR;
        if (n < seen) {
            by_rows<NT, PLANES_K, PLANES_K>(s, pool, here);
            by_rows<NT, PLANES_D, PLANES_V>(dp, pool + OF_K(ROWS), here + OF_K(LP_BN));
        }
        turned_in();
        if (n < seen) {
            settle(s);
            settle(dp);
            gradients<true>(s, dp, by, logs, held, 0, first, n * LP_BN, ahead, keys);
            left.take(dp);
            by_columns<NT, PLANES_K>(sum, left, here);
            settle(sum);
        }
        published();
        __syncthreads();
    }
#elif LP_GROUP
    /* The unit makes the next scores and dp, and this tile's part of dq, while threads put the tile after them and make ds of those. */
    by_rows<NT, PLANES_K, PLANES_K>(s, pool, side);
    by_rows<NT, PLANES_D, PLANES_V>(dp, pool + OF_K(ROWS), side + OF_K(LP_BN));
    settle(s);
    settle(dp);
    gradients<true>(s, dp, by, logs, held, 0, first, 0, ahead, keys);
    left.take(dp);
    for (; n + 1 < seen; ++n) {
        lp_u16 *there = side + (n + 1) % 3 * PAIR;
        by_rows<NT, PLANES_K, PLANES_K>(s, pool, there);
        by_rows<NT, PLANES_D, PLANES_V>(dp, pool + OF_K(ROWS), there + OF_K(LP_BN));
        by_columns<NT, PLANES_K>(sum, left, side + n % 3 * PAIR);
        turned_in();
        settle<NT, 1>(s);
        settle<NT, 1>(dp);
        gradients<true>(s, dp, by, logs, held, 0, first, (n + 1) * LP_BN, ahead, keys);
        settle(sum);
        left.take(dp);
        published();
        __syncthreads();
    }
    by_columns<NT, PLANES_K>(sum, left, side + n % 3 * PAIR);
    turned_in();
    settle(sum);
    while (n + 1 < count) {
        published();
        __syncthreads();
        ++n;
        turned_in();
    }
#else
    for (int from = 0, odd = 0; from < keys; from += LP_BN, odd ^= 1) {
        lp_u16 *here = side + odd * PAIR, *there = side + (odd ^ 1) * PAIR;
        bool more = from + LP_BN < keys, sees = first + ahead + 16 * LP_MT * (WARP + 1) > from;
        zero(s);
        zero(dp);
        if (more) next_k.fetch(k, kt, from + LP_BN, S);
        if (sees) by_rows<NT, PLANES_K, PLANES_K>(s, pool, here);
        if (more) {
            next_k.put(there, turn, k, kt, from + LP_BN, S);
            next_v.fetch(v, vt, from + LP_BN, S);
        }
        if (sees) by_rows<NT, PLANES_D, PLANES_V>(dp, pool + OF_K(ROWS), here + OF_K(LP_BN));
        if (more) next_v.put(there + OF_K(LP_BN), turn, v, vt, from + LP_BN, S);
        if (sees) {
            gradients<true>(s, dp, by, logs, held, 0, first, from, ahead, keys);
            by_columns<NT, PLANES_K>(sum, dp, here);
        }
        __syncthreads();
    }
#endif
    store<LP_D, LP_TURN != 0>(dq + b * gb + h * gh, gt, first, T, sum, scale, turn, peak);
    noted(peak, counters);
}
#else
extern "C" __global__ void __launch_bounds__(THREADS, LP_RESIDENT)
    keys(const Number *q, lp_i64 qb, lp_i64 qh, lp_i64 qt, const Number *k, lp_i64 kb, lp_i64 kh, lp_i64 kt, const Number *v, lp_i64 vb, lp_i64 vh, lp_i64 vt,
         const Do *d, lp_i64 db, lp_i64 dh, lp_i64 dt, Stored *dk, lp_i64 gb, lp_i64 gh, lp_i64 gt, Stored *dv, lp_i64 wb, lp_i64 wh, lp_i64 wt, const float *lse,
         const float *delta, const float *cos, const float *sin, int H, int group, int T, int S, int causal, float c, float scale,
         lp_u64 *counters) {
    lp_u32 peak = 0;
    POOL(2 * HALVES);
    __shared__ float stats[PAIRS][2][LP_BN];
    int tiles = (S + ROWS - 1) / ROWS, G = H / group, head = (int)blockIdx.x / tiles, first = (int)blockIdx.x % tiles * ROWS, b = head / G, g = head % G;
    int ahead = causal ? S - T : S, begin = lp_imax(0, first - ahead) / LP_BN * LP_BN, turns = (T - begin + LP_BN - 1) / LP_BN;
    lp_u16 *side = pool + HELD;
    Exponent by = exponent_of(c);
    Turn turn = {cos, sin};
    k += b * kb + g * kh;
    v += b * vb + g * vh;
    q += b * qb + g * group * qh;
    d += b * db + g * group * dh;
    lse += ((lp_i64)b * H + g * group) * T;
    delta += ((lp_i64)b * H + g * group) * T;
    clear(pool, HALVES);
    {
        Rows<Number, ROWS, LP_D, TURN_IN, PLANES_K> rows;
        rows.fetch(k, kt, first, S);
        rows.put(pool, turn, k, kt, first, S);
    }
    {
        Rows<Number, ROWS, LP_E, false, PLANES_V> rows;
        rows.fetch(v, vt, first, S);
        rows.put(pool + OF_K(ROWS), turn, v, vt, first, S);
    }
    Rows<Number, LP_BN, LP_D, TURN_IN, PLANES_K> next_q;
    Rows<Do, LP_BN, LP_E, false, PLANES_D> next_d;
    float next_log = 0.0f, next_delta = 0.0f;
    int most = group * turns, i = (int)threadIdx.x;
    float sum_k[LP_MT][LP_WIDE / 8][4], sum_v[LP_MT][LP_WIDE / 8][4], s[LP_MT][NT][4], dp[LP_MT][NT][4];
    const float none[LP_MT][2] = {};
    zero(sum_k);
    zero(sum_v);
    int of = 0, row = begin, from = begin; /* what is fetched next: a query head of the group and its row; the row of the scores that are made */
    auto after = [&](int at) { return at + LP_BN < T ? at + LP_BN : begin; };
    auto fetch_q = [&]() {
        next_q.fetch(q + of * qh, qt, row, T);
        if (i < LP_BN) {
            next_log = row + i < T ? lse[(lp_i64)of * T + row + i] : lp_float(LP_INF);
            next_delta = row + i < T ? delta[(lp_i64)of * T + row + i] : 0.0f;
        }
    };
    auto put_q = [&](int pair) {
        next_q.put(side + pair * PAIR, turn, q + of * qh, qt, row, T);
        if (i < LP_BN) {
            stats[pair][0][i] = next_log;
            stats[pair][1][i] = next_delta;
        }
    };
    auto fetch_d = [&]() { next_d.fetch(d + of * dh, dt, row, T); };
    auto put_d = [&](int pair) { /* the last of a turn */
        next_d.put(side + pair * PAIR + OF_K(LP_BN), turn, d + of * dh, dt, row, T);
        row = after(row);
        of += row == begin;
    };
#if LP_GROUP
    auto turned_in = [&](int n) {
        if (n >= most) return;
        put_q(n % PAIRS);
        put_d(n % PAIRS);
        if (n + 1 < most) {
            fetch_q();
            fetch_d();
        }
    };
    auto scores = [&](int n) {
        lp_u16 *here = side + n % PAIRS * PAIR;
        by_rows<NT, PLANES_K, PLANES_K>(s, pool, here);
        by_rows<NT, PLANES_V, PLANES_D>(dp, pool + OF_K(ROWS), here + OF_K(LP_BN));
    };
    Left<NT> left_v, left_k;
    fetch_q();
    fetch_d();
    turned_in(0);
    if (LP_GROUP == 1) turned_in(1);
    published();
    __syncthreads();
    zero(s);
    zero(dp);
#endif
#if LP_GROUP == 2
    for (int n = 0; n < most; ++n, from = after(from)) {
        scores(n);
        turned_in(n + 1);
        settle(s);
        settle(dp);
        gradients<false>(s, dp, by, none, none, stats[n % 2][0], first, from, ahead, T);
        left_v.take(s);
        by_columns<NT, PLANES_D>(sum_v, left_v, side + n % 2 * PAIR + OF_K(LP_BN));
        left_k.take(dp);
        by_columns<NT, PLANES_K>(sum_k, left_k, side + n % 2 * PAIR);
        settle(sum_v);
        settle(sum_k);
        published();
        __syncthreads();
    }
#elif LP_GROUP
    /* The unit makes the next scores and dp, and this tile's part of dk and dv, while threads put the tile after them and make p and ds of those. */
    scores(0);
    settle(s);
    settle(dp);
    gradients<false>(s, dp, by, none, none, stats[0][0], first, from, ahead, T);
    left_v.take(s);
    left_k.take(dp);
    int n = 0;
    for (; n + 1 < most; ++n) {
        scores(n + 1);
        by_columns<NT, PLANES_D>(sum_v, left_v, side + n % 3 * PAIR + OF_K(LP_BN));
        by_columns<NT, PLANES_K>(sum_k, left_k, side + n % 3 * PAIR);
        turned_in(n + 2);
        settle<NT, 2>(s);
        settle<NT, 2>(dp);
        from = after(from);
        gradients<false>(s, dp, by, none, none, stats[(n + 1) % 3][0], first, from, ahead, T);
        settle(sum_v);
        settle(sum_k);
        left_v.take(s);
        left_k.take(dp);
        published();
        __syncthreads();
    }
    by_columns<NT, PLANES_D>(sum_v, left_v, side + n % 3 * PAIR + OF_K(LP_BN));
    by_columns<NT, PLANES_K>(sum_k, left_k, side + n % 3 * PAIR);
    settle(sum_v);
    settle(sum_k);
#else
    fetch_q();
    put_q(0);
    fetch_d();
    put_d(0);
    __syncthreads();
    for (int n = 0; n < most; ++n, from = after(from)) {
        lp_u16 *here = side + n % 2 * PAIR;
        bool more = n + 1 < most, sees = first + 16 * LP_MT * WARP < lp_imin(T, from + LP_BN) + ahead;
        zero(s);
        zero(dp);
        if (more) fetch_q();
        if (sees) by_rows<NT, PLANES_K, PLANES_K>(s, pool, here);
        if (more) {
            put_q((n + 1) % 2);
            fetch_d();
        }
        if (sees) {
            by_rows<NT, PLANES_V, PLANES_D>(dp, pool + OF_K(ROWS), here + OF_K(LP_BN));
            gradients<false>(s, dp, by, none, none, stats[n % 2][0], first, from, ahead, T);
            by_columns<NT, PLANES_D>(sum_v, s, here + OF_K(LP_BN));
        }
        if (more) put_d((n + 1) % 2);
        if (sees) by_columns<NT, PLANES_K>(sum_k, dp, here);
        __syncthreads();
    }
#endif
    store<LP_D, LP_TURN != 0>(dk + b * gb + g * gh, gt, first, S, sum_k, scale, turn, peak);
    store<LP_E, false>(dv + b * wb + g * wh, wt, first, S, sum_v, 1.0f, turn, peak);
    noted(peak, counters);
}
#endif

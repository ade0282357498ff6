/* Between the products of attention's backward: p and ds of a tile of scores, delta of rows. NT fragments of LP_BN columns. */
#include "heads.cuh"

#define NT (LP_BN / 8)

/* s, dp -> p, ds for ROWS queries (queries false) or keys; masked: where the key comes after the query + ahead */
template <bool QUERIES>
LPREF_FN void gradients(float (&s)[LP_MT][NT][4], float (&dp)[LP_MT][NT][4], const float (&log)[LP_MT][2], const float (&delta)[LP_MT][2],
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

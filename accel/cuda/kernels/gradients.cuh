/* Between the products of attention's backward: p and ds of a tile of scores, delta of rows. NT fragments of LP_BN columns. */
#include "heads.cuh"

#define NT (LP_BN / 8)

/* s, dp -> p, ds for ROWS queries (queries false) or keys; masked: where the key comes after the query + ahead */
template <bool QUERIES>
LPREF_FN void gradients(float (&s)[LP_MT][NT][4], float (&dp)[LP_MT][NT][4], Exponent by, const float (&log)[LP_MT][2], const float (&delta)[LP_MT][2],
                        const float *stat, int first, int from, int ahead, int stop) {
    turned_over(s, by);
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
                    float p = power(lp_fma(s[m][n][2 * h + i], by.factor, -(QUERIES ? log[m][h] : held[0])));
                    s[m][n][2 * h + i] = p;
                    dp[m][n][2 * h + i] = lp_mul(p, lp_sub(dp[m][n][2 * h + i], QUERIES ? delta[m][h] : held[LP_BN]));
                }
        }
}

/* one number or four */
template <int EACH> LPREF_FN void take_few(float *to, const float *from) {
    if (EACH == 4) {
        lp_f4 v = *(const lp_f4 *)from;
        to[0] = v.x, to[EACH / 4] = v.y, to[EACH / 2] = v.z, to[EACH - 1] = v.w;
    } else {
        to[0] = *from;
    }
}
template <int EACH> LPREF_FN void take_few(lp_u32 *to, const Do *from) {
    if (EACH == 1) {
        to[0] = bits_of(*from);
    } else if (LP_DO) {
        lp_8 v = *(const lp_8 *)from;
        to[0] = v.x, to[EACH / 4] = v.y;
    } else {
        lp_16 v = *(const lp_16 *)from;
        to[0] = v.x, to[EACH / 4] = v.y, to[EACH / 2] = v.z, to[EACH - 1] = v.w;
    }
}

/* delta of ROWS queries: a warp takes its rows, 32 at a time by four numbers a lane where that is possible */
LPREF_FN void deltas(const Do *d, lp_i64 dt, const float *o, lp_i64 ot, float *to, int first, int T) {
    const bool WIDELY = LP_VEC > 1 && LP_E >= 16 && 128 % LP_E == 0;
    const int EACH = WIDELY ? 4 : 1, LANES = WIDELY ? LP_E / 4 : 32, AT_ONCE = 32 / LANES;
    int column = LANE % LANES * EACH;
#pragma unroll 8
    for (int i = 0; i < 16 * LP_MT; i += AT_ONCE) {
        int r = first + 16 * LP_MT * WARP + i + LANE / LANES;
        float sum = 0.0f;
#pragma unroll
        for (int e = 0; e < LP_E; e += EACH * LANES) {
            if (r >= T || e + column >= LP_E) continue;
            lp_u32 words[EACH];
            float real[EACH];
            take_few<EACH>(words, d + r * dt + e + column);
            take_few<EACH>(real, o + r * ot + e + column);
#pragma unroll
            for (int j = 0; j < EACH; ++j) sum = lp_add(sum, lp_mul(number_of<Do>(words, j), real[j]));
        }
#pragma unroll
        for (int half = LANES / 2; half; half /= 2) sum = lp_add(sum, __shfl_xor_sync(0xFFFFFFFFu, sum, half));
        if (LANE % LANES == 0 && r < T) to[r] = sum;
    }
}

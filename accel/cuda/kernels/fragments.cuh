/* Products of attention's tiles by the matrix instruction of a warp (mma.sync), from every architecture on. */

/* sum += the terms of one piece of k: fragments of LP_MT tiles of A times those of two tiles of B; load gives those of a plane of B. */
template <int NT, int PA, int PB, class Load> LPREF_FN void terms(float (&sum)[LP_MT][NT][4], int n, const lp_u32 (&a)[PA][LP_MT][4], Load load) {
    lp_u32 b[PB][4];
#pragma unroll
    for (int p = 0; p < PB; ++p) load(b[p], p);
#pragma unroll
    for (int t = 0; t < PA + PB - 1; ++t)
#pragma unroll
        for (int m = 0; m < LP_MT; ++m)
#pragma unroll
            for (int half = 0; half < 2; ++half) multiply(sum[m][n + half], a[LESSER(t, PA)][m], b[OTHERS(t, PA)] + 2 * half);
}

/* sum [16 LP_MT, 8 NT] += A B^T: the warp's rows of tile a (of ROWS), of PA planes, and rows of tile b, of PB */
template <int NT, int PA, int PB> LPREF_FN void by_rows(float (&sum)[LP_MT][NT][4], const lp_u16 *a, const lp_u16 *b) {
    int lane = LANE;
    a += (16 * LP_MT * WARP + (lane & 15)) * LP_PITCH + (lane >> 4) * 8;
    b += ((lane & 7) + (lane >> 4) * 8) * LP_PITCH + (lane >> 3 & 1) * 8;
#pragma unroll
    for (int k = 0; k < LP_WIDE; k += 16) {
        lp_u32 fa[PA][LP_MT][4];
#pragma unroll
        for (int p = 0; p < PA; ++p)
#pragma unroll
            for (int m = 0; m < LP_MT; ++m) matrices<false>(fa[p][m], a + (p * ROWS + 16 * m) * LP_PITCH + k);
#pragma unroll
        for (int n = 0; n < NT; n += 2)
            terms<NT, PA, PB>(sum, n, fa, [&](lp_u32 *to, int p) { matrices<false>(to, b + (p * 8 * NT + 8 * n) * LP_PITCH + k); });
    }
}

/* sum [16 LP_MT, LP_WIDE] += P B: P are sums of by_rows, B the 8 KT rows of tile b, of PB planes */
template <int KT, int PB> LPREF_FN void by_columns(float (&sum)[LP_MT][LP_WIDE / 8][4], const float (&left)[LP_MT][KT][4], const lp_u16 *b) {
    int lane = LANE;
    b += (lane & 15) * LP_PITCH + (lane >> 4) * 8;
#pragma unroll
    for (int k = 0; k < KT; k += 2) {
        lp_u32 fa[PLANES][LP_MT][4];
#pragma unroll
        for (int m = 0; m < LP_MT; ++m)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float *x = left[m][k + i / 2] + i % 2 * 2;
                fa[0][m][i] = pack(x[0], x[1]);
                if (LP_TERMS == 3) fa[PLANES - 1][m][i] = rest(x[0], x[1], fa[0][m][i]);
            }
#pragma unroll
        for (int n = 0; n < LP_WIDE / 8; n += 2)
            terms<LP_WIDE / 8, PLANES, PB>(sum, n, fa, [&](lp_u32 *to, int p) { matrices<true>(to, b + (p * 8 * KT + 8 * k) * LP_PITCH + 8 * n); });
    }
}

/* A warp's products are done when it goes on; a barrier shows what threads put. */
template <int NT> LPREF_FN void settle(float (&)[LP_MT][NT][4]) {}
LPREF_FN void published() {}

/* product: C[z][m, n] = sum_k A[z][m, k] B[z][n, k], k ascending from +0, each product rounded, then each sum: lpref.ref.linalg.matmul, grade exact.
 *
 * Order is per output, so every output is one thread's chain of multiplications and additions, and nothing can be split along k. A block of threads
 * makes a tile (tile.cuh); z = b heads + h, and h / group picks the head of a side, so that heads lie anywhere in memory and groups share keys.
 * Versions: 1. this one: two instructions a product (no fusing), 64 products a clock and multiprocessor at best.
 *
 * causal: 0 whole; 1 of a tile that lies above the diagonal (n > m + shift everywhere) nothing is written; 2 k ends behind the tile's last row's
 * diagonal; 3 k begins at the tile's first row's diagonal. What 2 and 3 leave out is +-0 where no factor is infinite or NaN and no product overflows:
 * `skip` on the device says that it holds (0: it was not asked, and nothing is left out but by 1). */
#include "tile.cuh"

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) product(
    const float *A, lp_i64 a_outer, lp_i64 a_inner, lp_i64 a_batch, lp_i64 a_head, int a_group, const float *B, lp_i64 b_outer, lp_i64 b_inner,
    lp_i64 b_batch, lp_i64 b_head, int b_group, float *C, lp_i64 c_outer, lp_i64 c_batch, lp_i64 c_head, int heads, int M, int N, int K, int causal,
    int shift, const int *skip) {
    __shared__ __align__(16) float sa[2][LP_BK][LP_BM + 4], sb[2][LP_BK][LP_BN + 4];
    int wide = (N + LP_BN - 1) / LP_BN, high = (M + LP_BM - 1) / LP_BM;
    int tile = (int)(blockIdx.x % (unsigned)(wide * high)), z = (int)(blockIdx.x / (unsigned)(wide * high));
    int m0 = tile / wide * LP_BM, n0 = tile % wide * LP_BN;
    if (causal == 1 && n0 > lp_imin(m0 + LP_BM, M) - 1 + shift && (!skip || *skip)) return;
    int first = 0, depth = K;
    if (causal == 2 && *skip) depth = lp_imin(K, lp_imin(m0 + LP_BM, M) + shift);
    if (causal == 3 && *skip) first = lp_imax(0, m0 - shift);
    lp_i64 b = z / heads, h = z % heads;
    Loader<LP_BM, LP_A_K> load_a(A + b * a_batch + h / a_group * a_head, a_outer, a_inner, m0, M);
    Loader<LP_BN, LP_B_K> load_b(B + b * b_batch + h / b_group * b_head, b_outer, b_inner, n0, N);
    int x = (int)threadIdx.x % (LP_BN / LP_TN), y = (int)threadIdx.x / (LP_BN / LP_TN);
    float ra[load_a.COUNT], rb[load_b.COUNT], sum[LP_TM][LP_TN];
#pragma unroll
    for (int i = 0; i < LP_TM; ++i)
#pragma unroll
        for (int j = 0; j < LP_TN; ++j) sum[i][j] = 0.0f;
    load_a.fetch(first, depth, ra);
    load_b.fetch(first, depth, rb);
    for (int from = first, turn = 0; from < depth; from += LP_BK, turn ^= 1) {
        load_a.put(sa[turn], ra);
        load_b.put(sb[turn], rb);
        __syncthreads(); /* one a step: the other buffer is read by nobody who has not passed the step before */
        load_a.fetch(from + LP_BK, depth, ra);
        load_b.fetch(from + LP_BK, depth, rb);
#pragma unroll
        for (int k = 0; k < LP_BK; ++k) {
            float fa[LP_TM], fb[LP_TN];
#pragma unroll
            for (int i = 0; i < LP_TM; ++i) fa[i] = sa[turn][k][LP_ROW(i, y, LP_BM, LP_TM)];
#pragma unroll
            for (int j = 0; j < LP_TN; ++j) fb[j] = sb[turn][k][LP_ROW(j, x, LP_BN, LP_TN)];
#pragma unroll
            for (int i = 0; i < LP_TM; ++i)
#pragma unroll
                for (int j = 0; j < LP_TN; ++j) sum[i][j] = lp_add(sum[i][j], lp_mul(fa[i], fb[j]));
        }
    }
    float *out = C + b * c_batch + h * c_head;
#pragma unroll
    for (int i = 0; i < LP_TM; ++i)
#pragma unroll
        for (int j = 0; j < LP_TN; ++j) {
            int m = m0 + LP_ROW(i, y, LP_BM, LP_TM), n = n0 + LP_ROW(j, x, LP_BN, LP_TN);
            if (m < M && n < N) out[(lp_i64)m * c_outer + n] = sum[i][j];
        }
}

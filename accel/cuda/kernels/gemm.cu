/* gemm: c[m, n] = sum over the pieces of K, ascending, of the piece's sum times fl32(s_a s_b), then the scales that are constant along k:
 * lpref.ref.linalg.gemm of block-scaled codes in sequential float32 sums, grade exact. Pieces and scales: pieces.cuh; exact sums: gemm_float64.cu.
 *
 * LP_INNER 1: from +0, k ascending, product rounded, then sum. 2: exact products, one rounding each. Versions: 1. this one. */
#include "pieces.cuh"

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) gemm(
    const float *A, lp_i64 a_outer, lp_i64 a_inner, const float *a_scale, lp_i64 as_outer, lp_i64 as_inner, int a_other, int a_step, const float *a_tensor,
    const float *B, lp_i64 b_outer, lp_i64 b_inner, const float *b_scale, lp_i64 bs_outer, lp_i64 bs_inner, int b_other, int b_step,
    const float *b_tensor, float *C, int M, int N, int K, int chunk) {
    __shared__ __align__(16) float sa[2][LP_BK][LP_BM + 4], sb[2][LP_BK][LP_BN + 4];
    int wide = (N + LP_BN - 1) / LP_BN, m0 = (int)blockIdx.x / wide * LP_BM, n0 = (int)blockIdx.x % wide * LP_BN;
    Scales of_a = {a_scale, as_outer, as_inner, a_other, a_step}, of_b = {b_scale, bs_outer, bs_inner, b_other, b_step};
    Loader<LP_BM, LP_A_K> load_a(A, a_outer, a_inner, m0, M);
    Loader<LP_BN, LP_B_K> load_b(B, b_outer, b_inner, n0, N);
    int x = (int)threadIdx.x % (LP_BN / LP_TN), y = (int)threadIdx.x / (LP_BN / LP_TN);
    float ra[load_a.COUNT], rb[load_b.COUNT], total[LP_TM][LP_TN], sum[LP_TM][LP_TN];
#pragma unroll
    for (int i = 0; i < LP_TM; ++i)
#pragma unroll
        for (int j = 0; j < LP_TN; ++j) total[i][j] = sum[i][j] = 0.0f;
    int piece = 0, stop = boundary(0, K, a_step, b_step, chunk);
    load_a.fetch(0, stop, ra);
    load_b.fetch(0, stop, rb);
    for (int from = 0, turn = 0; from < K; turn ^= 1) {
        load_a.put(sa[turn], ra);
        load_b.put(sb[turn], rb);
        __syncthreads();
        int next = lp_imin(from + LP_BK, stop), until = next < stop ? stop : boundary(next, K, a_step, b_step, chunk);
        load_a.fetch(next, until, ra);
        load_b.fetch(next, until, rb);
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
                for (int j = 0; j < LP_TN; ++j)
#if LP_INNER == 1
                    sum[i][j] = lp_add(sum[i][j], lp_mul(fa[i], fb[j]));
#else
                    sum[i][j] = lp_fma(fa[i], fb[j], sum[i][j]);
#endif
        }
        if (next == stop) {
            float s_b[LP_TN];
#pragma unroll
            for (int j = 0; j < LP_TN; ++j) s_b[j] = of_b.at(of_b.row(lp_imin(n0 + LP_ROW(j, x, LP_BN, LP_TN), N - 1)), of_b.column(piece));
#pragma unroll
            for (int i = 0; i < LP_TM; ++i) {
                int m = lp_imin(m0 + LP_ROW(i, y, LP_BM, LP_TM), M - 1);
                float s_a = of_a.at(of_a.row(m), of_a.column(piece));
#pragma unroll
                for (int j = 0; j < LP_TN; ++j) {
                    total[i][j] = lp_add(total[i][j], lp_mul(sum[i][j], lp_mul(s_a, s_b[j])));
                    sum[i][j] = 0.0f;
                }
            }
            piece = stop;
        }
        from = next;
        stop = until;
    }
    write(C, M, N, m0, n0, y, x, total, of_a, of_b, of_tensors(a_tensor, b_tensor));
}

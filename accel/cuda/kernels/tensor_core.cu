/* tensor_core: matrix products as a matrix unit makes them (lpref.ref.linalg.tensor_core), in whole numbers on the CUDA cores: core/tensor_core.h.
 *
 * Pieces and scales: pieces.cuh. Every piece begins at +0 and walks in steps of LP_PRODUCTS; LP_BK, a multiple of it, is the k of a tile in shared
 * memory. A step is two passes over its products: their greatest exponent, then the sum of what is left of each. LP_WIDE: sums need 64 bits. LP_LATE: the
 * sum before is added afterwards. Tiles that hold NaN or infinities go a longer way. Versions: 1. this one. */
#ifdef LP_CHECK
#include "base.h"

/* first: the least index of a value that a float format (precision, smallest normal exponent, greatest value) does not have; NaN and infinities pass */
extern "C" __global__ void __launch_bounds__(256) unheld(const float *x, lp_i64 n, int precision, int emin, float most, lp_u64 *first) {
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (lp_i64)gridDim.x * blockDim.x) {
        lp_u32 a = lp_bits(x[i]) & LP_ABS;
        if (a == 0 || a >= LP_INF) continue;
        lp_i32 e = lp_imax((lp_i32)(a >> 23), 1) - 127, down = 24 - precision + lp_imax(emin - e, 0);
        lp_u32 m = (a & 0x7FFFFFu) | (a >> 23 ? 1u << 23 : 0u);
        if (down > 24 || (m & ((1u << down) - 1u)) || lp_float(a) > most) atomicMin(first, (lp_u64)i);
    }
}
#else
#include "pieces.cuh"
#include "tensor_core.h"

#if LP_WIDE
typedef lp_i64 Sum;
#else
typedef lp_i32 Sum;
#endif

/* n = 0 .. count - 1 of a thread's rows (columns) out of a line of the tile */
#define LP_LINE(to, line, y, size, count)                    \
    _Pragma("unroll") for (int n = 0; n < (count); ++n) to[n] = line[LP_ROW(n, y, size, count)]

extern "C" __global__ void __launch_bounds__(LP_THREADS) gemm(
    const float *A, lp_i64 a_outer, lp_i64 a_inner, const float *a_scale, lp_i64 as_outer, lp_i64 as_inner, int a_other, int a_step, const float *a_tensor,
    const float *B, lp_i64 b_outer, lp_i64 b_inner, const float *b_scale, lp_i64 bs_outer, lp_i64 bs_inner, int b_other, int b_step,
    const float *b_tensor, float *C, int M, int N, int K, int chunk, int fraction, int kept, int clamp, int a_emin, int a_bits, int b_emin, int b_bits) {
    __shared__ __align__(16) int sig_a[LP_BK][LP_BM + 4], exp_a[LP_BK][LP_BM + 4], sig_b[LP_BK][LP_BN + 4], exp_b[LP_BK][LP_BN + 4];
    int wide = (N + LP_BN - 1) / LP_BN, m0 = (int)blockIdx.x / wide * LP_BM, n0 = (int)blockIdx.x % wide * LP_BN;
    Scales of_a = {a_scale, as_outer, as_inner, a_other, a_step}, of_b = {b_scale, bs_outer, bs_inner, b_other, b_step};
    int up = fraction - a_bits - b_bits;
    Loader<LP_BM, LP_A_K> load_a(A, a_outer, a_inner, m0, M);
    Loader<LP_BN, LP_B_K> load_b(B, b_outer, b_inner, n0, N);
    int x = (int)threadIdx.x % (LP_BN / LP_TN), y = (int)threadIdx.x / (LP_BN / LP_TN);
    float ra[load_a.COUNT], rb[load_b.COUNT], total[LP_TM][LP_TN], sum[LP_TM][LP_TN];
#pragma unroll
    for (int i = 0; i < LP_TM; ++i)
#pragma unroll
        for (int j = 0; j < LP_TN; ++j) total[i][j] = sum[i][j] = 0.0f;
    for (int from = 0, piece = 0; from < K;) {
        int stop = boundary(from, K, a_step, b_step, chunk), next = lp_imin(from + LP_BK, stop), special = 0;
        load_a.fetch(from, next, ra);
        load_b.fetch(from, next, rb);
#pragma unroll
        for (int n = 0; n < load_a.COUNT; ++n) {
            lp_element e = lp_unit_element(ra[n], a_emin, a_bits);
            sig_a[load_a.k + n * load_a.KS][load_a.row + n * load_a.ROWS] = e.sig;
            exp_a[load_a.k + n * load_a.KS][load_a.row + n * load_a.ROWS] = e.exp;
            special |= e.exp < LP_NONE;
        }
#pragma unroll
        for (int n = 0; n < load_b.COUNT; ++n) {
            lp_element e = lp_unit_element(rb[n], b_emin, b_bits);
            sig_b[load_b.k + n * load_b.KS][load_b.row + n * load_b.ROWS] = e.sig;
            exp_b[load_b.k + n * load_b.KS][load_b.row + n * load_b.ROWS] = e.exp;
            special |= e.exp < LP_NONE;
        }
        special = __syncthreads_or(special);
        for (int k0 = 0; k0 < next - from; k0 += LP_PRODUCTS) {
            int top[LP_TM][LP_TN], sa[LP_TM], sb[LP_TN], ea[LP_TM], eb[LP_TN];
            Sum cut[LP_TM][LP_TN];
#pragma unroll
            for (int i = 0; i < LP_TM; ++i)
#pragma unroll
                for (int j = 0; j < LP_TN; ++j) {
                    top[i][j] = clamp;
                    cut[i][j] = 0;
                }
#pragma unroll 4
            for (int k = k0; k < k0 + LP_PRODUCTS; ++k) {
                LP_LINE(ea, exp_a[k], y, LP_BM, LP_TM);
                LP_LINE(eb, exp_b[k], x, LP_BN, LP_TN);
#pragma unroll
                for (int i = 0; i < LP_TM; ++i)
#pragma unroll
                    for (int j = 0; j < LP_TN; ++j) top[i][j] = lp_addmax(ea[i], eb[j], top[i][j]);
            }
            if (!LP_LATE) {
#pragma unroll
                for (int i = 0; i < LP_TM; ++i)
#pragma unroll
                    for (int j = 0; j < LP_TN; ++j)
                        if (!lp_unit_class_of(sum[i][j])) top[i][j] = lp_imax(top[i][j], lp_unit_exponent(sum[i][j]));
            }
#pragma unroll 4
            for (int k = k0; k < k0 + LP_PRODUCTS; ++k) {
                LP_LINE(sa, sig_a[k], y, LP_BM, LP_TM);
                LP_LINE(sb, sig_b[k], x, LP_BN, LP_TN);
                LP_LINE(ea, exp_a[k], y, LP_BM, LP_TM);
                LP_LINE(eb, exp_b[k], x, LP_BN, LP_TN);
#pragma unroll
                for (int i = 0; i < LP_TM; ++i)
#pragma unroll
                    for (int j = 0; j < LP_TN; ++j) cut[i][j] += lp_unit_term(sa[i], sb[j], up, top[i][j] - ea[i] - eb[j]);
            }
#pragma unroll
            for (int i = 0; i < LP_TM; ++i)
#pragma unroll
                for (int j = 0; j < LP_TN; ++j) {
                    int kind = lp_unit_class_of(sum[i][j]);
                    float before = kind ? 0.0f : sum[i][j];
                    lp_i64 whole = (lp_i64)cut[i][j] + (LP_LATE ? 0 : lp_unit_carried(before, top[i][j], fraction));
                    float d = lp_unit_cut(whole, top[i][j] - fraction, kept);
                    if (LP_LATE) d = lp_add(d, before);
                    if (special) {
                        int r = LP_ROW(i, y, LP_BM, LP_TM), s = LP_ROW(j, x, LP_BN, LP_TN);
#pragma unroll 1
                        for (int k = k0; k < k0 + LP_PRODUCTS; ++k) {
                            lp_element a = {sig_a[k][r], exp_a[k][r]}, b = {sig_b[k][s], exp_b[k][s]};
                            kind = lp_unit_class(kind, a, b);
                        }
                    }
                    sum[i][j] = kind ? lp_unit_special(kind) : d;
                }
        }
        __syncthreads();
        if (next == stop) {
#pragma unroll
            for (int i = 0; i < LP_TM; ++i)
#pragma unroll
                for (int j = 0; j < LP_TN; ++j) {
                    int m = lp_imin(m0 + LP_ROW(i, y, LP_BM, LP_TM), M - 1), n = lp_imin(n0 + LP_ROW(j, x, LP_BN, LP_TN), N - 1);
                    float s = lp_mul(of_a.at(of_a.row(m), of_a.column(piece)), of_b.at(of_b.row(n), of_b.column(piece)));
                    total[i][j] = lp_add(total[i][j], lp_mul(sum[i][j], s));
                    sum[i][j] = 0.0f;
                }
            piece = stop;
        }
        from = next;
    }
    write(C, M, N, m0, n0, y, x, total, of_a, of_b, of_tensors(a_tensor, b_tensor));
}
#endif

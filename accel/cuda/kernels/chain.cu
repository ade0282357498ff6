/* chain: c[m, n] by sequential sums in any small float format (lpref.ref.linalg: inner sequential), a thread an output, k ascending: slow, and right.
 *
 * Pieces and scales as pieces.cuh says. products: 0 exact, 1 rounded to float32. The outer sum: precision 24 and most 0 stand for float32's own addition.
 * LP_REGISTER: pieces are sums of integers in a register of few bits; a_unit and b_unit bring elements to integers, unit brings the sum back.
 * Versions: 1. this one. */
#include "chain.h"

LPREF_FN int until(int k, int depth, int step_a, int step_b, int chunk) {
    int stop = depth;
    if (step_a) stop = lp_imin(stop, (k / step_a + 1) * step_a);
    if (step_b) stop = lp_imin(stop, (k / step_b + 1) * step_b);
    if (chunk) stop = lp_imin(stop, (k / chunk + 1) * chunk);
    return stop;
}

#ifdef LP_REGISTER
#define LP_SUMS lp_i64 half, int saturates, double a_unit, double b_unit, float unit
#else
#define LP_SUMS int products, int precision, int emin, double most, double beyond
#endif

extern "C" __global__ void __launch_bounds__(256) gemm(
    const float *A, lp_i64 a_outer, lp_i64 a_inner, const float *a_scale, lp_i64 as_outer, lp_i64 as_inner, int a_other, int a_step, const float *a_tensor,
    const float *B, lp_i64 b_outer, lp_i64 b_inner, const float *b_scale, lp_i64 bs_outer, lp_i64 bs_inner, int b_other, int b_step,
    const float *b_tensor, float *C, int M, int N, int K, int chunk, LP_SUMS, int o_precision, int o_emin, double o_most, double o_beyond) {
    lp_sum_format outer = {o_precision, o_emin, o_most, o_beyond};
    lp_i64 total = (lp_i64)M * N;
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += (lp_i64)gridDim.x * blockDim.x) {
        int m = (int)(i / N), n = (int)(i % N);
        float c = 0.0f;
        for (int from = 0; from < K;) {
            int stop = until(from, K, a_step, b_step, chunk);
#ifdef LP_REGISTER
            lp_i64 sum = 0;
            for (int k = from; k < stop; ++k) {
                lp_i64 a = (lp_i64)lp_dmul((double)A[m * a_outer + k * a_inner], a_unit), b = (lp_i64)lp_dmul((double)B[n * b_outer + k * b_inner], b_unit);
                sum = lp_register_add(sum, a * b, half, saturates);
            }
            float piece = lp_mul((float)sum, unit);
#else
            lp_sum_format inner = {precision, emin, most, beyond};
            double sum = 0.0;
            for (int k = from; k < stop; ++k) {
                double p = lp_dmul((double)A[m * a_outer + k * a_inner], (double)B[n * b_outer + k * b_inner]);
                sum = lp_rounded_to(lp_odd_add(sum, products ? (double)lp_narrow(p) : p), &inner);
            }
            float piece = lp_narrow(sum);
#endif
            if (a_scale && a_step) {
                float s = a_scale[m / a_other * as_outer + from / a_step * as_inner];
                if (b_scale && b_step) s = lp_mul(s, b_scale[n / b_other * bs_outer + from / b_step * bs_inner]);
                piece = lp_mul(piece, s);
            } else if (b_scale && b_step) {
                piece = lp_mul(piece, b_scale[n / b_other * bs_outer + from / b_step * bs_inner]);
            }
            c = o_most > 0.0 ? lp_narrow(lp_rounded_to(lp_odd_add((double)c, (double)piece), &outer)) : lp_add(c, piece);
            from = stop;
        }
        float rows = lp_mul(a_scale && !a_step ? a_scale[m / a_other * as_outer] : 1.0f, b_scale && !b_step ? b_scale[n / b_other * bs_outer] : 1.0f);
        C[i] = lp_mul(lp_mul(c, rows), lp_mul(a_tensor ? *a_tensor : 1.0f, b_tensor ? *b_tensor : 1.0f));
    }
}

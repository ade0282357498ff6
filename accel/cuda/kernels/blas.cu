/* blas: what stands around a product by cuBLAS: its factor on the device, and scales of rows and columns afterwards. */
#include "base.h"

/* out = {fl32 of the four factors' product, 0}: alpha and beta. Missing ones (null) are 1. */
extern "C" __global__ void alpha(const float *a, const float *b, const float *c, const float *d, float *out) {
    out[0] = lp_mul(lp_mul(a ? *a : 1.0f, b ? *b : 1.0f), lp_mul(c ? *c : 1.0f, d ? *d : 1.0f));
    out[1] = 0.0f;
}

/* c [M, N] <- c (row x column); a scale serves `a_other` rows (`b_other` columns); null: 1 */
extern "C" __global__ void __launch_bounds__(256) scale(float *c, lp_i64 M, lp_i64 N, const float *row, int a_other, const float *column, int b_other) {
    for (lp_i64 m = (lp_i64)blockIdx.y * blockDim.y + threadIdx.y; m < M; m += (lp_i64)gridDim.y * blockDim.y) {
        float r = row ? row[m / a_other] : 1.0f;
        for (lp_i64 n = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; n < N; n += (lp_i64)gridDim.x * blockDim.x)
            c[m * N + n] = lp_mul(c[m * N + n], lp_mul(r, column ? column[n / b_other] : 1.0f));
    }
}

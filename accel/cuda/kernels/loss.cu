/* loss: softmax cross-entropy, the page of lpref.ref.nn.loss. A team a row; e^z is computed once and waits in probs for its sum.
 *
 * Versions: 1. this one. */
#include "elementary.h"
#include "reduce.cuh"

extern "C" __global__ void __launch_bounds__(LP_BLOCK) cross_entropy(const float *logits, const lp_i64 *targets, lp_i64 rows, lp_i64 n, float *probs, float *losses) {
    LP_ROWS(r, rows) {
        const float *z = logits + r * n;
        float *p = probs + r * n, top = row_max(z, n);
        float s = row_sum(n, [&](lp_place i) {
            float e = lp_exp(lp_sub(z[i], top));
            p[i] = e; /* read by this thread only: row_sum and LP_COLUMNS give i to the same one */
            return e;
        });
        LP_COLUMNS(i, n) p[i] = lp_div(p[i], s);
        if (LP_MINE == 0) losses[r] = lp_sub(lp_log(s), lp_sub(z[targets[r]], top));
    }
}

/* dloss: on the device, or null and a number */
extern "C" __global__ void __launch_bounds__(256) cross_entropy_backward(const float *probs, const lp_i64 *targets, lp_i64 rows, lp_i64 n, const float *dloss, float number,
                                                                         float count, float *dlogits) {
    float scale = lp_div(dloss ? *dloss : number, count);
    for (lp_i64 r = (lp_i64)blockIdx.y * blockDim.y + threadIdx.y; r < rows; r += (lp_i64)gridDim.y * blockDim.y) {
        lp_i64 target = targets[r];
        for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (lp_i64)gridDim.x * blockDim.x) {
            float p = probs[r * n + i];
            dlogits[r * n + i] = lp_mul(i == target ? lp_sub(p, 1.0f) : p, scale);
        }
    }
}

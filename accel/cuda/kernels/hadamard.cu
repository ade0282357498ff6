/* hadamard: the butterflies of lpref.ref.linalg.hadamard: strides 1, 2, 4, ... along an axis, then one multiplication.
 *
 * A run of `size` numbers has its neighbours `columns` apart: x is [batch, runs, size, columns]. transform: a block of threads keeps a tile of
 * size x wide numbers in shared memory (columns = 1: runs side by side, which is the same picture with size and columns exchanged).
 * stage: one stride of runs that no tile holds. signs [sign_count], repeated along the axis; null: none. Versions: 1. this one. */
#include "reduce.cuh"

#define TILE 4096

/* sign of position p of the axis */
LPREF_FN float signed_by(float v, const float *signs, lp_i64 sign_count, lp_i64 p) { return signs ? lp_mul(v, signs[p % sign_count]) : v; }

/* columns = 1: tiles are TILE / size whole runs; else size x wide, wide columns of a run. tiles: how many. length = runs size. */
extern "C" __global__ void __launch_bounds__(256) transform(const float *x, lp_i64 total, lp_i64 tiles, lp_i64 length, lp_i64 size, lp_i64 columns, lp_i64 wide, const float *before,
                                                            lp_i64 before_count, const float *after, lp_i64 after_count, float factor, float *y) {
    __shared__ float t[TILE];
    int unit = columns == 1 ? 1 : (int)wide, held = columns == 1 ? (int)(TILE / size * size) : (int)(size * wide);
    for (lp_i64 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        lp_i64 across = (columns + wide - 1) / wide, run = tile / across, first = tile % across * wide;
        __syncthreads(); /* the last tile is written */
        for (int k = threadIdx.x; k < held; k += blockDim.x) {
            lp_i64 row = columns == 1 ? tile * held + k : run * size + k / unit, at = columns == 1 ? row : row * columns + first + k % unit;
            int inside = columns == 1 ? at < total : first + k % unit < columns;
            t[k] = inside ? signed_by(x[at], before, before_count, row % length) : 0.0f;
        }
        for (int stride = unit; stride < size * unit; stride *= 2) {
            __syncthreads();
            for (int p = threadIdx.x; p < held / 2; p += blockDim.x) {
                int low = p / stride * 2 * stride + p % stride;
                float a = t[low], b = t[low + stride];
                t[low] = lp_add(a, b);
                t[low + stride] = lp_sub(a, b);
            }
        }
        __syncthreads();
        for (int k = threadIdx.x; k < held; k += blockDim.x) {
            lp_i64 row = columns == 1 ? tile * held + k : run * size + k / unit, at = columns == 1 ? row : row * columns + first + k % unit;
            int inside = columns == 1 ? at < total : first + k % unit < columns;
            if (inside) y[at] = signed_by(lp_mul(t[k], factor), after, after_count, row % length);
        }
    }
}

/* One stride of every run: x -> y. scaled: the last one multiplies. */
extern "C" __global__ void __launch_bounds__(256) stage(const float *x, lp_i64 total, lp_i64 length, lp_i64 columns, lp_i64 stride, const float *before, lp_i64 before_count,
                                                        const float *after, lp_i64 after_count, int scaled, float factor, float *y) {
    LP_EACH(k, total / 2) {
        lp_i64 pair = k / columns, c = k % columns, low = pair / stride * 2 * stride + pair % stride, high = low + stride;
        float a = signed_by(x[low * columns + c], before, before_count, low % length), b = signed_by(x[high * columns + c], before, before_count, high % length);
        float sum = lp_add(a, b), difference = lp_sub(a, b);
        if (scaled) {
            sum = signed_by(lp_mul(sum, factor), after, after_count, low % length);
            difference = signed_by(lp_mul(difference, factor), after, after_count, high % length);
        }
        y[low * columns + c] = sum;
        y[high * columns + c] = difference;
    }
}

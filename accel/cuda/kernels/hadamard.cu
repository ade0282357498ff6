/* hadamard: the butterflies of lpref.ref.linalg.hadamard: strides 1, 2, 4, ... along an axis, then one multiplication.
 *
 * A run of `size` numbers has its neighbours `columns` apart: x is [runs, size, columns]. Signs are repeated along the axis (sign_count: size, or the
 * axis' length, both multiples of size); null: none. Versions: 1. transform for all (size 16: a quarter of the copy bandwidth). 2. runs: a run of up to
 * 64 numbers in the registers of a thread (LP_SIZE); transform: longer ones in shared memory, shifts for divisions; stage: runs that no tile holds. */
#include "butterflies.cuh"
#include "reduce.cuh"

#ifdef LP_SIZE
/* count: runs x columns */
extern "C" __global__ void __launch_bounds__(256) runs(const float *x, lp_i64 count, lp_i64 columns, const float *before, lp_i64 before_count, const float *after,
                                                       lp_i64 after_count, float factor, float *y) {
    int fours = columns == 1 && LP_SIZE % 4 == 0 && (((lp_u64)x | (lp_u64)y) & 15) == 0;
    LP_EACH(k, count) {
        lp_i64 run = columns == 1 ? k : count >> 31 ? k / columns : (lp_i64)((lp_u32)k / (lp_u32)columns);
        lp_i64 start = run * LP_SIZE * columns + (k - run * columns);
        float v[LP_SIZE];
        if (fours) {
#pragma unroll
            for (int i = 0; i < LP_SIZE / 4; ++i) {
                float4 q = ((const float4 *)(x + start))[i];
                v[4 * i] = q.x;
                v[4 * i + 1] = q.y;
                v[4 * i + 2] = q.z;
                v[4 * i + 3] = q.w;
            }
        } else {
#pragma unroll
            for (int i = 0; i < LP_SIZE; ++i) v[i] = x[start + i * columns];
        }
        if (before) {
            const float *s = before + (before_count == LP_SIZE ? 0 : run * LP_SIZE % before_count);
#pragma unroll
            for (int i = 0; i < LP_SIZE; ++i) v[i] = lp_mul(v[i], s[i]);
        }
        butterflies<LP_SIZE>(v);
#pragma unroll
        for (int i = 0; i < LP_SIZE; ++i) v[i] = lp_mul(v[i], factor);
        if (after) {
            const float *s = after + (after_count == LP_SIZE ? 0 : run * LP_SIZE % after_count);
#pragma unroll
            for (int i = 0; i < LP_SIZE; ++i) v[i] = lp_mul(v[i], s[i]);
        }
        if (fours) {
#pragma unroll
            for (int i = 0; i < LP_SIZE / 4; ++i) {
                float4 q = {v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]};
                ((float4 *)(y + start))[i] = q;
            }
        } else {
#pragma unroll
            for (int i = 0; i < LP_SIZE; ++i) y[start + i * columns] = v[i];
        }
    }
}
#else
#define TILE 4096

/* sign of row p */
LPREF_FN float signed_by(float v, const float *signs, lp_i64 sign_count, lp_i64 p) { return signs ? lp_mul(v, signs[p % sign_count]) : v; }

/* A tile: size rows x wide columns (2^log_wide) of a run; columns = 1: TILE / size runs side by side. rows: in all. */
extern "C" __global__ void __launch_bounds__(256) transform(const float *x, lp_i64 rows, lp_i64 tiles, lp_i64 columns, int size, int log_wide, const float *before,
                                                            lp_i64 before_count, const float *after, lp_i64 after_count, float factor, float *y) {
    __shared__ float t[TILE];
    lp_i64 across = (columns + (1 << log_wide) - 1) >> log_wide;
    int held = columns == 1 ? TILE : size << log_wide, mask = (1 << log_wide) - 1;
    for (lp_i64 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        lp_i64 run = tile / across, first = (tile - run * across) << log_wide, top = run * (columns == 1 ? TILE : size);
        __syncthreads(); /* the last tile is written */
        for (int k = threadIdx.x; k < held; k += blockDim.x) {
            lp_i64 row = top + (k >> log_wide), c = first + (k & mask);
            t[k] = row < rows && c < columns ? signed_by(x[row * columns + c], before, before_count, row) : 0.0f;
        }
        for (int log = log_wide; 1 << log < size << log_wide; ++log) {
            __syncthreads();
            for (int p = threadIdx.x; p < held / 2; p += blockDim.x) {
                int low = p >> log << (log + 1) | (p & ((1 << log) - 1));
                float a = t[low], b = t[low + (1 << log)];
                t[low] = lp_add(a, b);
                t[low + (1 << log)] = lp_sub(a, b);
            }
        }
        __syncthreads();
        for (int k = threadIdx.x; k < held; k += blockDim.x) {
            lp_i64 row = top + (k >> log_wide), c = first + (k & mask);
            if (row < rows && c < columns) y[row * columns + c] = signed_by(lp_mul(t[k], factor), after, after_count, row);
        }
    }
}

/* One stride of every run: x -> y. scaled: the last one multiplies. */
extern "C" __global__ void __launch_bounds__(256) stage(const float *x, lp_i64 total, lp_i64 columns, lp_i64 stride, const float *before, lp_i64 before_count, const float *after,
                                                        lp_i64 after_count, int scaled, float factor, float *y) {
    LP_EACH(k, total / 2) {
        lp_i64 pair = k / columns, c = k % columns, low = pair / stride * 2 * stride + pair % stride, high = low + stride;
        float a = signed_by(x[low * columns + c], before, before_count, low), b = signed_by(x[high * columns + c], before, before_count, high);
        float sum = lp_add(a, b), difference = lp_sub(a, b);
        if (scaled) {
            sum = signed_by(lp_mul(sum, factor), after, after_count, low);
            difference = signed_by(lp_mul(difference, factor), after, after_count, high);
        }
        y[low * columns + c] = sum;
        y[high * columns + c] = difference;
    }
}
#endif

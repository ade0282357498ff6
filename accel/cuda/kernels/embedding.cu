/* embedding: rows of a table, and the gradient of the table. ids are in [0, V): the caller has checked.
 *
 * The gradient: positions sorted by (id, position); a block sums the rows of one id. No atomic addition. Versions: 1. eight warps for every 32 columns
 * (50257 ids, 16384 positions of 768: 1.4 ms). 2. so only where an id comes more than 32 times, else a thread has a column to itself. 3. this one:
 * where an id's positions begin is given, not searched for (five dependent loads and more), and few ids get blocks of 32 columns. */
#include "reduce.cuh"

extern "C" __global__ void __launch_bounds__(256) rows_of(const float *table, const lp_i64 *ids, lp_i64 n, lp_i64 width, float *out) {
    for (lp_i64 r = (lp_i64)blockIdx.y * blockDim.y + threadIdx.y; r < n; r += (lp_i64)gridDim.y * blockDim.y) {
        const float *row = table + ids[r] * width;
        for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < width; i += (lp_i64)gridDim.x * blockDim.x) out[r * width + i] = row[i];
    }
}

/* key = id n + position, ascending; those of id v are starts[v] .. starts[v + 1]. A block: one id, `chunk` columns (32, or 256). */
extern "C" __global__ void __launch_bounds__(256) table_gradient(const float *dy, const lp_i64 *keys, const lp_i64 *starts, lp_i64 n, lp_i64 width, int chunk,
                                                                 float *table) {
    __shared__ float sums[32][33];
    lp_i64 id = blockIdx.x, at = starts[id], count = starts[id + 1] - at, first = (lp_i64)blockIdx.y * chunk;
    lp_i64 c = first + threadIdx.y * 32 + threadIdx.x, past = first + chunk < width ? first + chunk : width;
    if (count <= 32) { /* a lane each, so a thread has a column to itself */
        if (c >= past) return;
        float lane[32];
#pragma unroll
        for (int k = 0; k < 32; ++k) lane[k] = k < count ? dy[(keys[at + k] - id * n) * width + c] : 0.0f;
        halve<16>(lane);
        table[id * width + c] = lp_add(lane[0], 0.0f);
        return;
    }
    for (c = first + threadIdx.x; c - threadIdx.x < past; c += 32) { /* 32 columns by all warps */
        for (lp_u32 g = threadIdx.y; g < 32; g += 8) {
            float sum[1] = {0.0f};
            if (c < width) lane_group<1, 32>(count, g, sum, [&](lp_i64 k, float *v) { v[0] = dy[(keys[at + k] - id * n) * width + c]; });
            sums[g][threadIdx.x] = sum[0];
        }
        __syncthreads();
        if (threadIdx.y == 0 && c < width) {
            float lane[32];
#pragma unroll
            for (int g = 0; g < 32; ++g) lane[g] = sums[g][threadIdx.x];
            halve<16>(lane);
            table[id * width + c] = lp_add(lane[0], 0.0f);
        }
        __syncthreads();
    }
}

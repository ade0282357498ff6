/* embedding: rows of a table, and the gradient of the table. ids are in [0, V): the caller has checked.
 *
 * The gradient: positions sorted by (id, position); a block whose position is the first of its id sums 32 columns of that id's rows: eight warps take
 * the lane groups (reduce.cuh), the first one halves them. No atomic addition; rows that no id names stay zero. Versions: 1. this one. */
#include "reduce.cuh"

extern "C" __global__ void __launch_bounds__(256) rows_of(const float *table, const lp_i64 *ids, lp_i64 n, lp_i64 width, float *out) {
    for (lp_i64 r = (lp_i64)blockIdx.y * blockDim.y + threadIdx.y; r < n; r += (lp_i64)gridDim.y * blockDim.y) {
        const float *row = table + ids[r] * width;
        for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < width; i += (lp_i64)gridDim.x * blockDim.x) out[r * width + i] = row[i];
    }
}

/* key = id n + position, ascending */
extern "C" __global__ void __launch_bounds__(256) table_gradient(const float *dy, const lp_i64 *keys, lp_i64 n, lp_i64 width, float *table) {
    __shared__ float sums[32][33];
    lp_i64 at = blockIdx.x, id = keys[at] / n;
    if (at > 0 && keys[at - 1] >= id * n) return; /* not the first */
    lp_i64 low = at, high = n;                    /* the last position of this id is in [low, high) */
    while (high - low > 1) {
        lp_i64 middle = (low + high) / 2;
        if (keys[middle] < (id + 1) * n) low = middle;
        else high = middle;
    }
    lp_i64 count = high - at, c = (lp_i64)blockIdx.y * 32 + threadIdx.x;
    for (lp_u32 g = threadIdx.y; g < 32; g += 8) {
        sums[g][threadIdx.x] = c < width ? lane_group(count, g, [&](lp_i64 k) { return dy[(keys[at + k] - id * n) * width + c]; }) : 0.0f;
    }
    __syncthreads();
    if (threadIdx.y == 0 && c < width) {
        float lane[32];
#pragma unroll
        for (int g = 0; g < 32; ++g) lane[g] = sums[g][threadIdx.x];
        halve<16>(lane);
        table[id * width + c] = lp_add(lane[0], 0.0f);
    }
}

/* embedding: rows of a table, and the gradient of the table. ids are in [0, V): the caller has checked.
 *
 * The gradient: positions sorted by (id, position); a block sums the rows of one id, or a
 * warp where it comes 32 times or less. No atomic addition. Versions: 1. eight warps for every 32 columns
 * (50257 ids, 16384 positions of 768: 1.4 ms). 2. so only where an id comes more than 32 times, else a thread has a column to itself;
 * where an id's positions begin is given, not searched for (five dependent loads and more), and few ids get blocks of 32 columns. 3. a block for every
 * id and 256 columns (50304 ids, of which 16384 positions name 90, and 1024 that come 16 times: 1.35 ms together). 4. this one: ids that do not come
 * cost a store of zeros, those that come often have blocks of 32 columns to themselves. */
#include "reduce.cuh"

/* rows of `width` numbers, or of fours of them */
template <class T> LPREF_FN void rows(const T *table, const lp_i64 *ids, lp_i64 n, lp_i64 width, T *out) {
    for (lp_i64 r = (lp_i64)blockIdx.y * blockDim.y + threadIdx.y; r < n; r += (lp_i64)gridDim.y * blockDim.y) {
        const T *row = table + ids[r] * width;
        for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < width; i += (lp_i64)gridDim.x * blockDim.x) out[r * width + i] = row[i];
    }
}

extern "C" __global__ void __launch_bounds__(256) rows_of(const float *table, const lp_i64 *ids, lp_i64 n, lp_i64 width, float *out) {
    rows(table, ids, n, width, out);
}

extern "C" __global__ void __launch_bounds__(256) rows_of_fours(const float4 *table, const lp_i64 *ids, lp_i64 n, lp_i64 width, float4 *out) {
    rows(table, ids, n, width, out);
}

/* key = id n + position, ascending; those of id v are starts[v] .. starts[v + 1]. table is zero before. A warp: the id whose first position in this
 * order is the warp's number, if it comes at most FEW times: a lane of the sum each, so a thread has a column to itself. */
#define FEW 32
extern "C" __global__ void __launch_bounds__(256) rare_rows(const float *dy, const lp_i64 *keys, const lp_i64 *starts, lp_i64 n, lp_i64 width, float *table) {
    lp_i64 at = (lp_i64)blockIdx.x * 8 + threadIdx.y;
    if (at >= n) return;
    lp_i64 id = keys[at] / n, count = starts[id + 1] - at;
    if (starts[id] != at || count > FEW) return;
    lp_i64 mine = (int)threadIdx.x < count ? (keys[at + threadIdx.x] - id * n) * width : 0;
    for (lp_i64 first = 32 * (lp_i64)blockIdx.y; first < width; first += 32 * (lp_i64)gridDim.y) {
        lp_i64 c = first + threadIdx.x;
        float lane[FEW];
#pragma unroll
        for (int k = 0; k < FEW; ++k) {
            lp_i64 row = __shfl_sync(LP_ALL, mine, k);
            lane[k] = k < count && c < width ? dy[row + c] : 0.0f;
        }
        halve<FEW / 2>(lane);
        if (c < width) table[id * width + c] = lp_add(lane[0], 0.0f);
    }
}

/* A block: 32 columns of the id at position 32 blockIdx.x in this order, if that is the first such position of the id and it comes more often. */
extern "C" __global__ void __launch_bounds__(512) frequent_rows(const float *dy, const lp_i64 *keys, const lp_i64 *starts, lp_i64 n, lp_i64 width, float *table) {
    __shared__ float sums[32][33];
    lp_i64 place = FEW * (lp_i64)blockIdx.x, id = keys[place] / n, at = starts[id], count = starts[id + 1] - at, c = (lp_i64)blockIdx.y * 32 + threadIdx.x;
    if (place - at >= FEW || count <= FEW) return;
    for (lp_u32 g = threadIdx.y; g < 32; g += 16) {
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
}

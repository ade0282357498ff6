/* peaks: the largest magnitude bits (NaN wins) of x [R, C] and of its Hadamard transform along the rows, from one read: what a tensor scale needs
 * before panels.cu. A maximum of integers, so any order gives the same bits.
 *
 * plain, turned: where they go, 0 before; either null. Versions: 1. a transform into memory, then amax_flat of each tensor (amax.cu). 2. this one.
 * Macros: panel.cuh. */
#define LP_IN LP_FROM
#include "source.cuh"
#include "bf16.cuh"
#include "panel.cuh"

LPREF_FN void peak(lp_u32 top, lp_u32 *held, lp_u32 *out) {
    top = __reduce_max_sync(0xFFFFFFFFu, top);
    if (threadIdx.x % 32 == 0) held[threadIdx.x / 32] = top;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (lp_u32 i = 1; i < blockDim.x / 32; ++i) top = lp_umax(top, held[i]);
        if (top) atomicMax(out, top);
    }
}

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) peaks(const void *x, lp_i64 R, lp_i64 C, const float *signs, lp_i64 count, float factor,
                                                                             lp_u32 *plain, lp_u32 *turned) {
    __shared__ lp_u32 held[2][32];
    lp_u32 across = (lp_u32)((C + WIDE - 1) / WIDE), panels = (lp_u32)(R / LP_K) * across, lane = threadIdx.x % 32, low = 0, high = 0;
    for (lp_u32 p = (blockIdx.x * blockDim.x + threadIdx.x) / 32; p < panels; p += gridDim.x * blockDim.x / 32) {
        Corner at = corner_of(p, across);
        lp_u32 c = at.column + 2 * lane;
        Columns t;
        load_columns(t, x, at.row * C + c, C, c < C);
        if (plain) low = lp_umax(low, lp_umax(largest_column(t.v[0]), largest_column(t.v[1])));
        if (!turned) continue;
        turn_columns(t, signs, count, at.row, factor);
        high = lp_umax(high, lp_umax(largest_column(t.v[0]), largest_column(t.v[1])));
    }
    if (plain) peak(low, held[0], plain);
    if (turned) peak(high, held[1], turned);
}

/* peaks: the largest magnitude bits (NaN wins) of x [R, C] and of its Hadamard transform along the rows, from one read: what a tensor scale needs
 * before panels.cu. A maximum of integers, so any order gives the same bits.
 *
 * turned_top.cuh leaves the factor for the end. Signs turn the sign bits of a pair.
 *
 * plain, turned: where they go, 0 before; plain may be null. Versions: 1. a transform into memory, then amax_flat of each tensor (amax.cu). 2. one read,
 * two columns a thread straight from memory: 38 % of the copy's bandwidth. 3. this one: panels come through shared memory ahead of their use (staged.cuh).
 * Macros: panel.cuh; LP_THREADS, LP_RESIDENT. */
#define LP_IN LP_FROM
#include "source.cuh"
#include "bf16.cuh"
#include "panel.cuh"
#include "staged.cuh"
#include "turned_top.cuh"

struct Tops {
    lp_u32 plain, turned; /* of pairs where x is of 16 bits; before the factor */
};

/* Two columns of a panel that is there, their signs turned by `flips`. */
LPREF_FN void take(Columns &t, const lp_16 *stage, const lp_u32 *flips, Tops &tops) {
    lp_u32 lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < LP_K; ++i) {
#if LP_FROM
        lp_u32 pair = ((const lp_u32 *)(stage + piece_at(i, lane / 4)))[lane % 4];
        tops.plain = __vmaxu2(tops.plain, pair & 0x7FFF7FFFu);
        pair ^= flips[i];
        t.v[0][i] = widened_half(pair & 0xFFFFu);
        t.v[1][i] = widened_half(pair >> 16);
#else
        lp_8 pair = ((const lp_8 *)(stage + piece_at(i, lane / 2)))[lane % 2];
        tops.plain = lp_farther(tops.plain, pair.x);
        tops.plain = lp_farther(tops.plain, pair.y);
        t.v[0][i] = lp_float(pair.x ^ (flips[i] & 0x80000000u));
        t.v[1][i] = lp_float(pair.y ^ (flips[i] & 0x80000000u));
#endif
    }
}

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
    __shared__ lp_16 stages[LP_THREADS / 32][2][STAGE];
    __shared__ __align__(16) lp_u32 flips[LP_THREADS / 32][LP_K];
    __shared__ lp_u32 held[2][LP_THREADS / 32];
    const lp_u32 warp = threadIdx.x / 32, across = (lp_u32)((C + WIDE - 1) / WIDE), panels = (lp_u32)(R / LP_K) * across, stride = gridDim.x * (LP_THREADS / 32);
    const lp_u32 first = blockIdx.x * (LP_THREADS / 32) + warp;
    const bool own = signs && count != LP_SIZE; /* each row of x has its sign */
    Tops tops = {0u, 0u};
    Corner at = corner_of(first, across), by = corner_of(stride, across);
    if (first < panels) fetch_panel(stages[warp][0], x, at, C);
    close_group();
    if (!own) flip(flips[warp], signs, count, 0);
    lp_u32 turn = 0;
    for (lp_u32 p = first; p < panels; p += stride, turn ^= 1) {
        Corner next = further(at, by, across);
        if (p + stride < panels) fetch_panel(stages[warp][turn ^ 1], x, next, C);
        close_group();
        if (own) flip(flips[warp], signs, count, at.row);
        await_groups<1>();
        Columns t;
        take(t, stages[warp][turn], flips[warp], tops);
        __syncwarp(); /* the panel has been read */
        tops.turned = turned_top<LP_K, LP_SIZE>(turned_top<LP_K, LP_SIZE>(tops.turned, t.v[0]), t.v[1]);
        at = next;
    }
#if LP_FROM
    tops.plain = widened(lp_umax(tops.plain & 0xFFFFu, tops.plain >> 16));
#endif
    if (plain) peak(tops.plain, held[0], plain);
    peak(lp_bits(lp_mul(lp_float(tops.turned), factor)) & LP_ABS, held[1], turned);
}

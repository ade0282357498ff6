/* amax: the largest magnitude bits of a tensor (NaN wins): a maximum of integers, so any order gives the same bits.
 *
 * amax_flat: n elements, 16-byte loads, eight in flight a thread. amax_grid, amax_tiles: any blocks br x bc. Versions: 1. this one. */
#include "source.cuh"

#if LP_IN
#define PER 8
#else
#define PER 4
#endif

LPREF_FN void out_max(lp_u32 top, lp_u32 *out) {
    __shared__ lp_u32 tops[32];
    top = __reduce_max_sync(0xFFFFFFFFu, top);
    if ((threadIdx.x & 31) == 0) tops[threadIdx.x >> 5] = top;
    __syncthreads();
    if (threadIdx.x < 32) {
        top = __reduce_max_sync(0xFFFFFFFFu, threadIdx.x < blockDim.x / 32 ? tops[threadIdx.x] : 0u);
        if (threadIdx.x == 0 && top) atomicMax(out, top);
    }
}

extern "C" __global__ void __launch_bounds__(512) amax_flat(const void *x, lp_i64 n, lp_u32 *out) {
    lp_i64 vectors = n / PER, stride = (lp_i64)gridDim.x * blockDim.x;
    lp_u32 top = 0;
    const lp_16 *p = (const lp_16 *)x;
    lp_i64 first = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x;
    for (lp_i64 i = first; i < vectors; i += 8 * stride) {
        lp_16 v[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) v[j] = p[i + j * stride < vectors ? i + j * stride : i];
#pragma unroll
        for (int j = 0; j < 8; ++j) {
#if LP_IN
            top = __vmaxu2(top, __vmaxu2(__vmaxu2(v[j].x & 0x7FFF7FFFu, v[j].y & 0x7FFF7FFFu), __vmaxu2(v[j].z & 0x7FFF7FFFu, v[j].w & 0x7FFF7FFFu)));
#else
            top = lp_umax(top, lp_umax(lp_umax(v[j].x & LP_ABS, v[j].y & LP_ABS), lp_umax(v[j].z & LP_ABS, v[j].w & LP_ABS)));
#endif
        }
    }
#if LP_IN
    top = widened(lp_umax(top & 0xFFFFu, top >> 16));
#endif
    if (first < n - vectors * PER) top = lp_umax(top, LP_ABS & source(x, vectors * PER + first));
    out_max(top, out);
}

/* amax_grid where blocks and rows are multiples of eight columns: a thread takes eight, of at most `span` rows inside one block */
extern "C" __global__ void __launch_bounds__(256) amax_tiles(const void *x, lp_i64 R, lp_i64 C, lp_i64 br, lp_i64 bc, lp_i64 span, lp_u32 *out) {
    lp_i64 per = (br + span - 1) / span, strips = (R + br - 1) / br * per, wide = (C + bc - 1) / bc, eights = C / 8;
    lp_i64 total = strips * eights, stride = (lp_i64)gridDim.x * blockDim.x;
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += stride) {
        lp_i64 c = i % eights * 8, strip = i / eights, band = strip / per;
        lp_i64 r0 = band * br + strip % per * span, r1 = r0 + span, end = (band + 1) * br;
        r1 = r1 < end ? r1 : end;
        r1 = r1 < R ? r1 : R;
        lp_u32 top = 0;
#pragma unroll 4
        for (lp_i64 r = r0; r < r1; ++r) {
#if LP_IN
            lp_16 v = *(const lp_16 *)((const lp_u16 *)x + r * C + c);
            top = __vmaxu2(top, __vmaxu2(__vmaxu2(v.x & 0x7FFF7FFFu, v.y & 0x7FFF7FFFu), __vmaxu2(v.z & 0x7FFF7FFFu, v.w & 0x7FFF7FFFu)));
#else
            const lp_16 *p = (const lp_16 *)((const lp_u32 *)x + r * C + c);
            lp_16 a = p[0], b = p[1];
            top = lp_umax(top, lp_umax(lp_umax(a.x & LP_ABS, a.y & LP_ABS), lp_umax(a.z & LP_ABS, a.w & LP_ABS)));
            top = lp_umax(top, lp_umax(lp_umax(b.x & LP_ABS, b.y & LP_ABS), lp_umax(b.z & LP_ABS, b.w & LP_ABS)));
#endif
        }
#if LP_IN
        top = widened(lp_umax(top & 0xFFFFu, top >> 16));
#endif
        if (top) atomicMax(out + band * wide + c / bc, top);
    }
}

/* out [ceil(R / br), ceil(C / bc)], zeroed before; one thread a column of at most `span` rows inside one block */
extern "C" __global__ void __launch_bounds__(256) amax_grid(const void *x, lp_i64 R, lp_i64 C, lp_i64 br, lp_i64 bc, lp_i64 span, lp_u32 *out) {
    lp_i64 per = (br + span - 1) / span, strips = (R + br - 1) / br * per, wide = (C + bc - 1) / bc;
    lp_i64 total = strips * C, stride = (lp_i64)gridDim.x * blockDim.x;
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += stride) {
        lp_i64 c = i % C, strip = i / C, band = strip / per;
        lp_i64 r0 = band * br + strip % per * span, r1 = r0 + span, end = (band + 1) * br;
        r1 = r1 < end ? r1 : end;
        r1 = r1 < R ? r1 : R;
        lp_u32 top = 0;
        for (lp_i64 r = r0; r < r1; ++r) top = lp_umax(top, LP_ABS & source(x, r * C + c));
        if (top) atomicMax(out + band * wide + c / bc, top);
    }
}

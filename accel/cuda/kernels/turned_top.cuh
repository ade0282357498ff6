/* The greatest magnitude of Hadamard transforms without their factor. Of the last stride only the larger of |a + b| and |a - b| is wanted: fl(|a| + |b|),
 * since rounding is monotone; so is the product with the factor, which comes once at the end. Only infinities, whose difference is NaN, take the
 * stride as it is. */
#ifndef TURNED_TOP_CUH
#define TURNED_TOP_CUH
#include "butterflies.cuh"

/* top <- with the transforms of SIZE of COUNT numbers, which are used up */
template <int COUNT, int SIZE> LPREF_FN lp_u32 turned_top(lp_u32 top, float *v) {
    const int half = SIZE / 2;
#pragma unroll
    for (int i = 0; i < COUNT; i += SIZE) {
        butterflies<SIZE, 1, half>(v + i);
#pragma unroll
        for (int j = i; j < i + half; ++j) top = lp_farther(top, lp_bits(lp_add(fabsf(v[j]), fabsf(v[j + half]))));
    }
    if (top >= LP_INF) {
#pragma unroll
        for (int i = 0; i < COUNT; i += SIZE) {
#pragma unroll
            for (int j = i; j < i + half; ++j) top = lp_farther(top, lp_farther(lp_bits(lp_add(v[j], v[j + half])), lp_bits(lp_sub(v[j], v[j + half]))));
        }
    }
    return top;
}

/* by every thread of the block: in the spare of a row of counters */
LPREF_FN void noted_turned(lp_u32 top, lp_u64 *counters) {
    __shared__ lp_u32 most;
    if (threadIdx.x == 0) most = 0u;
    __syncthreads();
    top = __reduce_max_sync(0xFFFFFFFFu, top);
    if (threadIdx.x % 32 == 0 && top) atomicMax(&most, top);
    __syncthreads();
    if (threadIdx.x == 0 && most) atomicMax((lp_u32 *)(counters + 4), most);
}

/* bit i: whether row i changes its sign */
template <int COUNT> LPREF_FN lp_u32 flips_of(const float *signs) {
    lp_u32 flips = 0;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) flips |= signs ? lp_bits(signs[i]) >> 31 << i : 0u;
    return flips;
}
#endif

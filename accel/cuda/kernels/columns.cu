/* columns: elements under a grid of scales that is known (amax.cu and scales_grid before): blocks of br rows in one column each, C a multiple of 8.
 *
 * A thread takes eight neighbours, each with a scale of its own: values and factors are read 16 bytes at a time. Versions: 1. one element a thread
 * (generic.cu), a Philox block for each. 2. this one. Macros: elements.cuh. */
#include "elements.cuh"

LPREF_FN void eight_of(const float *p, float *to) {
    float4 low = ((const float4 *)p)[0], high = ((const float4 *)p)[1];
    to[0] = low.x; to[1] = low.y; to[2] = low.z; to[3] = low.w;
    to[4] = high.x; to[5] = high.y; to[6] = high.z; to[7] = high.w;
}

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) elements(const void *x, lp_u8 *codes, lp_i64 R, lp_i64 C, lp_u32 br, const float *values,
    const float *factors, lp_u64 *counters, LP_WORDS) {
    Address words = LP_ADDRESS;
    Seen seen = {0, 0, 0, 0.0f};
    lp_u32 eights = (lp_u32)(C / 8);
    lp_i64 chunks = R * eights, stride = (lp_i64)gridDim.x * blockDim.x * LP_UNROLL;
    for (lp_i64 base = (lp_i64)blockIdx.x * blockDim.x * LP_UNROLL; base < chunks; base += stride) {
        Raw raw[LP_UNROLL];
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) {
            lp_i64 at = base + j * blockDim.x + threadIdx.x;
            raw[j] = load8(x, 8 * (at < chunks ? at : 0));
        }
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) {
            lp_i64 at = base + j * blockDim.x + threadIdx.x;
            if (at >= chunks) continue;
            lp_u32 r = chunks >> 31 ? (lp_u32)(at / eights) : (lp_u32)at / eights, c8 = (lp_u32)(at - (lp_i64)r * eights) * 8;
            lp_i64 block = (lp_i64)(r / br) * C + c8;
            float value[8], own[8];
            eight_of(values + block, value);
            eight_of(factors + block, own);
            Eight e = widen(raw[j]);
            Words w = words8(words, at);
            seen.top = lp_umax(seen.top, settled(largest(raw[j])));
            lp_u32 c[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                lp_scale s = {LP_RULE == 2 ? lp_e8m0_code(value[i]) : 0u, value[i], own[i]};
                float u = scaled(e.v[i], element_factor(s));
                lp_u32 a = lp_bits(e.v[i]) & LP_ABS;
                int alive = value[i] == value[i];
                c[i] = alive ? one_code(u, word_at(w, i)) : 0u;
                int zero = (LP_INTEGER ? c[i] : c[i] & ((1u << (LP_BITS - 1)) - 1u)) == 0 || value[i] == 0.0f;
                seen.over += alive && a < LP_INF && fabsf(u) > lp_float(LP_OVER);
                seen.under += alive && a != 0 && zero;
            }
            store8(codes, 8 * at, packed(c));
        }
    }
    flush(seen, counters);
}

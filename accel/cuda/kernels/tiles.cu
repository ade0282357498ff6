/* tiles: elements under a grid of scales that is known (amax.cu and scales_grid before): blocks br x bc, bc and C multiples of 8.
 *
 * Versions: 1. one element a thread, 64-bit divisions (generic.cu: 17 ms for 16 x 16). 2. this one, eight a thread. Macros: elements.cuh. */
#include "elements.cuh"

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) elements(const void *x, lp_u8 *codes, lp_i64 R, lp_i64 C, lp_u32 br, lp_u32 bc, const float *values,
    const float *factors, lp_u64 *counters, LP_WORDS) {
    Address words = LP_ADDRESS;
    Seen seen = {0, 0, 0, 0.0f};
    lp_u32 eights = (lp_u32)(C / 8), wide = (lp_u32)((C + bc - 1) / bc);
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
            lp_i64 block = (lp_i64)(r / br) * wide + c8 / bc;
            float value = values[block];
            lp_scale s = {LP_RULE == 2 ? lp_e8m0_code(value) : 0u, value, factors[block]};
            int dead = s.value != s.value;
            float factor = element_factor(s);
            Eight e = widen(raw[j]);
            lp_u32 top = settled(largest(raw[j]));
            seen.top = lp_umax(seen.top, top);
            int over = may_overflow(top, factor);
            put8(codes, at, e, s, dead, factor, over, words8(words, at), seen);
        }
    }
    flush(seen, counters);
}

/* embed: codes of floats of 4 or 8 bits times their block scales as bfloat16, sixteen neighbours a thread. C is a multiple of 16.
 *
 *   LP_DOWN   0: sixteen neighbours have one scale (blocks of bc columns, a multiple of 16); 1: each has its own (blocks of one column)
 *   br rows share scales. Grid: rows by blocks, sixteens of a row by threads.
 *
 * Versions: 1. eight a thread, values from a table, three divisions a thread (blas.cu): 19 instructions an element, 1.6 TB/s. 2. this one.
 * Macros: embedded.cuh. */
#include "embedded.cuh"

typedef struct __align__(16) { lp_u8 byte[16]; } Bytes;

extern "C" __global__ void __launch_bounds__(256) embed(const lp_u8 *codes, lp_i64 R, lp_i64 C, lp_u32 br, lp_u32 bc, const void *scales, uint4 *out) {
    lp_u32 units = (lp_u32)(C / 16), wide = (lp_u32)C / bc;
    for (lp_u32 r = blockIdx.y * blockDim.y + threadIdx.y; r < (lp_u32)R; r += gridDim.y * blockDim.y) {
        for (lp_u32 u = blockIdx.x * blockDim.x + threadIdx.x; u < units; u += gridDim.x * blockDim.x) {
            lp_i64 at = (lp_i64)r * units + u, row = (lp_i64)(r / br) * wide;
            lp_u32 word[4] = {0, 0, 0, 0};
#if LP_BITS == 4
            uint2 held = ((const uint2 *)codes)[at];
            word[0] = held.x, word[1] = held.y;
#else
            uint4 held = ((const uint4 *)codes)[at];
            word[0] = held.x, word[1] = held.y, word[2] = held.z, word[3] = held.w;
#endif
            uint4 two[2];
#if LP_DOWN
            Bytes own = ((const Bytes *)scales)[row / 16 + u];
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                float low = scale_value(own.byte[2 * i]), high = scale_value(own.byte[2 * i + 1]);
                lp_u32 w = word[2 * i * LP_BITS / 32];
                int place = 2 * i * LP_BITS % 32;
                lp_u32 made = pack(scaled_element(w, place, low), scaled_element(w, place + LP_BITS, high));
                (i < 4 ? &two[0].x : &two[1].x)[i % 4] = settled_pair(made, dead_half(low) | dead_half(high) << 16);
            }
#else
            float scale = scale_value(((const lp_u8 *)scales)[row + u * 16 / bc]);
            lp_u32 dead = dead_half(scale) * 0x10001u;
            two[0] = embedded8(word[0], LP_BITS == 8 ? word[1] : 0u, scale, dead);
            two[1] = embedded8(word[LP_BITS == 8 ? 2 : 1], LP_BITS == 8 ? word[3] : 0u, scale, dead);
#endif
            out[2 * at] = two[0];
            out[2 * at + 1] = two[1];
        }
    }
}

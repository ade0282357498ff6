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
            lp_u32 w[8];
#if LP_DOWN
            Bytes own = ((const Bytes *)scales)[row / 16 + u];
            Pair p[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) p[i] = pair_of(scale_value(own.byte[2 * i]), scale_value(own.byte[2 * i + 1]));
#else
            float scale = scale_value(((const lp_u8 *)scales)[row + u * 16 / bc]);
            Pair p[1] = {pair_of(scale, scale)};
#endif
#pragma unroll
            for (int i = 0; i < LP_BITS / 2; ++i) embedded_word(w + i * PAIRS, word[i], p + LP_DOWN * i * PAIRS, LP_DOWN);
            uint4 two[2] = {{w[0], w[1], w[2], w[3]}, {w[4], w[5], w[6], w[7]}};
            out[2 * at] = two[0];
            out[2 * at + 1] = two[1];
        }
    }
}

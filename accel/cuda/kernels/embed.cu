/* embed: codes of floats of 4 or 8 bits times their block scales as bfloat16, eight neighbours of LP_EACH rows a thread. C is a multiple of 16, R of LP_EACH.
 *
 *   LP_DOWN   0: eight neighbours have one scale (blocks of bc columns, a multiple of 16); 1: each has its own (blocks of one column), for br rows, a
 *             multiple of LP_EACH
 *
 * Versions: 1. eight a thread, values from a table, three divisions a thread (blas.cu): 19 instructions an element, 1.6 TB/s. 2. sixteen a thread of one
 * row: 2.4 TB/s, its loads too few and its scales unpacked for every row. 3. this one. Macros: embedded.cuh. */
#include "embedded.cuh"

typedef struct __align__(LP_BITS) { lp_u32 word[LP_BITS / 4]; } Held;
typedef struct __align__(8) { lp_u8 byte[8]; } Bytes;

extern "C" __global__ void __launch_bounds__(256) embed(const Held *codes, lp_i64 R, lp_i64 C, lp_u32 br, lp_u32 bc, const lp_u8 *scales, uint4 *out) {
    const lp_u32 eights = (lp_u32)(C / 8), wide = (lp_u32)C / bc;
    const lp_i64 n = R / LP_EACH * eights;
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (lp_i64)gridDim.x * blockDim.x) {
        lp_u32 group = n >> 32 ? (lp_u32)(i / eights) : (lp_u32)i / eights, u = (lp_u32)(i - (lp_i64)group * eights), row = group * LP_EACH;
        lp_i64 at = (lp_i64)row * eights + u;
        Held held[LP_EACH];
#pragma unroll
        for (int j = 0; j < LP_EACH; ++j) held[j] = codes[at + (lp_i64)j * eights];
#if LP_DOWN
        Bytes own = ((const Bytes *)scales)[(lp_i64)(row / br) * eights + u];
        Pair p[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) p[j] = pair_of(scale_value(own.byte[2 * j]), scale_value(own.byte[2 * j + 1]));
#endif
#pragma unroll
        for (int j = 0; j < LP_EACH; ++j) {
#if !LP_DOWN
            float scale = scale_value(scales[(lp_i64)((row + j) / br) * wide + u * 8 / bc]);
            Pair p[1] = {pair_of(scale, scale)};
#endif
            lp_u32 w[4];
#pragma unroll
            for (int k = 0; k < LP_BITS / 4; ++k) embedded_word(w + k * PAIRS, held[j].word[k], p + LP_DOWN * k * PAIRS, LP_DOWN);
            uint4 eight = {w[0], w[1], w[2], w[3]};
            out[at + (lp_i64)j * eights] = eight;
        }
    }
}

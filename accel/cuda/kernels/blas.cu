/* blas: what stands around a product by cuBLAS: operands in bfloat16, the product's factor, and scales of rows and columns afterwards. */
#include "stored.cuh"

#ifdef LP_BITS
/* Codes of 4 or 8 bits times their block scales (null: none; stored.cuh) as bfloat16, which holds them: eight neighbours a thread, one store.
 * C is a multiple of 8.
 * Versions: 1. one element a thread (generic.cu's dequantize): 0.45 ms for 63 M FP4 elements of an H200. 2. this one. */
extern "C" __global__ void __launch_bounds__(256) embed(const void *codes, lp_i64 R, lp_i64 C, lp_i64 br, lp_i64 bc, const float *table, const void *scales,
                                                        const float *scale_table, uint4 *out) {
    __shared__ float values[1 << LP_BITS];
    for (int i = threadIdx.x; i < 1 << LP_BITS; i += blockDim.x) values[i] = table[i];
    __syncthreads();
    lp_i64 wide = (C + bc - 1) / bc, eights = C / 8, n = R * eights;
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (lp_i64)gridDim.x * blockDim.x) {
        lp_i64 r = n >> 31 ? i / eights : (lp_i64)((lp_u32)i / (lp_u32)eights), c = (i - r * eights) * 8;
#if LP_BITS == 4
        lp_u64 eight = ((const lp_u32 *)codes)[i];
#else
        lp_u64 eight = ((const lp_u64 *)codes)[i];
#endif
        lp_i64 row = (lp_u32)r / (lp_u32)br * wide;
        float one = scales && bc % 8 == 0 ? stored(scales, scale_table, row + (lp_u32)c / (lp_u32)bc) : 1.0f;
        lp_u32 word[4];
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            float s = scales && bc % 8 ? stored(scales, scale_table, row + (lp_u32)(c + j) / (lp_u32)bc) : one, v = lp_mul(values[(eight >> (LP_BITS * j)) & ((1u << LP_BITS) - 1u)], s);
            lp_u32 bits = lp_bits(v), half = v != v ? 0x7FC0u : (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
            word[j / 2] = j % 2 ? word[j / 2] | half << 16 : half;
        }
        uint4 store = {word[0], word[1], word[2], word[3]};
        out[i] = store;
    }
}
#endif

/* out = {fl32 of the four factors' product, 0}: alpha and beta. Missing ones (null) are 1. */
extern "C" __global__ void alpha(const float *a, const float *b, const float *c, const float *d, float *out) {
    out[0] = lp_mul(lp_mul(a ? *a : 1.0f, b ? *b : 1.0f), lp_mul(c ? *c : 1.0f, d ? *d : 1.0f));
    out[1] = 0.0f;
}

/* c [M, N] <- c (row x column); a scale serves `a_other` rows (`b_other` columns); null: 1. Grid: rows by blocks, columns by threads. */
extern "C" __global__ void __launch_bounds__(256) scale(float *c, lp_i64 M, lp_u32 N, const float *row, lp_u32 a_other, const float *column, lp_u32 b_other) {
    for (lp_i64 m = (lp_i64)blockIdx.y * blockDim.y + threadIdx.y; m < M; m += (lp_i64)gridDim.y * blockDim.y) {
        float r = row ? row[(lp_u32)m / a_other] : 1.0f;
        for (lp_u32 n = blockIdx.x * blockDim.x + threadIdx.x; n < N; n += gridDim.x * blockDim.x) {
            float s = column ? column[b_other == 1 ? n : n / b_other] : 1.0f;
            c[m * N + n] = lp_mul(c[m * N + n], lp_mul(r, s));
        }
    }
}

/* blas: what stands around a product by cuBLASLt: operands in bfloat16, codes and scales where it reads them, the product's factor, scales afterwards. */
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

/* out [C, R] <- in [R, C] turned, bytes; R and C are multiples of 4. Tiles of 128 x 128: a thread turns 4 x 4 bytes in registers. Grid: tiles along C, R. */
extern "C" __global__ void __launch_bounds__(256) turn(const lp_u8 *in, int R, int C, lp_u8 *out) {
    __shared__ lp_u32 held[128][33];
    int x = (int)threadIdx.x, c0 = (int)blockIdx.x * 128, r0 = (int)blockIdx.y * 128;
    for (int y = (int)threadIdx.y; y < 32; y += 8) {
        lp_u32 w[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) w[i] = r0 + 4 * y + i < R && c0 + 4 * x < C ? *(const lp_u32 *)(in + (lp_i64)(r0 + 4 * y + i) * C + c0 + 4 * x) : 0u;
        lp_u32 even = 0x00FF00FFu, odd = 0xFF00FF00u, low = 0x0000FFFFu, high = 0xFFFF0000u;
        lp_u32 a = (w[0] & even) | (w[1] & even) << 8, b = (w[0] & odd) >> 8 | (w[1] & odd);
        lp_u32 c = (w[2] & even) | (w[3] & even) << 8, d = (w[2] & odd) >> 8 | (w[3] & odd);
        held[4 * x][y] = (a & low) | c << 16;
        held[4 * x + 1][y] = (b & low) | d << 16;
        held[4 * x + 2][y] = a >> 16 | (c & high);
        held[4 * x + 3][y] = b >> 16 | (d & high);
    }
    __syncthreads();
    for (int c = (int)threadIdx.y; c < 128; c += 8)
        if (c0 + c < C && r0 + 4 * x < R) *(lp_u32 *)(out + (lp_i64)(c0 + c) * R + r0 + 4 * x) = held[c][x];
}

/* out [rows, pitch] <- in[i div each_row * row + j div each_column * column], 0 for j >= columns: scales where cuBLASLt looks for them. */
extern "C" __global__ void __launch_bounds__(256) spread(const lp_u32 *in, int rows, int columns, int pitch, int row, int column, int each_row, int each_column,
                                                         lp_u32 *out) {
    for (int at = (int)(blockIdx.x * blockDim.x + threadIdx.x); at < rows * pitch; at += (int)(gridDim.x * blockDim.x)) {
        int i = at / pitch, j = at % pitch;
        out[at] = j < columns ? in[(lp_i64)(i / each_row) * row + (lp_i64)(j / each_column) * column] : 0u;
    }
}

#ifdef LP_INTEGERS
/* c [M, N] <- (c (row x column)) (a_tensor b_tensor), each product rounded; a scale serves `a_other` rows (`b_other` columns); null: 1. LP_INTEGERS: c holds
 * int32, converted first. Four columns a thread; grid: rows by blocks, columns by threads. */
extern "C" __global__ void __launch_bounds__(256) finish(float *c, lp_i64 M, lp_u32 N, const float *row, lp_u32 a_other, const float *column, lp_u32 b_other,
                                                         const float *a_tensor, const float *b_tensor) {
    float tensors = lp_mul(a_tensor ? *a_tensor : 1.0f, b_tensor ? *b_tensor : 1.0f);
    for (lp_i64 m = (lp_i64)blockIdx.y * blockDim.y + threadIdx.y; m < M; m += (lp_i64)gridDim.y * blockDim.y) {
        float r = row ? row[(lp_u32)m / a_other] : 1.0f;
        for (lp_u32 n = 4 * (blockIdx.x * blockDim.x + threadIdx.x); n < N; n += 4 * gridDim.x * blockDim.x) {
            lp_u32 *place = (lp_u32 *)c + m * N + n, word[4];
            lp_u32 left = N - n;
            if (N % 4 == 0) {
                uint4 four = *(const uint4 *)place;
                word[0] = four.x, word[1] = four.y, word[2] = four.z, word[3] = four.w;
            } else {
#pragma unroll
                for (lp_u32 j = 0; j < 4; ++j) word[j] = j < left ? place[j] : 0u;
            }
#pragma unroll
            for (lp_u32 j = 0; j < 4; ++j) {
                lp_u32 at = n + j < N ? n + j : N - 1;
                float s = column ? column[b_other == 1 ? at : at / b_other] : 1.0f, v = LP_INTEGERS ? (float)(int)word[j] : lp_float(word[j]);
                word[j] = lp_bits(lp_mul(lp_mul(v, lp_mul(r, s)), tensors));
            }
            if (N % 4 == 0) {
                uint4 four = {word[0], word[1], word[2], word[3]};
                *(uint4 *)place = four;
            } else {
#pragma unroll
                for (lp_u32 j = 0; j < 4; ++j)
                    if (j < left) place[j] = word[j];
            }
        }
    }
}
#endif

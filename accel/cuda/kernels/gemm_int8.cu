/* gemm_int8: the products of gemm.cu for elements that are whole numbers of at most 8 bits in units of a power of two (FP4, E2M3, integers), by the
 * integer units of the tensor cores, whose sums are exact in any order: 16 or 32 products of 16 x 8 outputs an instruction.
 *
 * `prepare` writes an operand as int8 [other, K] (K padded with zeros to whole steps of 64) and its block scales as [pieces, other]. `gemm` makes tiles of
 * 128 x 64: eight warps of 32 x 32, K in steps of 64 through two buffers in shared memory (rows of 80 bytes: the fragments' 32 words lie in 32 banks).
 * Pieces of K are LP_PIECE long (16, 32, 64, 128; 0: all of K). A piece's sum n begins at the bits of 1.5 2^(23 + q), 2^q the product of the units: as a
 * float32 it is 1.5 2^(23 + q) + n 2^q, so that one subtraction gives the exact n 2^q (|n| < 2^22). All of K: one conversion, rounded once.
 * Versions: 1. float64 multiply-adds (gemm.cu): 9.1 ms for NVFP4 16384 x 3072 x 768 on an H200. 2. this one. */
#include "mma.cuh"
#include "stored.cuh"

#define STEP 64
#define PITCH 80
#define BM 128
#define BN 64
#define HELD (LP_PIECE == 0 || LP_PIECE >= STEP ? 1 : STEP / LP_PIECE) /* pieces of a step */

/* Code (r, c); bits 1, 2, 4, 6: packed along rows of `pitch` bytes. */
LPREF_FN lp_u32 code_of(const lp_u8 *codes, lp_i64 r, lp_i64 c, lp_i64 pitch, int bits) {
    if (bits == 8) return codes[r * pitch + c];
    lp_i64 bit = c * bits, at = bit >> 3;
    lp_u32 two = codes[r * pitch + at] | (at + 1 < pitch ? (lp_u32)codes[r * pitch + at + 1] << 8 : 0u);
    return (two >> (bit & 7)) & ((1u << bits) - 1u);
}

/* codes [other, K], or [K, other] where rows_are_k; whole: int8 by code. out [other, padded]; spread [pieces, other] from the grid of scales (stored.cuh; null: none is made) */
extern "C" __global__ void __launch_bounds__(256) prepare(const lp_u8 *codes, lp_i64 pitch, int bits, const signed char *whole, int rows_are_k, int other, int K,
    int padded, signed char *out, const void *scales, const float *scale_table, lp_i64 s_outer, lp_i64 s_inner, int s_other, int pieces, float *spread) {
    __shared__ signed char value[256];
    __shared__ signed char turned[32][36];
    for (int i = threadIdx.x; i < 1 << bits; i += blockDim.x) value[i] = whole[i];
    __syncthreads();
    int x = (int)threadIdx.x % 32, y = (int)threadIdx.x / 32, wide = padded / 32, tiles = (other + 31) / 32 * wide;
    for (int tile = (int)blockIdx.x; tile < tiles; tile += (int)gridDim.x) {
        int o0 = tile / wide * 32, k0 = tile % wide * 32;
        if (rows_are_k) { /* read along `other`, written along k */
            for (int i = y; i < 32; i += 8) turned[x][i] = k0 + i < K && o0 + x < other ? value[code_of(codes, k0 + i, o0 + x, pitch, bits)] : (signed char)0;
            __syncthreads();
            for (int i = y; i < 32; i += 8)
                if (o0 + i < other) out[(lp_i64)(o0 + i) * padded + k0 + x] = turned[i][x];
            __syncthreads();
        } else {
            for (int i = y; i < 32; i += 8)
                if (o0 + i < other) out[(lp_i64)(o0 + i) * padded + k0 + x] = k0 + x < K ? value[code_of(codes, o0 + i, k0 + x, pitch, bits)] : (signed char)0;
        }
    }
    if (!spread) return;
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < (lp_i64)pieces * other; i += (lp_i64)gridDim.x * blockDim.x)
        spread[i] = stored(scales, scale_table, i % other / s_other * s_outer + i / other * s_inner);
}

#ifdef LP_PIECE
struct Step {
    lp_16 a[2], b;
    float sa[HELD * BM / 256 ? HELD * BM / 256 : 1], sb[HELD * BN / 256 ? HELD * BN / 256 : 1];
};

/* Threads' shares of the step at k0: 16 bytes of rows, and the scales of its pieces (1 where there are none) */
LPREF_FN void fetch(Step &s, const signed char *A, const signed char *B, const float *a_scale, const float *b_scale, int m0, int n0, int M, int N, int padded, int pieces, int k0) {
    int t = (int)threadIdx.x, row = t / 4, byte = t % 4 * 16;
    lp_16 none = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 2; ++i) s.a[i] = m0 + row + 64 * i < M ? *(const lp_16 *)(A + (lp_i64)(m0 + row + 64 * i) * padded + k0 + byte) : none;
    s.b = n0 + row < N ? *(const lp_16 *)(B + (lp_i64)(n0 + row) * padded + k0 + byte) : none;
#if LP_PIECE
    int first = k0 / LP_PIECE;
#pragma unroll
    for (int i = 0; i * 256 < HELD * BM; ++i) {
        int at = t + 256 * i, p = first + at / BM, m = m0 + at % BM;
        s.sa[i] = a_scale && at < HELD * BM && p < pieces && m < M ? a_scale[(lp_i64)p * M + m] : 1.0f;
    }
#pragma unroll
    for (int i = 0; i * 256 < HELD * BN; ++i) {
        int at = t + 256 * i, p = first + at / BN, n = n0 + at % BN;
        s.sb[i] = b_scale && at < HELD * BN && p < pieces && n < N ? b_scale[(lp_i64)p * N + n] : 1.0f;
    }
#endif
}

/* row, column: scales that are constant along k (null: none), one for `a_other` (`b_other`) elements. unit: 2^q. */
extern "C" __global__ void __launch_bounds__(256, 2) gemm(const signed char *A, const float *a_scale, const float *row, lp_i64 a_outer, int a_other, const float *a_tensor,
    const signed char *B, const float *b_scale, const float *column, lp_i64 b_outer, int b_other, const float *b_tensor, float *C, int M, int N, int padded, int pieces,
    float unit) {
    __shared__ __align__(16) lp_u8 sa[2][BM][PITCH], sb[2][BN][PITCH];
    __shared__ __align__(16) float scale_a[2][HELD][BM], scale_b[2][HELD][BN];
    int wide = (N + BN - 1) / BN, m0 = (int)blockIdx.x / wide * BM, n0 = (int)blockIdx.x % wide * BN;
    int t = (int)threadIdx.x, lane = t % 32, g = lane / 4, q = lane % 4, wm = t / 32 % 4 * 32, wn = t / 128 * 32;
    float big = lp_mul(12582912.0f, unit), total[2][4][4];
    int zero = LP_PIECE ? (int)lp_bits(big) : 0, sum[2][4][4];
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                total[i][j][c] = 0.0f;
                sum[i][j][c] = zero;
            }
    Step held;
    fetch(held, A, B, a_scale, b_scale, m0, n0, M, N, padded, pieces, 0);
    for (int k0 = 0, turn = 0; k0 < padded; k0 += STEP, turn ^= 1) {
#pragma unroll
        for (int i = 0; i < 2; ++i) *(lp_16 *)&sa[turn][t / 4 + 64 * i][t % 4 * 16] = held.a[i];
        *(lp_16 *)&sb[turn][t / 4][t % 4 * 16] = held.b;
#if LP_PIECE
#pragma unroll
        for (int i = 0; i * 256 < HELD * BM; ++i)
            if (t + 256 * i < HELD * BM) (&scale_a[turn][0][0])[t + 256 * i] = held.sa[i];
#pragma unroll
        for (int i = 0; i * 256 < HELD * BN; ++i)
            if (t + 256 * i < HELD * BN) (&scale_b[turn][0][0])[t + 256 * i] = held.sb[i];
#endif
        __syncthreads(); /* one a step: the other buffer is read by nobody who has not passed the step before */
        if (k0 + STEP < padded) fetch(held, A, B, a_scale, b_scale, m0, n0, M, N, padded, pieces, k0 + STEP);
#pragma unroll
        for (int k = 0; k < STEP; k += WIDE) {
            lp_u32 fa[2][WIDE / 8], fb[4][WIDE / 16];
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int w = 0; w < WIDE / 8; ++w) fa[i][w] = *(const lp_u32 *)&sa[turn][wm + 16 * i + g + 8 * (w & 1)][k + 4 * q + 16 * (w >> 1)];
#pragma unroll
            for (int j = 0; j < 4; ++j)
#pragma unroll
                for (int w = 0; w < WIDE / 16; ++w) fb[j][w] = *(const lp_u32 *)&sb[turn][wn + 8 * j + g][k + 4 * q + 16 * w];
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) multiply(sum[i][j], fa[i], fb[j]);
#if LP_PIECE
            if ((k0 + k + WIDE) % LP_PIECE == 0 && (k0 + k) / LP_PIECE < pieces) {
                int p = LP_PIECE >= STEP ? 0 : k / LP_PIECE;
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    float upper = scale_a[turn][p][wm + 16 * i + g], lower = scale_a[turn][p][wm + 16 * i + g + 8];
#pragma unroll
                    for (int j = 0; j < 4; ++j) {
                        float left = scale_b[turn][p][wn + 8 * j + 2 * q], right = scale_b[turn][p][wn + 8 * j + 2 * q + 1];
#pragma unroll
                        for (int c = 0; c < 4; ++c) {
                            float v = lp_sub(lp_float((lp_u32)sum[i][j][c]), big), s = lp_mul(c < 2 ? upper : lower, c % 2 ? right : left);
                            total[i][j][c] = lp_add(total[i][j][c], lp_mul(v, s));
                            sum[i][j][c] = zero;
                        }
                    }
                }
            }
#endif
        }
    }
    float tensors = lp_mul(a_tensor ? *a_tensor : 1.0f, b_tensor ? *b_tensor : 1.0f);
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                int m = m0 + wm + 16 * i + g + (c < 2 ? 0 : 8), n = n0 + wn + 8 * j + 2 * q + c % 2;
                if (m >= M || n >= N) continue;
                float v = LP_PIECE ? total[i][j][c] : lp_mul((float)sum[i][j][c], unit);
                float r = row ? row[m / a_other * a_outer] : 1.0f, s = column ? column[n / b_other * b_outer] : 1.0f;
                C[(lp_i64)m * N + n] = lp_mul(lp_mul(v, lp_mul(r, s)), tensors);
            }
}
#endif

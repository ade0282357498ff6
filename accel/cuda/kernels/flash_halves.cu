/* flash_halves: heads for fused attention in planes of bfloat16 (heads.cuh), made once: queries and keys, rotated where LP_TURN (lpref.ref.nn.rope), and
 * values, where any are wanted.
 *
 * A row of y is LP_D numbers to nearest even, then, where LP_PLANES is 2, what is left of each. y [B, T, heads, LP_PLANES LP_D]: queries' heads, keys',
 * values'. A thread takes eight numbers of the first half of a row and those of the second, which rotate together. LP_SIXTEEN: of bfloat16, not of
 * float32. LP_VEC 1: sources are not at multiples of 16 bytes. Versions: 1. this one. Attention's blocks, which rotated and halved their tiles
 * themselves, took twice as long as those that need not. */
#include "bf16.cuh"
#include "reduce.cuh"

#define HALF (LP_D / 2)
#define PIECES (HALF / 8) /* of a row */

#if LP_SIXTEEN
typedef lp_u16 Number;
LPREF_FN float number_of(lp_u16 x) { return lp_float((lp_u32)x << 16); }
#else
typedef float Number;
LPREF_FN float number_of(float x) { return x; }
#endif

LPREF_FN void eight(float (&to)[8], const Number *from) {
#if LP_VEC == 1
#pragma unroll
    for (int i = 0; i < 8; ++i) to[i] = number_of(from[i]);
#elif LP_SIXTEEN
    lp_16 v = *(const lp_16 *)from;
    to[0] = low(v.x), to[1] = high(v.x), to[2] = low(v.y), to[3] = high(v.y);
    to[4] = low(v.z), to[5] = high(v.z), to[6] = low(v.w), to[7] = high(v.w);
#else
    lp_f4 a = *(const lp_f4 *)from, b = *(const lp_f4 *)(from + 4);
    to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
    to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
#endif
}

LPREF_FN void put(lp_u16 *to, const float (&x)[8]) {
    lp_u32 h[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) h[i] = pack(x[2 * i], x[2 * i + 1]);
    *(lp_16 *)to = lp_16{h[0], h[1], h[2], h[3]};
    if (LP_PLANES == 1) return;
#pragma unroll
    for (int i = 0; i < 4; ++i) h[i] = rest(x[2 * i], x[2 * i + 1], h[i]);
    *(lp_16 *)(to + LP_D) = lp_16{h[0], h[1], h[2], h[3]};
}

/* n: pieces of all rows; q [B, H, T, LP_D], k and v [B, G, T, LP_D] by their strides of batch, head and row, of v V heads or none; tables
 * [T, LP_D / 2] */
extern "C" __global__ void __launch_bounds__(256) halves(const Number *q, lp_i64 qb, lp_i64 qh, lp_i64 qt, const Number *k, lp_i64 kb, lp_i64 kh, lp_i64 kt,
                                                         const Number *v, lp_i64 vb, lp_i64 vh, lp_i64 vt, lp_i64 n, int H, int G, int V, int T, const float *cos,
                                                         const float *sin, lp_u16 *y) {
    int heads = H + G + V;
    LP_EACH(i, n) {
        lp_i64 row = i / PIECES, of = n >> 31 ? row / heads : (lp_i64)((lp_u32)row / (lp_u32)heads); /* of: batch and position */
        int head = (int)(row - of * heads), t = (int)(n >> 31 ? of % T : (lp_i64)((lp_u32)of % (lp_u32)T)), at = (int)(i % PIECES) * 8;
        lp_i64 b = (of - t) / T;
        const Number *from = head < H ? q + b * qb + head * qh + t * qt : head < H + G ? k + b * kb + (head - H) * kh + t * kt : v + b * vb + (head - H - G) * vh + t * vt;
        float x[8], z[8];
        eight(x, from + at);
        eight(z, from + at + HALF);
        if (LP_TURN && head < H + G) {
            const float *c = cos + (lp_i64)t * HALF + at, *s = sin + (lp_i64)t * HALF + at;
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                float a = x[j];
                x[j] = lp_sub(lp_mul(a, c[j]), lp_mul(z[j], s[j]));
                z[j] = lp_add(lp_mul(z[j], c[j]), lp_mul(a, s[j]));
            }
        }
        lp_u16 *to = y + row * (LP_PLANES * LP_D) + at;
        put(to, x);
        put(to + HALF, z);
    }
}

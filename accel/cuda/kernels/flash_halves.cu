/* flash_halves: queries and keys of bfloat16 rotated for fused attention (lpref.ref.nn.rope), once, in planes of bfloat16 (heads.cuh).
 *
 * A row of y is LP_D numbers to nearest even, then, where LP_PLANES is 2, what is left of each. y [B, T, heads, LP_PLANES LP_D]: queries' heads, then
 * keys'. A thread takes eight numbers of the first half of a row and their partners in the second. LP_VEC 8: sources at multiples of 16 bytes.
 * Versions: 1. this one. Attention's blocks, which rotated and halved their tiles themselves, took twice as long as those that need not. */
#include "bf16.cuh"
#include "reduce.cuh"

#define HALF (LP_D / 2)
#define PIECES (HALF / 8) /* of a row */

LPREF_FN void eight(float (&to)[8], const lp_u16 *from) {
#if LP_VEC == 8
    lp_16 v = *(const lp_16 *)from;
    to[0] = low(v.x), to[1] = high(v.x), to[2] = low(v.y), to[3] = high(v.y);
    to[4] = low(v.z), to[5] = high(v.z), to[6] = low(v.w), to[7] = high(v.w);
#else
#pragma unroll
    for (int i = 0; i < 8; ++i) to[i] = low(from[i]);
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

/* n: pieces of all rows of the heads first ... all - 1, of which H are queries'; q and k [B, heads, T, LP_D] by their strides of batch, head and row;
 * tables [T, LP_D / 2] */
extern "C" __global__ void __launch_bounds__(256) halves(const lp_u16 *q, lp_i64 qb, lp_i64 qh, lp_i64 qt, const lp_u16 *k, lp_i64 kb, lp_i64 kh, lp_i64 kt,
                                                         lp_i64 n, int first, int H, int all, int T, const float *cos, const float *sin, lp_u16 *y) {
    int heads = all - first;
    LP_EACH(i, n) {
        lp_i64 row = i / PIECES, of = n >> 31 ? row / heads : (lp_i64)((lp_u32)row / (lp_u32)heads); /* of: batch and position */
        int head = first + (int)(row - of * heads), t = (int)(n >> 31 ? of % T : (lp_i64)((lp_u32)of % (lp_u32)T)), at = (int)(i % PIECES) * 8;
        lp_i64 b = (of - t) / T;
        const lp_u16 *from = (head < H ? q + b * qb + head * qh + t * qt : k + b * kb + (head - H) * kh + t * kt) + at;
        const float *c = cos + (lp_i64)t * HALF + at, *s = sin + (lp_i64)t * HALF + at;
        float x[8], z[8];
        eight(x, from);
        eight(z, from + HALF);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            float a = x[j];
            x[j] = lp_sub(lp_mul(a, c[j]), lp_mul(z[j], s[j]));
            z[j] = lp_add(lp_mul(z[j], c[j]), lp_mul(a, s[j]));
        }
        lp_u16 *to = y + (of * all + head) * (LP_PLANES * LP_D) + at;
        put(to, x);
        put(to + HALF, z);
    }
}

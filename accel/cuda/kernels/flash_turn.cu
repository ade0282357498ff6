/* flash_turn: queries and keys of bfloat16 rotated once for fused attention (lpref.ref.nn.rope), into planes of bfloat16 (heads.cuh).
 *
 * A row of y is LP_D numbers to nearest even, then, where LP_PLANES is 2, what is left of each. y [B, T, H + G, LP_PLANES LP_D]: queries' heads, then
 * keys'. A thread takes eight numbers of the first half of a row and their partners in the second. LP_VEC 8: sources at multiples of 16 bytes.
 * Versions: 1. this one: attention's blocks, which rotated and halved their tiles themselves, took twice as long as without rotation. */
#include "bf16.cuh"
#include "reduce.cuh"

#define HALF (LP_D / 2)
#define PIECES (HALF / 8) /* of a row */

LPREF_FN void eight(lp_u32 (&to)[4], const lp_u16 *from) {
#if LP_VEC == 8
    lp_16 v = *(const lp_16 *)from;
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
#else
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = from[2 * i] | (lp_u32)from[2 * i + 1] << 16;
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

/* n: pieces of all rows; q [B, H, T, LP_D] and k [B, G, T, LP_D] by their strides of batch, head and row; tables [T, LP_D / 2] */
extern "C" __global__ void __launch_bounds__(256) rotate(const lp_u16 *q, lp_i64 qb, lp_i64 qh, lp_i64 qt, const lp_u16 *k, lp_i64 kb, lp_i64 kh, lp_i64 kt, lp_i64 n,
                                                         int H, int G, int T, const float *cos, const float *sin, lp_u16 *y) {
    LP_EACH(i, n) {
        lp_i64 row = i / PIECES, of = n >> 31 ? row / (H + G) : (lp_i64)((lp_u32)row / (lp_u32)(H + G)); /* of: batch and position */
        int head = (int)(row - of * (H + G)), t = (int)(n >> 31 ? of % T : (lp_i64)((lp_u32)of % (lp_u32)T)), at = (int)(i % PIECES) * 8;
        lp_i64 b = (of - t) / T;
        const lp_u16 *from = (head < H ? q + b * qb + head * qh + t * qt : k + b * kb + (head - H) * kh + t * kt) + at;
        const float *c = cos + (lp_i64)t * HALF + at, *s = sin + (lp_i64)t * HALF + at;
        lp_u32 first[4], second[4];
        eight(first, from);
        eight(second, from + HALF);
        float y0[8], y1[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            float x = j % 2 ? high(first[j / 2]) : low(first[j / 2]), z = j % 2 ? high(second[j / 2]) : low(second[j / 2]);
            y0[j] = lp_sub(lp_mul(x, c[j]), lp_mul(z, s[j]));
            y1[j] = lp_add(lp_mul(z, c[j]), lp_mul(x, s[j]));
        }
        lp_u16 *to = y + row * (LP_PLANES * LP_D) + at;
        put(to, y0);
        put(to + HALF, y1);
    }
}

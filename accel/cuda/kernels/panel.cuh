/* A panel: LP_K rows by 64 columns of x, one to a warp; a thread has two columns of it in registers, so that a transform along the rows and the blocks of a
 * column are its own affair. R is a multiple of LP_K, C of 16; threads beyond C have zeros.
 *
 *   LP_FROM   what x holds (LP_IN of source.cuh: 0 float32, 1 bfloat16, 2 binary16); what is quantized is float32
 *   LP_K      rows of a panel, 16 or 32
 *   LP_SIZE   the Hadamard transform's size, a divisor of LP_K; 0: none */
#include "butterflies.cuh"

#define WIDE 64
#define PER_LOAD (LP_FROM ? 8 : 4) /* elements of 16 bytes */

/* float32 of 16 bits of x */
LPREF_FN float widened_half(lp_u32 half) {
#if LP_FROM == 2
    return of_half(half);
#else
    return lp_float(half << 16);
#endif
}

/* Where panel number p begins. */
struct Corner {
    lp_i64 row;
    lp_u32 column;
};
LPREF_FN Corner corner_of(lp_u32 p, lp_u32 across) {
    lp_u32 down = p / across;
    Corner c = {(lp_i64)down * LP_K, (p - down * across) * WIDE};
    return c;
}

struct Columns {
    float v[2][LP_K];
};

/* Two neighbouring columns; at: of the first element. */
LPREF_FN void load_columns(Columns &t, const void *x, lp_i64 at, lp_i64 C, int live) {
#pragma unroll
    for (int i = 0; i < LP_K; ++i) {
        t.v[0][i] = t.v[1][i] = 0.0f;
        if (live) {
#if LP_FROM
            lp_u32 pair = *(const lp_u32 *)((const lp_u16 *)x + at + i * C);
            t.v[0][i] = widened_half(pair & 0xFFFFu);
            t.v[1][i] = widened_half(pair >> 16);
#else
            lp_f2 pair = *(const lp_f2 *)((const float *)x + at + i * C);
            t.v[0][i] = pair.x;
            t.v[1][i] = pair.y;
#endif
        }
    }
}

/* signs: LP_SIZE of them, or one for each row of x (`count`); null: none. row: the panel's first. */
LPREF_FN void turn_columns(Columns &t, const float *signs, lp_i64 count, lp_i64 row, float factor) {
#if LP_SIZE
    if (signs) {
        const float *s = signs + (count == LP_SIZE ? 0 : row);
#pragma unroll
        for (int i = 0; i < LP_K; ++i) {
            float sign = s[count == LP_SIZE ? i % LP_SIZE : i];
            t.v[0][i] = lp_mul(t.v[0][i], sign);
            t.v[1][i] = lp_mul(t.v[1][i], sign);
        }
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) {
#pragma unroll
        for (int i = 0; i < LP_K; i += LP_SIZE) butterflies<LP_SIZE>(t.v[e] + i);
#pragma unroll
        for (int i = 0; i < LP_K; ++i) t.v[e][i] = lp_mul(t.v[e][i], factor);
    }
#endif
}

LPREF_FN lp_u32 largest_column(const float *v) {
    lp_u32 top = 0;
#pragma unroll
    for (int i = 0; i < LP_K; ++i) top = lp_umax(top, lp_bits(v[i]) & LP_ABS);
    return top;
}

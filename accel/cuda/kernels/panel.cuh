/* A panel: LP_K rows by 64 columns of x, one to a warp; a thread has two columns of it in registers, so that a transform along the rows and the blocks of a
 * column are its own affair. R is a multiple of LP_K, C of 16; threads beyond C have zeros.
 *
 *   LP_FROM   what x holds (LP_IN of source.cuh: 0 float32, 1 bfloat16, 2 binary16); what is quantized is float32
 *   LP_K      rows of a panel, 16 or 32
 *   LP_SIZE   the Hadamard transform's size, a divisor of LP_K; 0: none */
#include "butterflies.cuh"

#define WIDE 64
#define JOINED (LP_THREADS / 32 * (WIDE / LP_K)) /* scales of a row in the panels of a block of threads */

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

/* Where panel number p + stride begins, when p begins at c; by: corner_of(stride). */
LPREF_FN Corner further(Corner c, const Corner &by, lp_u32 across) {
    c.row += by.row;
    c.column += by.column;
    if (c.column >= across * WIDE) {
        c.column -= across * WIDE;
        c.row += LP_K;
    }
    return c;
}

struct Columns {
    float v[2][LP_K];
};

/* The signs of a panel's rows, beginning at `row`, as they turn the sign bits of a pair of 16 bits each. signs: LP_SIZE of them, or one for each row of x
 * (`count`); null: none. */
LPREF_FN void flip(lp_u32 *flips, const float *signs, lp_i64 count, lp_i64 row) {
#if LP_SIZE
    lp_u32 lane = threadIdx.x % 32;
    __syncwarp(); /* the panel before has been read */
    if (lane < LP_K) flips[lane] = signs && lp_bits(signs[count == LP_SIZE ? lane % LP_SIZE : row + lane]) >> 31 ? 0x80008000u : 0u;
    __syncwarp();
#endif
}

LPREF_FN lp_u32 largest_column(const float *v) {
    lp_u32 top = 0;
#pragma unroll
    for (int i = 0; i < LP_K; i += 2) top = lp_farther(top, lp_farther(lp_bits(v[i]), lp_bits(v[i + 1])));
    return top;
}

/* The transform of a column whose signs are turned, before its factor; the largest magnitude bits (NaN wins). Of the last stride the larger of |a + b| and
 * |a - b| is fl(|a| + |b|), since rounding is monotone; infinities, whose difference is NaN, are looked at. */
LPREF_FN lp_u32 turn_column(float *v) {
    const int half = LP_SIZE / 2;
    lp_u32 top = 0;
#pragma unroll
    for (int i = 0; i < LP_K; i += LP_SIZE) {
        butterflies<LP_SIZE, 1, half>(v + i);
#pragma unroll
        for (int j = i; j < i + half; ++j) top = lp_umax(top, lp_bits(lp_add(fabsf(v[j]), fabsf(v[j + half]))));
        butterflies<LP_SIZE, half>(v + i);
    }
    return top >= LP_INF ? largest_column(v) : top;
}

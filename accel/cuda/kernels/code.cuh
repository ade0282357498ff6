/* One code by any of the ways of core/cast.h and core/table.h, chosen at run time: what every format, rounding and policy needs. */
#include "cast.h"
#include "philox.h"
#include "source.cuh"
#include "table.h"

/* A plan as parameters, which instructions read for nothing. */
#define LP_PLAN                                                                                                                               \
    lp_u32 q0, lp_u32 q1, lp_u32 q2, lp_u32 q3, lp_u32 q4, lp_u32 q5, lp_u32 q6, lp_u32 q7, lp_u32 q8, lp_u32 q9, lp_u32 q10, lp_u32 q11, \
        lp_u32 q12, lp_u32 q13, lp_u32 q14, lp_u32 q15, lp_u32 q16, lp_u32 q17
#define LP_GIVEN_PLAN {q0, q1, q2, q3, q4, q5, q6, q7, q8, q9, q10, q11, q12, q13, q14, q15, q16, q17}

enum { HOW_PLAN, HOW_STOCHASTIC, HOW_BC, HOW_CELLS, HOW_NEIGHBOURS, HOW_WHOLE };

/* Device pointers and integers of a cast; as uint64 in an array, in this order. words: uint32, or 0: words of elements start, start + 1, ...;
 * step: where the step is (a captured step is repeated under another one), or 0. */
struct Cast {
    lp_u64 how, plan, first, entries, lower, width, above, half, words, r, variant, start, step, stream, seed;
};

struct Ready {
    lp_plan plan;
    Cast c;
};

LPREF_FN Ready ready(const lp_u64 *p) {
    Ready g;
    lp_u64 *to = (lp_u64 *)&g.c;
#pragma unroll
    for (int i = 0; i < 15; ++i) to[i] = p[i];
    g.plan = lp_read_plan((const lp_u32 *)g.c.plan);
    if (g.c.step) g.c.step = *(const lp_u32 *)g.c.step;
    return g;
}

LPREF_FN lp_u32 word_of(const Cast &c, lp_i64 i) {
    if (c.words) return ((const lp_u32 *)c.words)[i];
    return lp_word(c.start + (lp_u64)i, (lp_u32)c.r, (lp_u32)c.step, (lp_u32)c.stream, (lp_u32)c.seed, (lp_u32)(c.seed >> 32));
}

LPREF_FN lp_u32 code_of(const Ready &g, lp_u32 x, lp_i64 i) {
    const Cast &c = g.c;
    switch ((int)c.how) {
    case HOW_PLAN: return lp_encode(x, &g.plan);
    case HOW_STOCHASTIC: return lp_encode_stochastic(x, &g.plan, word_of(c, i), (lp_u32)c.r);
    case HOW_BC: return lp_encode_bc(x, &g.plan, word_of(c, i), (lp_u32)c.r, (int)c.variant);
    case HOW_WHOLE: return lp_encode_whole(x, &g.plan);
    case HOW_CELLS: return lp_encode_cells(x, (const lp_u32 *)c.first, (const lp_u64 *)c.entries);
    default:
        return lp_encode_neighbours(x, (const lp_u32 *)c.first, (const lp_u64 *)c.entries, (const double *)c.lower, (const double *)c.width,
                                    (const lp_u16 *)c.above, (lp_u32)c.half, word_of(c, i), (lp_u32)c.r, (int)c.variant);
    }
}

LPREF_FN void put(void *out, lp_i64 i, lp_u32 code, int bytes) {
    if (bytes == 1) ((lp_u8 *)out)[i] = (lp_u8)code;
    else if (bytes == 2) ((lp_u16 *)out)[i] = (lp_u16)code;
    else ((lp_u32 *)out)[i] = code;
}

/* Integers of many bits: up = -2 - (256 bits + fraction bits) */
LPREF_FN double whole_value(lp_u32 code, int up) {
    int bits = (-2 - up) >> 8, fraction = (-2 - up) & 255;
    return lp_dmul((double)((lp_i32)(code << (32 - bits)) >> (32 - bits)), lp_double((lp_i64)(1023 - fraction) << 52));
}

/* up >= 0: formats with float32's exponent, the code is the top of the float32; -1: a table of float32 by code; below: whole_value, rounded */
LPREF_FN lp_u32 value_of(lp_u32 code, const lp_u32 *table, int up) { return up >= 0 ? code << up : up == -1 ? table[code] : lp_bits(lp_narrow(whole_value(code, up))); }

LPREF_FN void flush_top(lp_u32 top, lp_u64 *counter) {
    top = __reduce_max_sync(0xFFFFFFFFu, top);
    if ((threadIdx.x & 31u) == 0 && top) atomicMax(counter, (lp_u64)top);
}

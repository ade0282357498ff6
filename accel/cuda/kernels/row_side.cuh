/* Side a of panels.cu: blocks along rows, a lane has sixteen neighbours of every eighth row of a panel. Macros: panels.cu. */
#include "block_scale.cuh"

/* A lane's sixteen of a row of the panel. */
LPREF_FN Sixteen staged16(const lp_16 *stage, lp_u32 row) {
    lp_u32 first = threadIdx.x % 4 * PER_UNIT;
    Sixteen s;
    s.a.a = stage[piece_at(row, first)];
#if LP_IN
    s.b.a = stage[piece_at(row, first + 1)];
#else
    s.a.b = stage[piece_at(row, first + 1)];
    s.b.a = stage[piece_at(row, first + 2)];
    s.b.b = stage[piece_at(row, first + 3)];
#endif
    return s;
}

LPREF_FN void row_side(const lp_16 *stage, const Corner &at, lp_i64 C, const Target &t, const Shared &h, const Address &words, Seen &seen) {
    lp_u32 lane = threadIdx.x % 32, c = at.column + 16 * (lane % 4);
    int live = c < C;
#pragma unroll
    for (int j = 0; j < LP_K / 8; ++j) {
        lp_u32 unit = unit_of(at, lane / 4 + 8 * j, c, C);
        Sixteen s = staged16(stage, lane / 4 + 8 * j);
        Magnitudes m = magnitudes(s);
        lp_u32 top = largest16(s, m);
#pragma unroll
        for (int d = 1; d < LP_K / 16; d *= 2) top = larger(top, __shfl_xor_sync(0xFFFFFFFFu, top, d));
        top = settled(top);
        if (live) {
            lp_u32 w[8];
            seen.top = lp_umax(seen.top, top);
            lp_scale scale = scale_of(top, h);
            float factor = element_factor(scale);
            if (LP_K == 16 || lane % 2 == 0) t.scales[unit / (LP_K / 16)] = (lp_u8)scale.code;
            words16(w, words, unit);
            Codes a, b;
            code16(a, b, s, m, scale, short_block(scale, factor), plain(top, scale, factor), may_overflow(top, factor), w, seen);
            store16(t.codes + (lp_i64)unit * (2 * LP_BITS), a, b);
#if LP_A_OUT
            float value = scale_value(scale.code);
            Pair pair = pair_of(value, value);
            uint4 *to = (uint4 *)(t.out + (lp_i64)unit * 8);
            to[0] = embedded8(a.lo, a.hi, pair);
            to[1] = embedded8(b.lo, b.hi, pair);
#endif
        }
    }
}

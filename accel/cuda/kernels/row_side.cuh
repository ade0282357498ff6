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

/* Numbers of two neighbouring sixteens, of this lane and of the next or previous one, in whole sectors: a lane has one half of each sixteen. c: where the
 * first of the two begins. */
LPREF_FN void store_numbers(lp_u32 *out, lp_u32 unit, lp_u32 c, lp_i64 C, const Codes &a, const Codes &b, lp_u32 scale) {
#if LP_A_OUT
    const lp_u32 odd = threadIdx.x % 2;
    Codes mine = {odd ? b.lo : a.lo, odd ? b.hi : a.hi}, theirs = {odd ? a.lo : b.lo, odd ? a.hi : b.hi}; /* what stays, and what the neighbour takes */
    theirs.lo = __shfl_xor_sync(0xFFFFFFFFu, theirs.lo, 1);
#if LP_BITS == 8
    theirs.hi = __shfl_xor_sync(0xFFFFFFFFu, theirs.hi, 1);
#endif
    float value = scale_value(scale), other = value;
#if LP_K == 16
    other = scale_value(__shfl_xor_sync(0xFFFFFFFFu, scale, 1));
#endif
    Codes first = {odd ? theirs.lo : mine.lo, odd ? theirs.hi : mine.hi}, second = {odd ? mine.lo : theirs.lo, odd ? mine.hi : theirs.hi};
    uint4 *to = (uint4 *)(out + (lp_i64)(unit - odd) * 8) + odd;
    if (c < C) to[0] = embedded8(first.lo, first.hi, pair_of(odd ? other : value, odd ? other : value));
    if (c + 16 < C) to[2] = embedded8(second.lo, second.hi, pair_of(odd ? value : other, odd ? value : other));
#endif
}

/* joined: scales of the panels of a block of threads (LP_JOINED). */
LPREF_FN void row_side(lp_u8 *joined, const lp_16 *stage, const Corner &at, lp_i64 C, const Target &t, const Shared &h, const Address &words, Seen &seen) {
    lp_u32 lane = threadIdx.x % 32, c = at.column + 16 * (lane % 4);
    int live = c < C;
#pragma unroll
    for (int j = 0; j < LP_K / 8; ++j) {
        lp_u32 row = lane / 4 + 8 * j, unit = unit_of(at, row, c, C);
        Sixteen s = staged16(stage, row);
        Magnitudes m = magnitudes(s);
        lp_u32 top = largest16(s, m);
#pragma unroll
        for (int d = 1; d < LP_K / 16; d *= 2) top = larger(top, __shfl_xor_sync(0xFFFFFFFFu, top, d));
        top = settled(top);
        Codes a = {}, b = {};
        lp_u32 stored = 0;
        if (live) {
            lp_u32 w[8];
            seen.top = lp_umax(seen.top, top);
            lp_scale scale = scale_of(top, h);
            float factor = element_factor(scale);
            stored = scale.code;
#if LP_JOINED
            if (LP_K == 16 || lane % 2 == 0) joined[row * JOINED + (threadIdx.x / 32 * WIDE + 16 * (lane % 4)) / LP_K] = (lp_u8)stored;
#else
            if (LP_K == 16 || lane % 2 == 0) t.scales[unit / (LP_K / 16)] = (lp_u8)stored;
#endif
            words16(w, words, unit);
            code16_of(a, b, s, m, top, scale, short_block(scale, factor), plain(top, scale, factor), w, seen);
            store16(t.codes + (lp_i64)unit * (2 * LP_BITS), a, b);
        }
        store_numbers(t.out, unit, at.column + lane % 4 / 2 * 32, C, a, b, stored);
    }
}

/* The scales of a block of threads' panels, a row a lane; at: the panel of this warp. */
LPREF_FN void store_joined(lp_u8 *scales, const lp_u8 *joined, const Corner &at, lp_i64 C) {
#if LP_JOINED
    const lp_u32 row = threadIdx.x % 32, first = at.column - threadIdx.x / 32 * WIDE;
    const lp_u8 *from = joined + row * JOINED;
    lp_u8 *to = scales + ((at.row + row) * C + first) / LP_K;
    if (row >= LP_K) return;
#if JOINED == 16
    *(lp_16 *)to = *(const lp_16 *)from;
#elif JOINED == 8
    *(lp_8 *)to = *(const lp_8 *)from;
#else
    *(lp_u32 *)to = *(const lp_u32 *)from;
#endif
#endif
}

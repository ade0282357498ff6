/* panels: the operands that one tensor becomes, from one read: codes, scales, and where they are multiplied at once the numbers in bfloat16.
 *
 * Side a: blocks 1 x K along rows (LP_ROWS); side b: blocks K x 1 down the columns, after a Hadamard transform of theirs (LP_COLUMNS), or K x K
 * (LP_SQUARE). A side's tensor amax (NVFP4) is known before (peaks.cu). Rows go sixteen neighbours a thread as in blocks.cu, columns two a thread: the
 * second read of a panel finds it in the first cache. Random words of a panel's column side are made sixteen neighbours a thread too, each Philox
 * block once, and handed over in shared memory.
 *
 * Versions: 1. transform, amax_grid, scales_grid, elements (columns.cu, tiles.cu) and embed, each through memory: 23 bytes an element of a column side
 * and four more launches. 2. this one: 6.6. Macros: panel.cuh, block_scale.cuh, embedded.cuh. */
#include "block_scale.cuh"
#include "embedded.cuh"
#include "panel.cuh"

#define WORD_BYTES (LP_SR / 8)

/* Codes, scales, bfloat16 numbers (null: not wanted), tensor scale, tensor amax, counters, words of a side. */
#define SIDE(p)                                                                                                                                     \
    lp_u8 *p##_codes, lp_u8 *p##_scales, lp_u32 *p##_out, float *p##_scale, const lp_u32 *p##_amax, lp_u64 *p##_counters, lp_u64 p##_first,     \
        const lp_u32 *p##_step, lp_u32 p##_stream, lp_u64 p##_k0, lp_u64 p##_k1, lp_u64 p##_k2, lp_u64 p##_k3, lp_u64 p##_k4, lp_u64 p##_k5, \
        lp_u64 p##_k6, lp_u64 p##_k7, lp_u64 p##_k8, lp_u64 p##_k9
#define STEP(p) (LP_SR ? *p##_step : 0u)
#define ADDRESS(p) \
    {(lp_u32)p##_first, (lp_u32)(p##_first >> 32), STEP(p), p##_stream, {{p##_k0, p##_k1, p##_k2, p##_k3, p##_k4, p##_k5, p##_k6, p##_k7, p##_k8, p##_k9}}}

struct Target {
    lp_u8 *codes, *scales;
    lp_u32 *out;
};

LPREF_FN Sixteen sixteen_at(const void *x, lp_i64 at) {
    Sixteen s = {};
    const lp_16 *p = (const lp_16 *)((const lp_u8 *)x + at * (LP_FROM ? 2 : 4));
#if LP_FROM
    lp_16 a = cached16(p), b = cached16(p + 1);
    const lp_u32 *w[2] = {&a.x, &b.x};
    lp_u32 *to[4] = {&s.a.a.x, &s.a.b.x, &s.b.a.x, &s.b.b.x};
#pragma unroll
    for (int i = 0; i < 16; ++i) to[i / 4][i % 4] = lp_bits(widened_half(i % 2 ? w[i / 8][i % 8 / 2] >> 16 : w[i / 8][i % 8 / 2] & 0xFFFFu));
#else
    s = load16th(p);
#endif
    return s;
}

/* Blocks along rows: a lane has sixteen neighbours of every eighth row. */
LPREF_FN void row_side(const void *x, const Corner &at, lp_i64 C, const Target &t, const Shared &h, const Address &words, Seen &seen) {
    lp_u32 lane = threadIdx.x % 32, c = at.column + 16 * (lane % 4);
    int live = c < C;
#pragma unroll
    for (int j = 0; j < LP_K / 8; ++j) {
        lp_i64 place = (at.row + lane / 4 + 8 * j) * C + c;
        Sixteen s = {};
        if (live) s = sixteen_at(x, place);
        Magnitudes m = magnitudes(s);
        lp_u32 top = largest16(s, m);
#pragma unroll
        for (int d = 1; d < LP_K / 16; d *= 2) top = larger(top, __shfl_xor_sync(0xFFFFFFFFu, top, d));
        if (live) {
            lp_u32 unit = (lp_u32)(place / 16), w[8];
            seen.top = larger(seen.top, top);
            lp_scale scale = scale_of(top, h);
            float factor = element_factor(scale);
            if (LP_K == 16 || lane % 2 == 0) t.scales[place / LP_K] = (lp_u8)scale.code;
            words16(w, words, unit);
            Codes a, b;
            code16(a, b, s, m, scale, short_block(scale, factor), plain(top, scale, factor), may_overflow(top, factor), w, seen);
            store16(t.codes + (lp_i64)unit * (2 * LP_BITS), a, b);
            if (t.out) {
                float value = scale_value(scale.code);
                Pair pair = pair_of(value, value);
                uint4 *to = (uint4 *)(t.out + (lp_i64)unit * 8);
                to[0] = embedded8(a.lo, a.hi, pair);
                to[1] = embedded8(b.lo, b.hi, pair);
            }
        }
    }
}

#if LP_COLUMNS || LP_SQUARE
/* A panel's words into `drawn_here` [LP_K][64], sixteen (LP_SR 16: twice eight) neighbours a lane and row. */
LPREF_FN void draw(lp_u8 *drawn_here, const Corner &at, lp_i64 C, const Address &words) {
#if LP_SR
    lp_u32 lane = threadIdx.x % 32, c = at.column + 16 * (lane % 4);
    __syncwarp(); /* the panel before has been read */
    if (c < C) {
#pragma unroll
        for (int j = 0; j < LP_K / 8; ++j) {
            lp_u32 row = lane / 4 + 8 * j, w[8];
            words16(w, words, (lp_u32)(((at.row + row) * C + c) / 16));
            uint4 *to = (uint4 *)(drawn_here + (row * WIDE + 16 * (lane % 4)) * WORD_BYTES);
#pragma unroll
            for (int i = 0; i < WORD_BYTES; ++i) {
                uint4 four = {w[4 * i], w[4 * i + 1], w[4 * i + 2], w[4 * i + 3]};
                to[i] = four;
            }
        }
    }
    __syncwarp();
#endif
}

/* The words of a lane's two columns in rows 16 part .. 16 part + 15, as words16 packs those of sixteen. */
LPREF_FN void drawn_columns(lp_u32 (*w)[8], const lp_u8 *drawn_here, int part) {
#pragma unroll
    for (int i = 0; i < 8; ++i) w[0][i] = w[1][i] = 0u;
#if LP_SR
    const lp_u8 *from = drawn_here + (part * 16 * WIDE + 2 * (threadIdx.x % 32)) * WORD_BYTES;
#endif
#if LP_SR == 8
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        lp_u32 h[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) h[j] = *(const lp_u16 *)(from + (4 * i + j) * WIDE);
        lp_u32 low = __byte_perm(h[0], h[1], 0x5140), high = __byte_perm(h[2], h[3], 0x5140);
        w[0][i] = __byte_perm(low, high, 0x5410);
        w[1][i] = __byte_perm(low, high, 0x7632);
    }
#elif LP_SR == 16
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        lp_u32 low = *(const lp_u32 *)(from + 2 * i * WIDE * WORD_BYTES), high = *(const lp_u32 *)(from + (2 * i + 1) * WIDE * WORD_BYTES);
        w[0][i] = __byte_perm(low, high, 0x5410);
        w[1][i] = __byte_perm(low, high, 0x7632);
    }
#endif
}

LPREF_FN Sixteen sixteen_of(const float *v) {
    Sixteen s;
    lp_u32 *to[4] = {&s.a.a.x, &s.a.b.x, &s.b.a.x, &s.b.b.x};
#pragma unroll
    for (int i = 0; i < 16; ++i) to[i / 4][i % 4] = lp_bits(v[i]);
    return s;
}

/* Codes of two columns and eight rows, stored, and as numbers where they are wanted. Each word holds whole rows, a code of each column beside the other:
 * of 4 bits rows 0, 2, 4, 6 and 1, 3, 5, 7; of 8 bits two rows. */
LPREF_FN void store_columns(const Target &t, lp_i64 place, lp_i64 C, const Codes &left, const Codes &right, const Pair &pair) {
#if LP_BITS == 4
    lp_u32 word[2] = {(left.lo & 0x0F0F0F0Fu) | (right.lo & 0x0F0F0F0Fu) << 4, (left.lo >> 4 & 0x0F0F0F0Fu) | (right.lo & 0xF0F0F0F0u)};
#else
    lp_u32 word[4] = {__byte_perm(left.lo, right.lo, 0x5140), __byte_perm(left.lo, right.lo, 0x7362), __byte_perm(left.hi, right.hi, 0x5140),
                      __byte_perm(left.hi, right.hi, 0x7362)};
#endif
#pragma unroll
    for (int i = 0; i < LP_BITS / 2; ++i) {
        const int first = LP_BITS == 4 ? i : 2 * i, step = LP_BITS == 4 ? 2 : 1;
#pragma unroll
        for (int j = 0; j < PAIRS; ++j) {
            lp_u8 *to = t.codes + (place + (first + step * j) * C) * LP_BITS / 8;
            if (LP_BITS == 4) *to = (lp_u8)(word[i] >> 8 * j % 32);
            else *(lp_u16 *)to = (lp_u16)(word[i] >> 16 * j % 32);
        }
        if (t.out) {
            lp_u32 w[PAIRS];
            embedded_word(w, word[i], &pair, 0);
#pragma unroll
            for (int j = 0; j < PAIRS; ++j) t.out[(place + (first + step * j) * C) / 2] = w[j];
        }
    }
}

/* Blocks down a lane's two columns, or squares over eight lanes. */
LPREF_FN void column_side(const Columns &v, const lp_u8 *drawn_here, const Corner &at, lp_i64 C, const Target &t, const Shared &h, Seen &seen) {
    lp_u32 lane = threadIdx.x % 32, c = at.column + 2 * lane, tops[2] = {largest_column(v.v[0]), largest_column(v.v[1])};
#if LP_SQUARE
    lp_u32 top = lp_umax(tops[0], tops[1]);
#pragma unroll
    for (int d = 1; d < LP_K / 2; d *= 2) top = lp_umax(top, __shfl_xor_sync(0xFFFFFFFFu, top, d));
    tops[0] = tops[1] = top;
#endif
    if (c >= C) return;
    lp_scale s[2];
    Block b[2];
    int quick[2], over[2];
    float value[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
        seen.top = lp_umax(seen.top, tops[e]);
        s[e] = scale_of(tops[e], h);
        float factor = element_factor(s[e]);
        b[e] = short_block(s[e], factor);
        quick[e] = plain(tops[e], s[e], factor);
        over[e] = may_overflow(tops[e], factor);
        value[e] = scale_value(s[e].code);
    }
    Pair pair = pair_of(value[0], value[1]);
    lp_u32 row = (lp_u32)(at.row / LP_K);
#if LP_SQUARE
    if (lane % (LP_K / 2) == 0) t.scales[row * (C / LP_K) + c / LP_K] = (lp_u8)s[0].code;
#else
    *(lp_u16 *)(t.scales + row * C + c) = (lp_u16)(s[0].code | s[1].code << 8);
#endif
#pragma unroll
    for (int part = 0; part < LP_K / 16; ++part) {
        lp_u32 w[2][8];
        drawn_columns(w, drawn_here, part);
        Codes first[2], second[2];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            Sixteen x = sixteen_of(v.v[e] + 16 * part);
            code16(first[e], second[e], x, magnitudes(x), s[e], b[e], quick[e], over[e], w[e], seen);
        }
        lp_i64 place = (at.row + 16 * part) * C + c;
        store_columns(t, place, C, first[0], first[1], pair);
        store_columns(t, place + 8 * C, C, second[0], second[1], pair);
    }
}
#endif

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) panels(const void *x, lp_i64 R, lp_i64 C, const lp_rule *rule, const float *signs, lp_i64 count,
                                                                              float turn_factor, SIDE(a), SIDE(b)) {
    lp_u32 across = (lp_u32)((C + WIDE - 1) / WIDE), panels = (lp_u32)(R / LP_K) * across, first = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
#if LP_ROWS
    LP_FACTORS(a_factors);
    Shared ha = scales_under(rule, a_amax, a_factors);
    Address a_words = ADDRESS(a);
    Seen a_seen = {0, 0, 0, 0.0f};
    Target ta = {a_codes, a_scales, a_out};
    if (a_scale && blockIdx.x == 0 && threadIdx.x == 0) *a_scale = ha.t.tensor_scale;
#endif
#if LP_COLUMNS || LP_SQUARE
    LP_FACTORS(b_factors);
    __shared__ __align__(16) lp_u8 drawn_here[LP_THREADS / 32][LP_K * WIDE * WORD_BYTES + 16];
    Shared hb = scales_under(rule, b_amax, b_factors);
    Address b_words = ADDRESS(b);
    Seen b_seen = {0, 0, 0, 0.0f};
    Target tb = {b_codes, b_scales, b_out};
    if (b_scale && blockIdx.x == 0 && threadIdx.x == 0) *b_scale = hb.t.tensor_scale;
#endif
    for (lp_u32 p = first; p < panels; p += gridDim.x * blockDim.x / 32) {
        Corner at = corner_of(p, across);
#if LP_ROWS
        row_side(x, at, C, ta, ha, a_words, a_seen);
#endif
#if LP_COLUMNS || LP_SQUARE
        lp_u32 c = at.column + 2 * (threadIdx.x % 32);
        Columns v;
        load_columns(v, x, at.row * C + c, C, c < C);
        draw(drawn_here[threadIdx.x / 32], at, C, b_words);
        turn_columns(v, signs, count, at.row, turn_factor);
        column_side(v, drawn_here[threadIdx.x / 32], at, C, tb, hb, b_seen);
#endif
    }
#if LP_ROWS
    flush(a_seen, a_counters);
    __syncthreads(); /* the tally has been read */
#endif
#if LP_COLUMNS || LP_SQUARE
    flush(b_seen, b_counters);
#endif
}

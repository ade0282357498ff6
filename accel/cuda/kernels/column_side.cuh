/* Side b of panels.cu: blocks down a lane's two columns, or squares over eight lanes. Macros: panels.cu. */
#include "block_scale.cuh"
#include "strips.cuh"

#define WORD_BYTES (LP_SR / 8)

/* A panel's words into `drawn_here` [LP_K][64], sixteen (LP_SR 16: twice eight) neighbours a lane and row. */
LPREF_FN void draw(lp_u8 *drawn_here, const Corner &at, lp_i64 C, const Address &words) {
#if LP_SR
    lp_u32 lane = threadIdx.x % 32, c = at.column + 16 * (lane % 4);
    __syncwarp(); /* the panel before has been read */
    if (c < C) {
#pragma unroll
        for (int j = 0; j < LP_K / 8; ++j) {
            lp_u32 row = lane / 4 + 8 * j, w[8];
            words16(w, words, unit_of(at, row, c, C));
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

/* The words of a lane's two columns in rows 16 part .. 16 part + 15, as words16 packs those of sixteen, or in pairs (LP_PAIRED). */
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
#if LP_PAIRED
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            w[0][2 * i + j] = __byte_perm(h[j], h[j + 2], 0x2420);
            w[1][2 * i + j] = __byte_perm(h[j], h[j + 2], 0x2521);
        }
        continue;
#endif
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

#define CODE_ROW (WIDE * LP_BITS / 8) /* bytes */

/* Codes of a lane's two columns and eight rows, kept, and stored as numbers where they are wanted (out, `pitch` bytes a row). Each word holds whole rows, a
 * code of each column beside the other: of 4 bits rows 0, 2, 4, 6 and 1, 3, 5, 7, kept as they are; of 8 bits two rows. */
LPREF_FN void keep_columns(lp_u8 *held, lp_u8 *out, lp_u32 pitch, const Codes &left, const Codes &right, const Pair &pair) {
#if LP_BITS == 4
    lp_u32 word[2] = {chosen(0x0F0F0F0Fu, left.lo, right.lo << 4), chosen(0x0F0F0F0Fu, left.lo >> 4, right.lo)};
#else
    lp_u32 word[4] = {__byte_perm(left.lo, right.lo, 0x5140), __byte_perm(left.lo, right.lo, 0x7362), __byte_perm(left.hi, right.hi, 0x5140),
                      __byte_perm(left.hi, right.hi, 0x7362)};
#endif
#pragma unroll
    for (int i = 0; i < LP_BITS / 2; ++i) {
#if LP_BITS == 4
        ((lp_u32 *)held)[i] = word[i];
#else
#pragma unroll
        for (int j = 0; j < PAIRS; ++j) *(lp_u16 *)(held + (2 * i + j) * CODE_ROW) = (lp_u16)(word[i] >> 16 * j % 32);
#endif
#if LP_B_OUT
        const int first = LP_BITS == 4 ? i : 2 * i, step = LP_BITS == 4 ? 2 : 1;
        lp_u32 w[PAIRS];
        embedded_word(w, word[i], &pair, 0);
#pragma unroll
        for (int j = 0; j < PAIRS; ++j) *(lp_u32 *)(out + (lp_u64)pitch * (lp_u32)(first + step * j)) = w[j];
#endif
    }
}

/* The codes that a warp has kept. Of 4 bits: a lane turns four words of four lanes round, so that it has eight neighbours of four rows. Of 8 bits: sixteen
 * neighbours a lane and row. */
LPREF_FN void store_panel(lp_u8 *codes, const lp_u8 *held, const Corner &at, lp_i64 C) {
#if LP_BITS == 4
    const lp_u32 lane = threadIdx.x % 32, word = lane % 4, c = at.column + lane / 4 * 8;
    __syncwarp();
    if (c >= C) return;
#pragma unroll
    for (int part = 0; part < LP_K / 16; ++part) {
        const lp_u32 *from = (const lp_u32 *)(held + part * 16 * CODE_ROW) + lane / 4 * 16 + word;
        lp_u8 *to = codes + ((lp_u64)(at.row + 16 * part + word / 2 * 8 + word % 2) * (lp_u64)C + c) / 2u;
        lp_u32 a = from[0], b = from[4], d = from[8], e = from[12];
        lp_u32 ab = __byte_perm(a, b, 0x5140), de = __byte_perm(d, e, 0x5140), upper_ab = __byte_perm(a, b, 0x7362), upper_de = __byte_perm(d, e, 0x7362);
        stream4(to, __byte_perm(ab, de, 0x5410));
        stream4(to + C, __byte_perm(ab, de, 0x7632));
        stream4(to + 2 * C, __byte_perm(upper_ab, upper_de, 0x5410));
        stream4(to + 3 * C, __byte_perm(upper_ab, upper_de, 0x7632));
    }
#else
    lp_u32 lane = threadIdx.x % 32, c = at.column + 16 * (lane % 4);
    __syncwarp();
    if (c >= C) return;
#pragma unroll
    for (int j = 0; j < LP_K / 8; ++j) {
        lp_u32 row = lane / 4 + 8 * j;
        const lp_u8 *from = held + row * CODE_ROW + lane % 4 * (2 * LP_BITS);
        lp_u8 *to = codes + (lp_u64)unit_of(at, row, c, C) * (2 * LP_BITS);
        lp_16 w = *(const lp_16 *)from;
        stream16(to, w.x, w.y, w.z, w.w);
    }
#endif
}

/* Blocks down a lane's two columns, or squares over eight lanes. held: where x of the panel was. */
LPREF_FN void column_side(const Strips &v, lp_u32 *tops, const lp_u8 *drawn_here, lp_u8 *held, const Corner &at, lp_i64 C, const Target &t, const Shared &h, Seen &seen) {
    lp_u32 lane = threadIdx.x % 32, c = at.column + 2 * lane;
#if LP_SQUARE
    lp_u32 top = lp_umax(tops[0], tops[1]);
#pragma unroll
    for (int d = 1; d < LP_K / 2; d *= 2) top = lp_umax(top, __shfl_xor_sync(0xFFFFFFFFu, top, d));
    tops[0] = tops[1] = top;
#endif
    __syncwarp(); /* all have read x */
    if (c < C) {
        lp_scale s[2];
        Block b[2];
        int quick[2];
        float value[2];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            seen.top = lp_umax(seen.top, tops[e]);
            s[e] = scale_of(tops[e], h);
            float factor = element_factor(s[e]);
            b[e] = short_block(s[e], factor);
            quick[e] = plain(tops[e], s[e], factor);
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
                Sixteen x = sixteen_of(v, e, part);
                code16_of(first[e], second[e], x, magnitudes(x), tops[e], s[e], b[e], quick[e], w[e], seen);
            }
            lp_u8 *mine = held + 16 * part * CODE_ROW + lane * (LP_BITS == 4 ? 16 : 2); /* of 4 bits: 16 bytes a lane */
            const lp_u32 pitch = 2u * (lp_u32)C;
            lp_u8 *out = LP_B_OUT ? (lp_u8 *)t.out + ((at.row + 16 * part) * C + c) * 2 : nullptr;
            keep_columns(mine, out, pitch, first[0], first[1], pair);
            keep_columns(mine + (LP_BITS == 4 ? 8 : 8 * CODE_ROW), out + (lp_u64)pitch * 8u, pitch, second[0], second[1], pair);
        }
    }
    store_panel(t.codes, held, at, C);
}

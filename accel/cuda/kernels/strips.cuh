/* What a thread has of a panel, two neighbouring columns: as float32, or where no transform is on the way (LP_IN is LP_FROM) as the 16 bits that they
 * are, a row of both in a word, so that they are compared and scaled in pairs. After staged.cuh and sixteen.cuh. */

#if LP_IN
struct Strips {
    lp_u32 pair[LP_K];
};

LPREF_FN void load_strips(Strips &t, const lp_16 *stage, const lp_u32 *) {
    lp_u32 lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < LP_K; ++i) t.pair[i] = ((const lp_u32 *)(stage + piece_at(i, lane / 4)))[lane % 4];
}

LPREF_FN void turn_strips(lp_u32 *tops, Strips &t, float) {
    lp_u32 top = t.pair[0] & 0x7FFF7FFFu;
#pragma unroll
    for (int i = 1; i < LP_K; ++i) top = __vmaxu2(top, t.pair[i] & 0x7FFF7FFFu);
    tops[0] = widened(top & 0xFFFFu);
    tops[1] = widened(top >> 16);
}

/* Rows 16 part .. 16 part + 15 of column e. */
LPREF_FN Sixteen sixteen_of(const Strips &t, int e, int part) {
    Sixteen s = {};
    lp_u32 *to[2] = {&s.a.a.x, &s.b.a.x};
#pragma unroll
    for (int i = 0; i < 8; ++i) to[i / 4][i % 4] = __byte_perm(t.pair[16 * part + 2 * i], t.pair[16 * part + 2 * i + 1], e ? 0x7632u : 0x5410u);
    return s;
}
#else
typedef Columns Strips;

/* flips: of the rows' signs, where a transform is on the way (panel.cuh) */
LPREF_FN void load_strips(Strips &t, const lp_16 *stage, const lp_u32 *flips) {
    lp_u32 lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < LP_K; ++i) {
        lp_u32 turned = LP_SIZE ? flips[i] : 0u;
#if LP_FROM
        lp_u32 pair = ((const lp_u32 *)(stage + piece_at(i, lane / 4)))[lane % 4] ^ turned;
        t.v[0][i] = widened_half(pair & 0xFFFFu);
        t.v[1][i] = widened_half(pair >> 16);
#else
        lp_8 pair = ((const lp_8 *)(stage + piece_at(i, lane / 2)))[lane % 2];
        t.v[0][i] = lp_float(pair.x ^ (turned & 0x80000000u));
        t.v[1][i] = lp_float(pair.y ^ (turned & 0x80000000u));
#endif
    }
}

LPREF_FN void turn_strips(lp_u32 *tops, Strips &t, float factor) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
#if LP_SIZE
        tops[e] = lp_bits(lp_mul(lp_float(turn_column(t.v[e])), factor)) & LP_ABS;
        if (LP_BEFORE == 1.0f) {
#pragma unroll
            for (int i = 0; i < LP_K; ++i) t.v[e][i] = lp_mul(t.v[e][i], factor);
        }
#else
        tops[e] = largest_column(t.v[e]);
#endif
    }
}

LPREF_FN Sixteen sixteen_of(const Strips &t, int e, int part) {
    Sixteen s;
    lp_u32 *to[4] = {&s.a.a.x, &s.a.b.x, &s.b.a.x, &s.b.b.x};
#pragma unroll
    for (int i = 0; i < 16; ++i) to[i / 4][i % 4] = lp_bits(t.v[e][16 * part + i]);
    return s;
}
#endif

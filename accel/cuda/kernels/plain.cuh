/* Sixteen elements of one thread under one scale, the short way: for scales that keep every element in range (`plain`; powers of two serve all
 * living blocks, since there clipping and the count of what overflows can be done on the source). What is not plain goes through put8.
 *
 * Why it is written so (one H200): the integer pipe has half the rate of the float pipe, and 3 bytes an element leave it 11 instructions. So the
 * rounding is float arithmetic, random bits are put where the code's byte begins, eight codes are joined by multiply-adds or byte permutations, and
 * bfloat16 sources are compared, clipped, scaled by powers of two and counted as pairs. Macros: elements.cuh. */
#include "sixteen.cuh"
#include "e2m1.cuh"

#define LP_POWER (LP_RULE == 2 && LP_MX_SIMPLE)
#define LP_SR8 (LP_BITS == 8 && !LP_INTEGER && LP_SR == 16)
#ifndef LP_QUICK
#define LP_QUICK ((LP_FP8_SHORT || (LP_FP4 && LP_SR != 16) || (LP_FP6 && !LP_SR) || LP_SR8 || (LP_INTEGER && LP_BITS == 8 && LP_SR != 8)) && !defined(LP_MULTIPLIER))
#endif

/* A scale as the short way takes it. short_factor: the factor and what e2m1.cuh folds into it; inverse: of the factor, where elements are divided;
 * rest: lp_rest, where lp_near_quotient was found to serve; pairs of bfloat16 for powers of two: the factor, the largest value and what counts as
 * overflow, both in units of the source. upper: 0x4B00, the upper bits of 2^23. */
struct Block {
    float factor, inverse, rest, short_factor;
    lp_u32 factor2, most2, over2, upper;
};

LPREF_FN Block short_block(const lp_scale &s, float factor) {
    Block b = {factor, 0.0f, 0.0f, LP_FOLDED ? lp_mul(factor, LP_FOLDED_BY) : factor, 0u, 0u, 0u, 0x4B00u};
#if LP_DIVIDE
    b.inverse = lp_div(1.0f, factor);
#elif LP_POWER
    b.factor2 = 254u * 0x00800080u - s.code * 0x00800080u;
    b.most2 = ((LP_MAX >> 16) - (127u << 7)) * 0x00010001u + s.code * 0x00800080u; /* beyond the exponents it is NaN, which limits nothing */
    b.over2 = ((LP_OVER >> 16) - (127u << 7)) * 0x00010001u + s.code * 0x00800080u;
#endif
    return b;
}

/* May a block whose largest magnitude is `top` go the short way? */
LPREF_FN int plain(lp_u32 top, const lp_scale &s, float factor) {
#if LP_POWER
    return top < LP_INF;
#else
    float u = scaled(lp_float(top), factor);
    int some = LP_RULE == 3 ? s.code != 0u : s.value != 0.0f; /* else all is lost */
    int fits = u < lp_float(LP_OVER) && some;
#if LP_INTEGER && LP_SR
    fits = lp_bits(u) <= lp_bits(LP_HIGH) + 1u; /* amax / fl(amax / 127) is up to a unit in the last place above 127: half of 2^-16, which no word lifts */
#elif LP_SR8
    fits = lp_bits(u) <= (LP_MAX | ((1u << (7 - LP_TRAILING)) - 1u)) && some;
#endif
#if LP_DIVIDE
    fits = fits && lp_quotient_serves(factor);
#elif LP_FOLDED
    /* 2^-100 .. 2^100: the product with the power of two is exact, and elements below 2^-124, which may not be, become 0 anyhow */
    if (LP_FOLDED_BY != 1.0f) fits = fits && lp_bits(factor) - 0x0D800000u < 0x64000000u;
#endif
    return fits;
#endif
}

/* Eight scaled elements; magnitudes where the sign is set later. */
#define LP_SIGN_LATER ((LP_SR && !LP_E2M1_PAIRS) || (LP_FP4 && !LP_SR) || LP_FP6)
#ifndef LP_NEAR
#define LP_NEAR 0 /* lp_near_quotient serves */
#endif
LPREF_FN void scaled8(float *u, const Raw &raw, const lp_u32 *m, const Block &b) {
#if LP_POWER && LP_PAIRS
    const lp_u32 *r = &raw.a.x;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        lp_u32 p = pair_mul(!LP_SIGN_LATER ? r[i] : __vminu2(m[i], b.most2), b.factor2);
        u[2 * i] = lp_float(p << 16);
        u[2 * i + 1] = lp_float(p & 0xFFFF0000u);
    }
#else
    Eight e = widen(raw);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        float v = LP_SIGN_LATER ? fabsf(e.v[i]) : e.v[i];
#if LP_DIVIDE && LP_NEAR
        u[i] = lp_near_quotient(v, b.inverse, b.rest);
#elif LP_DIVIDE
        u[i] = lp_quotient(v, b.factor, b.inverse);
#else
        u[i] = lp_mul(v, b.short_factor);
#endif
#if LP_POWER && LP_SIGN_LATER
        u[i] = lp_min(u[i], lp_float(LP_MAX));
#endif
    }
#endif
}

/* Byte `from` of eight words, in order. */
LPREF_FN Codes bytes8(const lp_u32 *y, lp_u32 from) {
    lp_u32 pick = from | (from + 4) << 4;
    Codes c;
    c.lo = __byte_perm(__byte_perm(y[0], y[1], pick), __byte_perm(y[2], y[3], pick), 0x5410);
    c.hi = __byte_perm(__byte_perm(y[4], y[5], pick), __byte_perm(y[6], y[7], pick), 0x5410);
    return c;
}

/* Eight bytes that are 0xFF where an element is negative; `order` 0x7531 instead of 0xFDB9: the bytes that hold the signs, as they are. */
LPREF_FN Codes signs8(const Raw &r, lp_u32 order = 0x7531u) {
    Codes c;
#if LP_IN
    c.lo = permuted(r.a.x, r.a.y, order);
    c.hi = permuted(r.a.z, r.a.w, order);
#else
    const lp_u32 v[8] = {r.a.x, r.a.y, r.a.z, r.a.w, r.b.x, r.b.y, r.b.z, r.b.w};
    lp_u32 pick = 0x73u | (order & 0x88u);
    c.lo = permuted(permuted(v[0], v[1], pick), permuted(v[2], v[3], pick), 0x5410u);
    c.hi = permuted(permuted(v[4], v[5], pick), permuted(v[6], v[7], pick), 0x5410u);
#endif
    return c;
}

/* w: the eight words, packed. The random word of element i, zeros around it: `order` is the permutation for the lowest word, `place` has a one where it reads it. */
LPREF_FN lp_u32 drawn(const lp_u32 *w, int i, lp_u32 order, lp_u32 place) {
    return permuted(w[i * LP_SR >> 5], 0u, order + place * (i * LP_SR % 32 / 8));
}

/* The signs of four bytes where codes of 6 bits have them. */
LPREF_FN lp_u32 sixes(lp_u32 bytes) {
    lp_u32 s = bytes & 0x80808080u;
    return (s >> 2 & 0x20u) | (s >> 4 & 0x800u) | (s >> 6 & 0x20000u) | (s >> 8 & 0x800000u);
}

/* Four magnitudes up to 127, 0xFF where they become negative; `filled`: 127 more each, so that bit 7 says which are not zero. A byte of
 * filled - 2 m is 127 - m, without a borrow, and 127 - v for -127 <= v <= 127 is v's code but for the lower seven bits, inverted. */
LPREF_FN lp_u32 signed_bytes(lp_u32 magnitude, lp_u32 negative, lp_u32 &filled) {
    filled = magnitude + 0x7F7F7F7Fu;
    return (filled - 2u * (magnitude & ~negative)) ^ 0x7F7F7F7Fu;
}

/* least: bits of the least magnitude yet, where float32 is scaled to magnitudes: if it is not zero, no element was. filled: signed_bytes. */
#define LP_LEAST (!LP_IN && (LP_SIGN_LATER || LP_E2M1_PAIRS))
LPREF_FN Codes encode8_plain(const Raw &raw, const lp_u32 *m, const Block &b, const lp_u32 *w, lp_u32 &least, Codes &filled) {
    float u[8];
    scaled8(u, raw, m, b);
#if LP_E2M1_PAIRS && !LP_FOLDED
#pragma unroll
    for (int i = 0; i < 8; ++i) u[i] = lp_mul(u[i], LP_FOLDED_BY);
#endif
#if LP_LEAST && !LP_E2M1_PAIRS
#pragma unroll
    for (int i = 0; i < 8; i += 2) least = lp_min3(least, lp_bits(u[i]), lp_bits(u[i + 1]));
#endif
    Codes c = {0u, 0u};
#if LP_FP8_SHORT
    c.lo = cvt2(u[0], u[1]) | cvt2(u[2], u[3]) << 16;
    c.hi = cvt2(u[4], u[5]) | cvt2(u[6], u[7]) << 16;
#elif LP_SR8
    lp_u32 y[8]; /* the code is in the upper byte, off by 64 (a bias of 2^(7 - M) - 1) */
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        lp_u32 grid = lp_grid(u[i], lp_float((lp_u32)(127 + LP_EMIN) << 23));
        y[i] = grid * (2u << LP_TRAILING) + drawn(w, i, 0x4104u, 0x110u);
    }
    c = bytes8(y, 3);
    Codes s = signs8(raw);
    c.lo = ((c.lo ^ 0x40404040u) & 0x7F7F7F7Fu) | (s.lo & 0x80808080u);
    c.hi = ((c.hi ^ 0x40404040u) & 0x7F7F7F7Fu) | (s.hi & 0x80808080u);
#elif LP_FP4 && !LP_SR
    lp_u32 p = 0;
#pragma unroll
    for (int i = 7; i >= 0; --i) p = p * 16u + lp_nearest_e2m1_below7(u[i]);
    c.lo = p - LP_E2M1_BASE * 0x11111111u;
    Eight e = widen(raw);
    c.lo |= signs4(e);
#elif LP_FP6 && !LP_SR
    lp_u32 low = 0, high = 0;
#pragma unroll
    for (int i = 3; i >= 0; --i) {
        low = low * 64u + lp_nearest_e2m3(u[i]);
        high = high * 64u + lp_nearest_e2m3(u[4 + i]);
    }
    Codes s = signs8(raw);
    low = (low - LP_E2M1_BASE * 0x41041u) | sixes(s.lo);
    high = (high - LP_E2M1_BASE * 0x41041u) | sixes(s.hi);
    c.lo = low | high << 24;
    c.hi = high >> 8;
#elif LP_E2M1_PAIRS
    c.lo = codes_e2m1(u, w, least);
#elif LP_SR
    lp_u32 y[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) { /* 2^23 + the word, and 65536 u, truncated: all below 2^24 */
        lp_u32 word = i & 1 ? (w[i / 2] >> 16) + 0x4B000000u : permuted(w[i / 2], b.upper, 0x5410u);
        y[i] = lp_bits(LP_SCALE_ADD_RZ(u[i], 65536.0f, lp_float(word)));
    }
    c = bytes8(y, 2);
    Codes s = signs8(raw, 0xFDB9u);
    c.lo = signed_bytes(c.lo, s.lo, filled.lo);
    c.hi = signed_bytes(c.hi, s.hi, filled.hi);
#else
    lp_u32 y[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) y[i] = lp_bits(lp_add(u[i], 12582912.0f));
    c = bytes8(y, 0);
#endif
    return c;
}

#include "counts.cuh"

/* Sixteen codes. */
LPREF_FN void store16(lp_u8 *p, const Codes &c, const Codes &d) {
#if LP_BITS == 8
    stream16(p, c.lo, c.hi, d.lo, d.hi);
#elif LP_BITS == 6
    stream4(p, c.lo);
    stream4(p + 4, c.hi | d.lo << 16);
    stream4(p + 8, d.lo >> 16 | d.hi << 16);
#else
    stream8(p, c.lo, d.lo);
#endif
}

#if LP_POWER && LP_PAIRS && LP_SR8
/* Stochastic FP8 of bfloat16 under a power of two: a normal element drops 7 - M bits, so the carry of its pattern and the upper bits of the word
 * is all there is to the rounding, and pairs round together. Are all sixteen normal? */
LPREF_FN int encode16_normal(Codes *c, Codes *d, const Sixteen &x, const Magnitudes &r, const Block &b, const lp_u32 *w) {
    const lp_u32 least = (lp_u32)(127 + LP_EMIN) * 0x00800080u, drop = 7 - LP_TRAILING, kept = 0x00010001u * (0xFFFFu & ~(0xFFFFu >> drop));
    lp_u32 p[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) p[i] = pair_mul(__vminu2(r.m[i], b.most2), b.factor2);
    lp_u32 low = __vminu2(__vimin3_u16x2(__vimin3_u16x2(p[0], p[1], p[2]), p[6], p[7]), __vimin3_u16x2(p[3], p[4], p[5]));
#pragma unroll
    for (int i = 0; i < 8; ++i) p[i] = (p[i] + ((w[i] & kept) >> (16 - drop))) * (2u << LP_TRAILING);
    Codes s = signs8(x.a), t = signs8(x.b);
    c->lo = ((permuted(p[0], p[1], 0x7531u) ^ 0x40404040u) & 0x7F7F7F7Fu) | (s.lo & 0x80808080u);
    c->hi = ((permuted(p[2], p[3], 0x7531u) ^ 0x40404040u) & 0x7F7F7F7Fu) | (s.hi & 0x80808080u);
    d->lo = ((permuted(p[4], p[5], 0x7531u) ^ 0x40404040u) & 0x7F7F7F7Fu) | (t.lo & 0x80808080u);
    d->hi = ((permuted(p[6], p[7], 0x7531u) ^ 0x40404040u) & 0x7F7F7F7Fu) | (t.hi & 0x80808080u);
    return (((low | 0x80008000u) - least) & 0x80008000u) == 0x80008000u;
}
#endif

/* zeros: may an element of the source be zero? Who knows it of many at once spares the others the question. */
LPREF_FN void code16_plain(Codes &c, Codes &d, const Sixteen &x, const Magnitudes &r, const Block &b, const lp_u32 *w, Seen &seen, int zeros = 1) {
#if LP_POWER && LP_PAIRS && LP_SR8
    int normal = encode16_normal(&c, &d, x, r, b, w);
#else
    const int normal = 0;
#endif
    lp_u32 least = LP_E2M1_PAIRS ? 0x7C007C00u : LP_INF;
    Codes f = {0u, 0u}, g = {0u, 0u};
    if (!normal) {
        c = encode8_plain(x.a, r.m, b, w, least, f);
        d = encode8_plain(x.b, r.m + 4, b, w + (LP_PAIRED ? 4 : LP_SR / 4), least, g);
    }
    count_over(seen, x, r, b);
    if (!normal) count_under(seen, x, r, LP_INTEGER && LP_SR ? f : c, LP_INTEGER && LP_SR ? g : d, least, zeros);
}

LPREF_FN void put16_plain(lp_u8 *codes, const Sixteen &x, const Magnitudes &r, const Block &b, const lp_u32 *w, Seen &seen) {
    Codes c, d;
    code16_plain(c, d, x, r, b, w, seen);
    store16(codes, c, d);
}

/* Sixteen elements to codes, and counted, by the short way or by the long one. over: may_overflow; w: words16; zeros: code16_plain. */
LPREF_FN void code16(Codes &c, Codes &d, const Sixteen &x, const Magnitudes &r, const lp_scale &s, const Block &b, int plain, int over, const lp_u32 *w, Seen &seen,
                     int zeros = 1) {
#if LP_QUICK
    if (plain) {
        code16_plain(c, d, x, r, b, w, seen, zeros);
        return;
    }
#if LP_POWER
    c.lo = c.hi = d.lo = d.hi = 0u; /* what is not plain is dead */
    return;
#endif
#endif
    int dead = s.value != s.value;
#if LP_PAIRED
    Words one = {{w[0] | w[1] << 8, w[2] | w[3] << 8, 0u, 0u}}, two = {{w[4] | w[5] << 8, w[6] | w[7] << 8, 0u, 0u}};
#else
    Words one = {{w[0], w[1], w[2], w[3]}}, two = {{w[LP_SR / 4], w[LP_SR / 4 + 1], w[6], w[7]}};
#endif
    c = code8(elements8(x.a), s, dead, b.factor, over, one, seen);
    d = code8(elements8(x.b), s, dead, b.factor, over, two, seen);
}

/* The same; what only the long way asks for is found on it. */
LPREF_FN void code16_of(Codes &c, Codes &d, const Sixteen &x, const Magnitudes &r, lp_u32 top, const lp_scale &s, const Block &b, int plain, const lp_u32 *w, Seen &seen) {
#if LP_QUICK
    if (plain) {
        code16_plain(c, d, x, r, b, w, seen);
        return;
    }
#endif
    code16(c, d, x, r, s, b, 0, may_overflow(top, b.factor), w, seen);
}

/* The same, stored. */
LPREF_FN void put16(lp_u8 *codes, const Sixteen &x, const Magnitudes &r, const lp_scale &s, const Block &b, int plain, int over, const lp_u32 *w, Seen &seen,
                    int zeros = 1) {
    Codes c, d;
    code16(c, d, x, r, s, b, plain, over, w, seen, zeros);
    store16(codes, c, d);
}

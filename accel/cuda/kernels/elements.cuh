/* Eight neighbouring elements of one thread to codes, with everything about the quantizer in constants (-D at compilation).
 *
 *   LP_IN       source.cuh
 *   LP_INTEGER  0 floats: LP_TRAILING, LP_EMIN, LP_MAX; 1 integers: LP_LOW, LP_HIGH        LP_BITS, LP_NAN_CODE (0: none)
 *   LP_SR       0 nearest even, 8 or 16 bits of an in-kernel word
 *   LP_CVT      1: cvt.satfinite makes this format's codes (its NaN is 0x7F, or no element is NaN); 2: those of all but NaN
 *   LP_DIVIDE, LP_MULTIPLIER    how an element meets its factor
 *   LP_OVER                     float32 bits: |u| above this has overflowed
 *
 * Why it is written so (one H200): 16-byte loads, four of them in flight for each thread; the pass has about 20 instructions an element before
 * arithmetic, not memory, is the limit, so FP8 to nearest goes through cvt.satfinite, two elements an instruction, and E2M1 through three
 * multiply-adds; the counts of lost and overflowed elements are taken from packed codes, and only where there are any. */
#include "eight.cuh"
#include "element.h"
#include "philox.h"
#include "scales.h"
#include "tally.cuh"

#define LP_FP4 (!LP_INTEGER && LP_BITS == 4 && LP_TRAILING == 1 && LP_EMIN == 0)
#define LP_FP6 (!LP_INTEGER && LP_BITS == 6 && LP_TRAILING == 3 && LP_EMIN == 0)
#define LP_FP8_SHORT (!LP_INTEGER && !LP_SR && LP_BITS == 8 && LP_CVT && __CUDA_ARCH__ >= 890) /* of numbers */
#define LP_FP8_CVT (LP_FP8_SHORT && LP_CVT == 1)

/* What the eight become: 8-bit codes in lo, hi; 6-bit ones as 48 bits; 4-bit ones in lo. */
struct Codes {
    lp_u32 lo, hi;
};

struct Words {
    lp_u32 w[4];
};

#if LP_SR == 8
LPREF_FN lp_u32 word_at(const Words &w, int i) { return (w.w[i >> 2] >> (8 * (i & 3))) & 255u; }
#elif LP_SR == 16
LPREF_FN lp_u32 word_at(const Words &w, int i) { return (w.w[i >> 1] >> (16 * (i & 1))) & 65535u; }
#else
LPREF_FN lp_u32 word_at(const Words &w, int i) { return 0u; }
#endif

#if LP_FP4
LPREF_FN lp_u32 signs4(const Eight &e) {
#if LP_IN
    lp_u32 even = __byte_perm(__byte_perm(e.raw[0], e.raw[1], 0x0051), __byte_perm(e.raw[2], e.raw[3], 0x0051), 0x5410);
    lp_u32 odd = __byte_perm(__byte_perm(e.raw[0], e.raw[1], 0x0073), __byte_perm(e.raw[2], e.raw[3], 0x0073), 0x5410);
#else
    lp_u32 b[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) b[i] = lp_bits(e.v[i]);
    lp_u32 even = __byte_perm(__byte_perm(b[0], b[2], 0x0073), __byte_perm(b[4], b[6], 0x0073), 0x5410);
    lp_u32 odd = __byte_perm(__byte_perm(b[1], b[3], 0x0073), __byte_perm(b[5], b[7], 0x0073), 0x5410);
#endif
    return ((even & 0x80808080u) >> 4) | (odd & 0x80808080u);
}
#endif

#if LP_FP8_SHORT
LPREF_FN lp_u32 cvt2(float low, float high) {
    lp_u16 r;
#if LP_TRAILING == 3
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(r) : "f"(high), "f"(low));
#else
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(r) : "f"(high), "f"(low));
#endif
    return r;
}
#endif

/* What elements are multiplied with (LP_DIVIDE: divided by); x / 2^e = x 2^-e, one rounding of one number. */
LPREF_FN float element_factor(const lp_scale &s) {
#if LP_RULE == 2
    return lp_float(lp_umax((254u - lp_umin(s.code, 254u)) << 23, 0x00400000u));
#else
    return s.factor;
#endif
}

/* u of an element: the scaled value */
LPREF_FN float scaled(float v, float factor) {
#if LP_DIVIDE
    float u = lp_div(v, factor);
#else
    float u = lp_mul(v, factor);
#endif
#ifdef LP_MULTIPLIER
    u = lp_mul(u, LP_MULTIPLIER);
#endif
    return u;
}

LPREF_FN lp_u32 one_code(float u, lp_u32 word) {
#if LP_INTEGER && LP_SR
    lp_u32 c = lp_stochastic_int(u, LP_LOW, LP_HIGH, LP_BITS, word, LP_SR);
#elif LP_INTEGER
    lp_u32 c = lp_nearest_int(u, LP_LOW, LP_HIGH, LP_BITS);
#elif LP_SR
    lp_u32 c = lp_stochastic_float(u, LP_TRAILING, LP_EMIN, lp_float(LP_MAX), LP_BITS, word, LP_SR);
#else
    lp_u32 c = lp_nearest_float(u, LP_TRAILING, LP_EMIN, lp_float(LP_MAX), LP_BITS);
#endif
#if LP_NAN_CODE
    c = u != u ? LP_NAN_CODE : c;
#endif
    return c;
}

LPREF_FN Codes packed(const lp_u32 *c) {
    Codes r;
#if LP_BITS == 8
    r.lo = __byte_perm(__byte_perm(c[0], c[1], 0x0040), __byte_perm(c[2], c[3], 0x0040), 0x5410);
    r.hi = __byte_perm(__byte_perm(c[4], c[5], 0x0040), __byte_perm(c[6], c[7], 0x0040), 0x5410);
#elif LP_BITS == 6
    lp_u32 a = c[0] | c[1] << 6 | c[2] << 12 | c[3] << 18, b = c[4] | c[5] << 6 | c[6] << 12 | c[7] << 18;
    r.lo = a | b << 24;
    r.hi = b >> 8;
#else
    r.lo = c[0] | c[1] << 4 | c[2] << 8 | c[3] << 12 | c[4] << 16 | c[5] << 20 | c[6] << 24 | c[7] << 28;
    r.hi = 0;
#endif
    return r;
}

LPREF_FN Codes encode8(const Eight &e, float factor, const Words &w, int over) {
#if LP_FP4 && LP_SR != 16
    lp_u32 p = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#if LP_SR
        lp_u32 q = ((lp_stochastic_e2m1(fabsf(scaled(e.v[i], factor))) + word_at(w, i) + 0x700u) >> 8) & 7u;
        p |= q << (4 * i);
#else
        p += lp_nearest_e2m1(fabsf(scaled(e.v[i], factor))) << (4 * i);
#endif
    }
#if !LP_SR
    p -= LP_E2M1_BASE * 0x11111111u;
#endif
    Codes r = {p | signs4(e), 0};
    return r;
#elif LP_FP8_CVT
    lp_u32 t[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) t[i] = cvt2(scaled(e.v[2 * i], factor), scaled(e.v[2 * i + 1], factor));
    Codes r = {t[0] | t[1] << 16, t[2] | t[3] << 16};
    return r;
#else
    lp_u32 c[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) c[i] = one_code(scaled(e.v[i], factor), word_at(w, i));
    return packed(c);
#endif
}

/* how many of the eight codes are not zero */
LPREF_FN lp_u32 nonzero(const Codes &c) {
#if LP_BITS == 8 && LP_INTEGER
    lp_u32 a = (((c.lo & 0x7F7F7F7Fu) + 0x7F7F7F7Fu) | c.lo) & 0x80808080u, b = (((c.hi & 0x7F7F7F7Fu) + 0x7F7F7F7Fu) | c.hi) & 0x80808080u;
    return __popc(a) + __popc(b);
#elif LP_BITS == 8
    lp_u32 a = ((c.lo & 0x7F7F7F7Fu) + 0x7F7F7F7Fu) & 0x80808080u, b = ((c.hi & 0x7F7F7F7Fu) + 0x7F7F7F7Fu) & 0x80808080u;
    return __popc(a) + __popc(b);
#elif LP_BITS == 4
    lp_u32 p = LP_INTEGER ? c.lo | (c.lo >> 3 & 0x11111111u) : c.lo;
    return __popc((p | p >> 1 | p >> 2) & 0x11111111u);
#else
    lp_u64 p = (lp_u64)c.hi << 32 | c.lo;
    lp_u32 n = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) n += ((p >> (6 * i)) & (LP_INTEGER ? 63u : 31u)) != 0;
    return n;
#endif
}

LPREF_FN void store8(lp_u8 *codes, lp_i64 i, const Codes &c) {
#if LP_BITS == 8
    stream8(codes + i, c.lo, c.hi);
#elif LP_BITS == 6
    lp_u16 *p = (lp_u16 *)(codes + i / 4 * 3);
    p[0] = (lp_u16)c.lo;
    p[1] = (lp_u16)(c.lo >> 16);
    p[2] = (lp_u16)c.hi;
#else
    stream4(codes + i / 2, c.lo);
#endif
}

/* What a thread has seen; `flush` adds it to the counters. */
struct Seen {
    lp_u32 over, under, top;
    float many; /* more that overflowed: at most 2^24 */
};

/* how many of the eight elements are not zero */
LPREF_FN lp_u32 alive(const Eight &e) {
#if LP_IN
    lp_u32 flags = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) flags |= (((e.raw[i] & 0x7FFF7FFFu) + 0x7FFF7FFFu) & 0x80008000u) >> i;
    return __popc(flags);
#else
    lp_u32 n = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) n += (lp_bits(e.v[i]) & LP_ABS) != 0;
    return n;
#endif
}

/* may any element under this factor overflow, when `top` is the largest magnitude? */
LPREF_FN int may_overflow(lp_u32 top, float factor) { return top >= LP_INF || fabsf(scaled(lp_float(top), factor)) > lp_float(LP_OVER); }

/* over: may_overflow. vanished: the scale is 0. Blocks that decode to NaN are not counted. */
LPREF_FN void count(Seen &seen, const Eight &e, float factor, int dead, int vanished, int over, const Codes &c) {
    if (dead) return;
    if (over) {
#pragma unroll
        for (int i = 0; i < 8; ++i) seen.over += (lp_bits(e.v[i]) & LP_ABS) < LP_INF && fabsf(scaled(e.v[i], factor)) > lp_float(LP_OVER);
    }
    lp_u32 left = vanished ? 0u : nonzero(c);
    if (left != 8u) seen.under += alive(e) - left;
}

/* Where the words of a tensor begin (lpref.ref.random.WordAddress): `first` is the Philox block of its first word; a tensor's blocks have the same
 * upper half of their number. The step is read from memory, because a captured step is repeated under another one. The round keys are parameters,
 * which instructions read for nothing. */
#if LP_SR
#define LP_STEP *step
#else
#define LP_STEP 0u
#endif
#define LP_WORDS                                                                                                                           \
    lp_u64 first, const lp_u32 *step, lp_u32 stream, lp_u64 key0, lp_u64 key1, lp_u64 key2, lp_u64 key3, lp_u64 key4, lp_u64 key5, lp_u64 key6, \
        lp_u64 key7, lp_u64 key8, lp_u64 key9
#define LP_ADDRESS {(lp_u32)first, (lp_u32)(first >> 32), LP_STEP, stream, {{key0, key1, key2, key3, key4, key5, key6, key7, key8, key9}}}
struct Address {
    lp_u32 first, high, step, stream;
    lp_keys keys;
};

LPREF_FN lp_block128 block_of(const Address &a, lp_u32 number) { return lp_philox_keyed(a.first + number, a.high, a.step, a.stream, &a.keys); }

/* the words of elements 8 at .. 8 at + 7 */
LPREF_FN Words words8(const Address &a, lp_i64 at) {
    Words w = {};
#if LP_SR
    lp_block128 b = block_of(a, (lp_u32)(LP_SR == 8 ? at >> 1 : at));
    int half = LP_SR == 8 && (at & 1);
    w.w[0] = half ? b.w[2] : b.w[0];
    w.w[1] = half ? b.w[3] : b.w[1];
    w.w[2] = b.w[2];
    w.w[3] = b.w[3];
#endif
    return w;
}

/* Eight elements under a scale: codes, and counted. dead: s.value is NaN, the codes are those of zero. factor: element_factor. */
LPREF_FN Codes code8(const Eight &e, const lp_scale &s, int dead, float factor, int over, const Words &w, Seen &seen) {
    Codes c = encode8(e, factor, w, over);
    if (dead) c.lo = c.hi = 0;
    count(seen, e, factor, dead, s.value == 0.0f, over, c);
    return c;
}

/* Elements 8 at .. 8 at + 7, stored. */
LPREF_FN void put8(lp_u8 *codes, lp_i64 at, const Eight &e, const lp_scale &s, int dead, float factor, int over, const Words &w, Seen &seen) {
    store8(codes, 8 * at, code8(e, s, dead, factor, over, w, seen));
}

LPREF_FN void flush(const Seen &seen, lp_u64 *counters) { lp_tally(seen.over + (lp_u32)seen.many, seen.under, seen.top, 0u, counters); }

/* Sixteen neighbouring elements of one thread: loads, random words, magnitudes and their extremes; bfloat16 in pairs. Macros: elements.cuh.
 *
 * Two loads of 16 bytes touch the same sectors, so they go through the first cache; in return the codes of a warp leave in full lines. */
#include "elements.cuh"

#define LP_PAIRS (LP_IN == 1 && __CUDA_ARCH__ >= 900)

struct Sixteen {
    Raw a, b;
};

#define PER_UNIT (LP_IN ? 2 : 4) /* loads of 16 bytes */

LPREF_FN Sixteen load16th(const lp_16 *p) {
    Sixteen s;
#if LP_IN
    s.a.a = cached16(p);
    s.b.a = cached16(p + 1);
#else
    s.a.a = cached16(p);
    s.a.b = cached16(p + 1);
    s.b.a = cached16(p + 2);
    s.b.b = cached16(p + 3);
#endif
    return s;
}

#ifdef LP_UNROLL
/* LP_UNROLL sixteens, LP_THREADS apart */
LPREF_FN void load_units(Sixteen *x, const lp_16 *p) {
#pragma unroll
    for (int j = 0; j < LP_UNROLL; ++j) x[j] = load16th(p + j * (LP_THREADS * PER_UNIT));
}
#endif

/* The random words of sixteen neighbours. */
LPREF_FN void words16(lp_u32 *w, const Address &a, lp_u32 unit) {
#pragma unroll
    for (int i = 0; i < 8; ++i) w[i] = 0u;
#if LP_SR
    lp_block128 b = block_of(a, LP_SR == 8 ? unit : unit * 2u);
#pragma unroll
    for (int i = 0; i < 4; ++i) w[i] = b.w[i];
#endif
#if LP_SR == 16
    b = block_of(a, unit * 2u + 1u);
#pragma unroll
    for (int i = 0; i < 4; ++i) w[4 + i] = b.w[i];
#endif
}

/* Magnitudes of sixteen, for 16-bit sources, in pairs. */
struct Magnitudes {
    lp_u32 m[8];
};

LPREF_FN Magnitudes magnitudes(const Sixteen &x) {
    Magnitudes r = {};
#if LP_IN
    const lp_u32 *a = &x.a.a.x, *b = &x.b.a.x;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        lp_u32 v = i < 4 ? a[i] : b[i - 4];
#if LP_PAIRS
        asm("abs.bf16x2 %0, %1;" : "=r"(r.m[i]) : "r"(v)); /* on the float pipe; NaN stays above infinity */
#else
        r.m[i] = v & 0x7FFF7FFFu;
#endif
    }
#endif
    return r;
}

/* as `largest` */
LPREF_FN lp_u32 largest16(const Sixteen &x, const Magnitudes &r) {
#if LP_IN
    lp_u32 a = __vimax3_u16x2(r.m[0], r.m[1], r.m[2]), b = __vimax3_u16x2(r.m[3], r.m[4], r.m[5]);
    return __vmaxu2(__vimax3_u16x2(a, r.m[6], r.m[7]), b);
#else
    return larger(largest(x.a), largest(x.b));
#endif
}

/* is neither half zero? */
LPREF_FN int both_alive(lp_u32 least) { return ((least + 0x7FFF7FFFu) & 0x80008000u) == 0x80008000u; }

#if LP_IN
/* the smallest magnitudes of the even and of the odd ones, in halves */
LPREF_FN lp_u32 least16(const Magnitudes &r) {
    lp_u32 a = __vimin3_u16x2(r.m[0], r.m[1], r.m[2]), b = __vimin3_u16x2(r.m[3], r.m[4], r.m[5]);
    return __vminu2(__vimin3_u16x2(a, r.m[6], r.m[7]), b);
}
LPREF_FN lp_u32 smaller(lp_u32 a, lp_u32 b) { return __vminu2(a, b); }
#else
LPREF_FN lp_u32 least(const Raw &r) {
    lp_u32 a = lp_nearer(lp_nearer(r.a.x, r.a.y), lp_nearer(r.a.z, r.a.w));
    return lp_nearer(a, lp_nearer(lp_nearer(r.b.x, r.b.y), lp_nearer(r.b.z, r.b.w)));
}
#endif

/* Is no element zero? Of numbers. */
LPREF_FN int all_alive(const Sixteen &x, const Magnitudes &r) {
#if LP_IN
    return both_alive(least16(r));
#else
    return lp_float(lp_nearer(least(x.a), least(x.b))) > 0.0f;
#endif
}

/* Pairs of bfloat16. */
#if LP_PAIRS
LPREF_FN lp_u32 pair_mul(lp_u32 a, lp_u32 b) {
    lp_u32 r;
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
LPREF_FN lp_u32 pair_add(lp_u32 a, lp_u32 b) {
    lp_u32 r;
    asm("add.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
/* 1 where a > b */
LPREF_FN lp_u32 pair_above(lp_u32 a, lp_u32 b) {
    lp_u32 r;
    asm("set.gt.bf16x2.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
#endif

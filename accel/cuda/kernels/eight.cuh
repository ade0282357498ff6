/* Eight neighbouring elements of one thread: loads of 16 bytes, float32 values, the largest magnitude. LP_IN: source.cuh. */
#include "source.cuh"

struct Eight {
    float v[8];
#if LP_IN
    lp_u32 raw[4];
#endif
};

#ifdef __CUDACC_RTC__
LPREF_FN lp_16 load16(const lp_16 *p) {
    lp_16 r;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(p));
    return r;
}

/* for sectors that a neighbouring load of the same thread reads too */
LPREF_FN lp_16 cached16(const lp_16 *p) {
    lp_16 r;
    asm volatile("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(p));
    return r;
}

/* stores of what is not read again soon; LP_PARTS: of parts of lines, which wait in the second cache for the other parts */
#ifdef LP_PARTS
#define STORE "st.global"
#else
#define STORE "st.global.cs"
#endif
LPREF_FN void stream4(lp_u8 *p, lp_u32 a) { asm volatile(STORE ".u32 [%0], %1;" ::"l"(p), "r"(a) : "memory"); }
LPREF_FN void stream8(lp_u8 *p, lp_u32 a, lp_u32 b) { asm volatile(STORE ".v2.u32 [%0], {%1,%2};" ::"l"(p), "r"(a), "r"(b) : "memory"); }
LPREF_FN void stream16(lp_u8 *p, lp_u32 a, lp_u32 b, lp_u32 c, lp_u32 d) {
    asm volatile(STORE ".v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(p), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}

/* bytes of b:a by four-bit selectors; the upper bit of a selector asks for the byte's sign, eight times */
LPREF_FN lp_u32 permuted(lp_u32 a, lp_u32 b, lp_u32 order) {
    lp_u32 r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(order));
    return r;
}
#else
LPREF_FN lp_16 load16(const lp_16 *p) { return *p; }
LPREF_FN lp_16 cached16(const lp_16 *p) { return *p; }
LPREF_FN void stream4(lp_u8 *p, lp_u32 a) { *(lp_u32 *)p = a; }
LPREF_FN void stream8(lp_u8 *p, lp_u32 a, lp_u32 b) { stream4(p, a), stream4(p + 4, b); }
LPREF_FN void stream16(lp_u8 *p, lp_u32 a, lp_u32 b, lp_u32 c, lp_u32 d) { stream8(p, a, b), stream8(p + 8, c, d); }
LPREF_FN lp_u32 permuted(lp_u32 a, lp_u32 b, lp_u32 order) {
    lp_u32 r = 0;
    for (lp_u32 i = 0; i < 32; i += 8, order >>= 4) {
        lp_u32 byte = (lp_u32)(((lp_u64)b << 32 | a) >> (order & 7u) * 8u) & 255u;
        r |= (order & 8u ? 0u - (byte >> 7) & 255u : byte) << i;
    }
    return r;
}
#endif

struct Raw {
#if LP_IN
    lp_16 a;
#else
    lp_16 a, b;
#endif
};

LPREF_FN Raw load8(const void *x, lp_i64 i) {
    Raw r;
#if LP_IN
    r.a = load16((const lp_16 *)((const lp_u16 *)x + i));
#else
    r.a = load16((const lp_16 *)((const lp_u32 *)x + i));
    r.b = load16((const lp_16 *)((const lp_u32 *)x + i + 4));
#endif
    return r;
}

LPREF_FN Eight widen(const Raw &r) {
    Eight e;
#if LP_IN
    e.raw[0] = r.a.x; e.raw[1] = r.a.y; e.raw[2] = r.a.z; e.raw[3] = r.a.w;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#if LP_IN == 1
        e.v[2 * i] = lp_float(e.raw[i] << 16);
        e.v[2 * i + 1] = lp_float(e.raw[i] & 0xFFFF0000u);
#else
        e.v[2 * i] = of_half(e.raw[i] & 0xFFFFu);
        e.v[2 * i + 1] = of_half(e.raw[i] >> 16);
#endif
    }
#else
    e.v[0] = lp_float(r.a.x); e.v[1] = lp_float(r.a.y); e.v[2] = lp_float(r.a.z); e.v[3] = lp_float(r.a.w);
    e.v[4] = lp_float(r.b.x); e.v[5] = lp_float(r.b.y); e.v[6] = lp_float(r.b.z); e.v[7] = lp_float(r.b.w);
#endif
    return e;
}

/* The largest magnitude of the eight; for 16-bit sources of the even and of the odd ones, in halves, until `settled`. */
LPREF_FN lp_u32 largest(const Raw &r) {
#if LP_IN
    return __vmaxu2(__vmaxu2(r.a.x & 0x7FFF7FFFu, r.a.y & 0x7FFF7FFFu), __vmaxu2(r.a.z & 0x7FFF7FFFu, r.a.w & 0x7FFF7FFFu));
#else
    lp_u32 a = lp_farther(lp_farther(r.a.x, r.a.y), lp_farther(r.a.z, r.a.w));
    return lp_farther(a, lp_farther(lp_farther(r.b.x, r.b.y), lp_farther(r.b.z, r.b.w)));
#endif
}

#if LP_IN
LPREF_FN lp_u32 larger(lp_u32 a, lp_u32 b) { return __vmaxu2(a, b); }
LPREF_FN lp_u32 settled(lp_u32 top) { return widened(lp_umax(top & 0xFFFFu, top >> 16)); } /* float32 bits */
#else
LPREF_FN lp_u32 larger(lp_u32 a, lp_u32 b) { return lp_umax(a, b); }
LPREF_FN lp_u32 settled(lp_u32 top) { return top; }
#endif

/* bfloat16 on the tensor cores: pairs of numbers in a word, the fragments of a warp, one multiplication; and 2^x of the special function unit.
 *
 * A fragment of m16n8k16: lane 4 g + q has of A rows g and g + 8, of B column g, of the sum rows g and g + 8 and columns 2 q, 2 q + 1
 * (PTX ISA, "Matrix Fragments for mma.m16n8k16"). Without a GPU the same functions are gpu.h's. */
#include "short.cuh"
#include "copies.cuh"

typedef struct __align__(16) { float x, y, z, w; } lp_f4;
typedef struct __align__(8) { float x, y; } lp_f2;

LPREF_FN float low(lp_u32 pair) { return lp_float(pair << 16); }
LPREF_FN float high(lp_u32 pair) { return lp_float(pair & 0xFFFF0000u); }

/* What is left of x0 and x1 after the pair h = pack(x0, x1), to nearest even: the differences are exact. */
LPREF_FN lp_u32 rest(float x0, float x1, lp_u32 h) { return pack(lp_sub(x0, low(h)), lp_sub(x1, high(h))); }

/* 2^x within 2 units in the last place, results below 2^-126 as +0 (PTX ISA, ex2.approx.ftz.f32) */
LPREF_FN float power(float x) {
#ifdef __CUDACC_RTC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

/* sum (16 x 8 of a warp) += a (16 x 16) b (16 x 8) */
LPREF_FN void multiply(float *sum, const lp_u32 *a, const lp_u32 *b) {
#ifdef __CUDACC_RTC__
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    gpu::multiply_bf16(sum, a, b);
#endif
}

/* Four 8 x 8 matrices; lane 8 i + r says where row r of the i-th is (16 bytes). Lane 4 g + q gets row g, columns 2 q and 2 q + 1; TURNED: those rows
 * of column g. */
template <bool TURNED> LPREF_FN void matrices(lp_u32 *to, const lp_u16 *row) {
#ifndef __CUDACC_RTC__
    gpu::matrices(to, row, TURNED);
#else
    lp_u32 at = (lp_u32)__cvta_generic_to_shared(row);
    if (TURNED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at));
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at));
#endif
}

/* One instruction of the integer tensor cores: sum (16 x 8 of a warp) += a (16 x WIDE) b (WIDE x 8), int8 and int32, WIDE 16 or 32 by LP_PIECE. */
#include "vectors.cuh"

#if defined(LP_PIECE) && LP_PIECE == 16
#define WIDE 16
#else
#define WIDE 32
#endif

LPREF_FN void multiply(int *sum, const lp_u32 *a, const lp_u32 *b) {
#ifndef __CUDACC_RTC__
    gpu::multiply<WIDE>(sum, a, b);
#elif WIDE == 16
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
#else
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

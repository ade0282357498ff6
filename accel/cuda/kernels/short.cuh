/* float32 to bfloat16, nearest even. */
#ifndef SHORT_CUH
#define SHORT_CUH
#include "base.h"

/* the 16 bits of v rounded to nearest even; overflow is infinity, NaN one NaN */
LPREF_FN lp_u32 short_bits(float v) {
    lp_u32 b = lp_bits(v);
    return v != v ? 0x7FC0u : (b + 0x7FFFu + (b >> 16 & 1u)) >> 16;
}

/* the same of two, x0 in the lower half; what NaN becomes is another NaN */
LPREF_FN lp_u32 pack(float x0, float x1) {
#ifdef __CUDACC_RTC__
    lp_u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(x1), "f"(x0));
    return pair;
#else
    return short_bits(x0) | short_bits(x1) << 16;
#endif
}
#endif

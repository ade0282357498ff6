/* What a source is (LP_IN: 0 float32, 1 bfloat16, 2 binary16): one element, or sixteen bytes of it. */
#include "vectors.cuh"

/* float32 bits of 16 bits of the source */
LPREF_FN lp_u32 widened(lp_u32 half) {
#if LP_IN == 2
    return lp_bits(of_half(half));
#else
    return half << 16;
#endif
}

/* float32 bits of element i */
LPREF_FN lp_u32 source(const void *x, lp_i64 i) {
#if LP_IN
    return widened(((const lp_u16 *)x)[i]);
#else
    return ((const lp_u32 *)x)[i];
#endif
}

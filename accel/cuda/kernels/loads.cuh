/* Arrays that hold float32 values as float32 (KIND 0) or as bfloat16 (1): one element, or four side by side, and the way back to nearest even.
 * LP_X, LP_DY, LP_Y: the kinds of what kernels usually read, of gradients and of results; float32 where a module is not told. */
#ifndef LOADS_CUH
#define LOADS_CUH
#include "short.cuh"

#ifndef LP_X
#define LP_X 0
#endif
#ifndef LP_DY
#define LP_DY 0
#endif
#ifndef LP_Y
#define LP_Y 0
#endif

template <int KIND> LPREF_FN float load(const void *x, lp_i64 i) {
    if constexpr (KIND == 1) return lp_float((lp_u32)((const lp_u16 *)x)[i] << 16);
    else return ((const float *)x)[i];
}

/* elements 4 i .. 4 i + 3 of an array that begins at a multiple of 16 bytes */
template <int KIND> LPREF_FN float4 load4(const void *x, lp_i64 i) {
    if constexpr (KIND == 1) {
        uint2 h = ((const uint2 *)x)[i];
        float4 v = {lp_float(h.x << 16), lp_float(h.x & 0xFFFF0000u), lp_float(h.y << 16), lp_float(h.y & 0xFFFF0000u)};
        return v;
    } else {
        return ((const float4 *)x)[i];
    }
}

template <int KIND> LPREF_FN void store(void *y, lp_i64 i, float v) {
    if constexpr (KIND == 1) ((lp_u16 *)y)[i] = (lp_u16)short_bits(v);
    else ((float *)y)[i] = v;
}
#endif

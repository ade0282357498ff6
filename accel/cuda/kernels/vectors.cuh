/* What is loaded or stored at once. */
#ifndef LPREF_VECTORS
#define LPREF_VECTORS
#include "base.h"

typedef struct __align__(8) { lp_u32 x, y; } lp_8;
typedef struct __align__(16) { lp_u32 x, y, z, w; } lp_16;

/* float32 of a binary16 */
LPREF_FN float of_half(lp_u32 h) {
    float f;
    asm("{.reg .b16 t; cvt.u16.u32 t, %1; cvt.f32.f16 %0, t;}" : "=f"(f) : "r"(h));
    return f;
}
#endif

/* What is loaded or stored at once. */
#ifndef LPREF_VECTORS
#define LPREF_VECTORS
#include "base.h"

typedef struct __align__(8) { lp_u32 x, y; } lp_8;
typedef struct __align__(16) { lp_u32 x, y, z, w; } lp_16;
#endif

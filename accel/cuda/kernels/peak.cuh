/* The greatest magnitude of what a kernel writes, in a row of counters (tally.cuh), where LP_PEAK asks for it: a scale of the whole tensor then needs no
 * pass of its own. Bits of magnitudes, so that NaN wins and any order gives the same. */
#ifndef PEAK_CUH
#define PEAK_CUH
#include "base.h"
#include "tally.cuh"
#ifndef LP_PEAK
#define LP_PEAK 0
#endif

/* top <- with N numbers that are written */
template <int N> LPREF_FN void seen_in(lp_u32 &top, const float *v) {
#if LP_PEAK
#pragma unroll
    for (int k = 0; k < N; ++k) top = lp_umax(top, lp_bits(v[k]) & LP_ABS);
#endif
}

/* by every thread of the block */
LPREF_FN void noted(lp_u32 top, lp_u64 *counters) {
#if LP_PEAK
    lp_tally(0u, 0u, top, 0u, counters);
#endif
}
#endif

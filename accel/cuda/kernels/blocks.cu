/* blocks: 1 x K blocks along contiguous rows (MX, NVFP4, FP8 tiles, integer groups): amax, scale, codes and counts in one read.
 *
 * x is read as one run of n elements: rows end on whole blocks. Sixteen elements a thread, K / 16 lanes a block, amax by shuffles; the loop over
 * whole groups (LP_UNROLL sixteens a thread) has no bounds, what is left goes a sixteen a thread. What each idea bought is in bench/NOTES.md.
 *   LP_K, LP_RULE (scales.h) and those of elements.cuh. Grid: any. */
#include "block_scale.cuh"

#define LANES (LP_K / 16)

/* Sixteen elements of `unit`; bounded: units past the end have no output, and take part in nothing but shuffles. codes, scales: the unit's. */
template <bool bounded>
LPREF_FN void sixteen(const Sixteen &x, lp_u32 unit, lp_u32 units, lp_u8 *codes, lp_u8 *scales, const Shared &h, const Address &words, Seen &seen) {
    Magnitudes m = magnitudes(x);
    lp_u32 top = largest16(x, m);
#pragma unroll
    for (int d = 1; d < LANES; d *= 2) top = larger(top, __shfl_xor_sync(0xFFFFFFFFu, top, d));
    if (bounded && unit >= units) return;
    seen.top = larger(seen.top, top);
    top = settled(top);
    lp_scale s = scale_of(top, h);
    if (threadIdx.x % LANES == 0) {
#if LP_SCALE_BYTES == 4
        *(lp_u32 *)scales = s.code;
#else
        *scales = (lp_u8)s.code;
#endif
    }
    float factor = element_factor(s);
    lp_u32 w[8];
    words16(w, words, unit);
    put16(codes, x, m, s, short_block(s, factor), plain(top, s, factor), may_overflow(top, factor), w, seen);
}

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) blocks(const void *x, lp_u8 *codes, void *scales, float *tensor_scale, lp_i64 n, const lp_rule *rule,
    const lp_u32 *tensor_amax, lp_u64 *counters, LP_WORDS) {
    LP_FACTORS(factors);
    Shared h = scales_under(rule, tensor_amax, factors);
#if LP_RULE == 3 || LP_RULE == 4
    if (blockIdx.x == 0 && threadIdx.x == 0) *tensor_scale = h.t.tensor_scale;
#endif
    Address words = LP_ADDRESS;
    Seen seen = {0, 0, 0, 0.0f};
    lp_u32 units = (lp_u32)(n / 16), group = LP_THREADS * LP_UNROLL, whole = units / group * group;
    lp_u32 unit = blockIdx.x * group + threadIdx.x, stride = gridDim.x * group;
    const lp_16 *from = (const lp_16 *)x + (lp_i64)unit * PER_UNIT;
    lp_u8 *to = codes + (lp_i64)unit * (2 * LP_BITS), *scale = (lp_u8 *)scales + (lp_i64)(unit / LANES) * LP_SCALE_BYTES;
#if LP_AHEAD
    Sixteen next[LP_UNROLL];
    if (unit < whole) load_units(next, from);
#endif
    for (; unit < whole; unit += stride) {
        Sixteen now[LP_UNROLL];
#if LP_AHEAD
        from += (lp_i64)stride * PER_UNIT;
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) now[j] = next[j];
        if (unit + stride < whole) load_units(next, from);
#else
        load_units(now, from);
        from += (lp_i64)stride * PER_UNIT;
#endif
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) {
            lp_u32 at = j * LP_THREADS;
            sixteen<false>(now[j], unit + at, units, to + at * (2 * LP_BITS), scale + at / LANES * LP_SCALE_BYTES, h, words, seen);
        }
        to += (lp_i64)stride * (2 * LP_BITS);
        scale += (lp_i64)(stride / LANES) * LP_SCALE_BYTES;
    }
    for (lp_u32 base = whole + blockIdx.x * LP_THREADS; base < units; base += gridDim.x * LP_THREADS) {
        lp_u32 at = base + threadIdx.x, held = at < units ? at : 0u;
        lp_u8 *place = (lp_u8 *)scales + (lp_i64)(at / LANES) * LP_SCALE_BYTES;
        sixteen<true>(load16th((const lp_16 *)x + (lp_i64)held * PER_UNIT), at, units, codes + (lp_i64)at * (2 * LP_BITS), place, h, words, seen);
    }
    seen.top = settled(seen.top);
    flush(seen, counters);
}

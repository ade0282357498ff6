/* tensor: one scale for all elements, from an amax that is known: codes and counts in one read.
 *
 * n is a multiple of 8. Versions: 1. this one. Macros: elements.cuh. */
#include "tensor.cuh"

#if LP_QUICK
/* All whole sixteens of a tensor whose scale keeps every element in range. */
LPREF_FN void short_way(const void *x, lp_u8 *codes, lp_i64 n, const Block &b, const Address &words, Seen &seen) {
    lp_u32 units = (lp_u32)(n / 16), group = LP_THREADS * LP_UNROLL, whole = units / group * group;
    lp_u32 unit = blockIdx.x * group + threadIdx.x, stride = gridDim.x * group, w[8];
    const lp_16 *from = (const lp_16 *)x + (lp_i64)unit * PER_UNIT;
    lp_u8 *to = codes + (lp_i64)unit * (2 * LP_BITS);
    for (; unit < whole; unit += stride) {
        Sixteen now[LP_UNROLL];
        load_units(now, from);
        from += (lp_i64)stride * PER_UNIT;
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) {
            words16(w, words, unit + j * LP_THREADS);
            put16_plain(to + j * LP_THREADS * (2 * LP_BITS), now[j], magnitudes(now[j]), b, w, seen);
        }
        to += (lp_i64)stride * (2 * LP_BITS);
    }
    for (lp_u32 at = whole + blockIdx.x * LP_THREADS + threadIdx.x; at < units; at += gridDim.x * LP_THREADS) {
        Sixteen last = load16th((const lp_16 *)x + (lp_i64)at * PER_UNIT);
        words16(w, words, at);
        put16_plain(codes + (lp_i64)at * (2 * LP_BITS), last, magnitudes(last), b, w, seen);
    }
}
#endif

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) tensor(const void *x, lp_u8 *codes, lp_u32 *scale, lp_i64 n, const lp_rule *rule, const lp_u32 *amax,
    const float *encode_scale, int measured, lp_u64 *counters, LP_WORDS) {
    Whole of = whole_of(rule, amax, encode_scale, measured, scale);
    float factor = of.b.factor;
    int over = of.over;
    Address words = LP_ADDRESS;
    Seen seen = {0, 0, measured ? *amax : 0u, 0.0f};
    lp_i64 done = 0;
#if LP_QUICK
    if (of.plain) {
        short_way(x, codes, n, of.b, words, seen);
        done = n / 16 * 2;
    }
#endif
    lp_i64 chunks = n / 8, stride = (lp_i64)gridDim.x * blockDim.x * LP_UNROLL;
    for (lp_i64 base = done + (lp_i64)blockIdx.x * blockDim.x * LP_UNROLL; base < chunks; base += stride) {
        Raw raw[LP_UNROLL];
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) {
            lp_i64 at = base + j * blockDim.x + threadIdx.x;
            raw[j] = load8(x, 8 * (at < chunks ? at : 0));
        }
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) {
            lp_i64 at = base + j * blockDim.x + threadIdx.x;
            if (at >= chunks) continue;
            Eight e = widen(raw[j]);
            if (!measured) {
                lp_u32 own = settled(largest(raw[j]));
                seen.top = lp_umax(seen.top, own);
                over = may_overflow(own, factor);
            }
            put8(codes, at, e, of.s, of.dead, factor, over, words8(words, at), seen);
        }
    }
    flush(seen, counters);
}

/* tensor: one scale for all elements, from an amax that is known: codes and counts in one read.
 *
 * n is a multiple of 8. Versions: 1. this one. Macros: elements.cuh. */
#include "plain.cuh"

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
    lp_rule q = *rule;
    lp_nvfp4 t = {0.0f, 0.0f, 0.0f};
    lp_scale s;
    if (encode_scale) { /* delayed scaling: the state's S */
        s.factor = *encode_scale;
        s.value = lp_div(1.0f, s.factor);
        s.code = q.format == LP_E8M0 ? lp_e8m0_code(s.value) : lp_bits(s.value);
    } else {
        q.rule = LP_RULE;
#if LP_RULE == 2
        q.mode = LP_MODE;
#endif
        s = lp_block_scale(*amax, &q, &t);
    }
    int dead = s.value != s.value;
    float factor = element_factor(s);
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        if (LP_SCALE_BYTES == 4) *scale = s.code;
        else *(lp_u8 *)scale = (lp_u8)s.code;
    }
    int over = measured && may_overflow(*amax, factor);
    Address words = LP_ADDRESS;
    Seen seen = {0, 0, measured ? *amax : 0u, 0.0f};
    lp_i64 done = 0;
#if LP_QUICK
    if (measured && plain(*amax, s, factor)) {
        short_way(x, codes, n, short_block(s, factor), words, seen);
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
            put8(codes, at, e, s, dead, factor, over, words8(words, at), seen);
        }
    }
    flush(seen, counters);
}

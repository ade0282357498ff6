/* tensor: one scale for all elements, from an amax that is known: codes and counts in one read.
 *
 * n is a multiple of 8. Versions: 1. this one. Macros: elements.cuh. */
#include "elements.cuh"

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) tensor(const void *x, lp_u8 *codes, lp_u32 *scale, lp_i64 n, const lp_rule *rule, const lp_u32 *amax,
    const float *encode_scale, int measured, lp_u64 *counters, lp_u64 start, lp_u32 step, lp_u32 stream, lp_u32 seed_lo, lp_u32 seed_hi) {
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
    Address words = {start, step, stream, seed_lo, seed_hi};
    Seen seen = {0, 0, measured ? *amax : 0u};
    lp_i64 chunks = n / 8, stride = (lp_i64)gridDim.x * blockDim.x * LP_UNROLL;
    for (lp_i64 base = (lp_i64)blockIdx.x * blockDim.x * LP_UNROLL; base < chunks; base += stride) {
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

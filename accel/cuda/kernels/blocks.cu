/* blocks: 1 x K blocks along contiguous rows (MX, NVFP4, FP8 tiles, integer groups): amax, scale, codes and counts in one read.
 *
 * x is read as one run of n elements: rows end on whole blocks. Eight elements a thread, K / 8 lanes a block, amax by shuffles.
 * Versions: 1. this one. What each idea bought is in bench/NOTES.md.
 *   LP_K, LP_RULE (scales.h) and those of elements.cuh. Grid: any; a grid-stride loop over groups of LP_UNROLL x blockDim chunks. */
#include "elements.cuh"

#define LANES (LP_K / 8)
#define WIDE_SCALE (LP_SCALE_BYTES == 4)

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) blocks(const void *x, lp_u8 *codes, void *scales, float *tensor_scale, lp_i64 n, const lp_rule *rule,
    const lp_u32 *tensor_amax, lp_u64 *counters, lp_u64 start, lp_u32 step, lp_u32 stream, lp_u32 seed_lo, lp_u32 seed_hi) {
    lp_rule q = *rule;
    q.rule = LP_RULE;
#if LP_RULE == 2
    q.mode = LP_MODE;
#endif
    lp_nvfp4 t = {0.0f, 0.0f, 0.0f};
#if LP_RULE == 3 || LP_RULE == 4
    t = lp_nvfp4_tensor(lp_float(*tensor_amax), q.target, q.inverse);
    if (blockIdx.x == 0 && threadIdx.x == 0) *tensor_scale = t.tensor_scale;
#endif
#if LP_RULE == 3
    __shared__ float factors[128]; /* e_b depends on the code of d_b alone */
    if (threadIdx.x < 128) {
        lp_u32 c = threadIdx.x;
        float value = c < 8 ? (float)c * 0.001953125f : lp_float(((c >> 3) + 120u) << 23 | (c & 7u) << 20);
        float f = lp_div(1.0f, lp_mul(value, t.inverse));
        factors[c] = f != f ? f : lp_min(f, lp_float(LP_FLT_MAX));
    }
    __syncthreads();
#endif
#if LP_RULE == 2 && LP_MX_SIMPLE
    lp_u32 carry = 0x800000u - (lp_u32)q.threshold;
#endif
    Address words = {start, step, stream, seed_lo, seed_hi};
    Seen seen = {0, 0, 0};
    lp_i64 chunks = n / 8, stride = (lp_i64)gridDim.x * blockDim.x * LP_UNROLL;
    for (lp_i64 base = (lp_i64)blockIdx.x * blockDim.x * LP_UNROLL; base < chunks; base += stride) {
        Raw raw[LP_UNROLL];
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) {
            lp_i64 at = base + j * 256 + threadIdx.x;
            raw[j] = load8(x, 8 * (at < chunks ? at : 0)); /* past the end: any block, whose maximum changes nothing */
        }
#if LP_SR == 8
        Words drawn[LP_UNROLL]; /* a Philox block serves two lanes: each makes one of every pair of chunks, and they trade halves */
#pragma unroll
        for (int j = 0; j < LP_UNROLL; j += 2) {
            lp_i64 at = base + (j + (threadIdx.x & 1)) * 256 + threadIdx.x;
            lp_block128 b = lp_philox((start >> 4) + (lp_u64)(at >> 1), step, stream, seed_lo, seed_hi);
            int odd = threadIdx.x & 1;
            lp_u32 a0 = __shfl_xor_sync(0xFFFFFFFFu, odd ? b.w[0] : b.w[2], 1), a1 = __shfl_xor_sync(0xFFFFFFFFu, odd ? b.w[1] : b.w[3], 1);
            drawn[j].w[0] = odd ? a0 : b.w[0];
            drawn[j].w[1] = odd ? a1 : b.w[1];
            drawn[j + 1].w[0] = odd ? b.w[2] : a0;
            drawn[j + 1].w[1] = odd ? b.w[3] : a1;
        }
#endif
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) {
            lp_i64 at = base + j * 256 + threadIdx.x;
            Eight e = widen(raw[j]);
            lp_u32 top = largest(raw[j]);
#pragma unroll
            for (int d = 1; d < LANES; d *= 2) top = larger(top, __shfl_xor_sync(0xFFFFFFFFu, top, d));
            seen.top = larger(seen.top, top);
            top = settled(top);
#if LP_RULE == 3
            lp_scale s;
            float a = lp_mul(lp_float(top), t.mult);
            s.code = a >= 0.0f ? lp_small_code(lp_min(a, 448.0f), 3u, 7u, &s.value) : 0x7Fu;
            s.value = a >= 0.0f ? s.value : lp_float(LP_NAN);
            s.factor = factors[s.code];
#elif LP_RULE == 2 && LP_MX_SIMPLE
            lp_scale s; /* emax >= 1: amax below 2^-126 has code 0 anyway, so the exponent's bits are read as they are */
            s.code = top >= LP_INF ? 255u : (lp_u32)lp_imin(lp_imax((lp_i32)((top + carry) >> 23) - q.emax, 0), 254);
            s.value = s.factor = top >= LP_INF ? lp_float(LP_NAN) : 1.0f;
#else
            lp_scale s = lp_block_scale(top, &q, &t);
#endif
            int dead = s.value != s.value;
            float factor = element_factor(s);
            int over = may_overflow(top, factor);
#if LP_SR == 8
            Words w = drawn[j];
#else
            Words w = words8(words, at);
#endif
            if (at < chunks) {
                if (at % LANES == 0) {
#if WIDE_SCALE
                    ((lp_u32 *)scales)[at / LANES] = s.code;
#else
                    ((lp_u8 *)scales)[at / LANES] = (lp_u8)s.code;
#endif
                }
                put8(codes, at, e, s, dead, factor, over, w, seen);
            }
        }
    }
    seen.top = settled(seen.top);
    flush(seen, counters);
}

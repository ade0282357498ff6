/* rows: one scale a row; a block of threads keeps its row in registers between amax and codes, so it is read once.
 *
 * LP_UNROLL chunks of eight a thread; C is a multiple of 8 and at most 8 LP_UNROLL blockDim.x. Versions: 1. this one. Macros: elements.cuh. */
#include "elements.cuh"

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) rows(const void *x, lp_u8 *codes, void *scales, lp_i64 R, lp_i64 C, const lp_rule *rule,
    lp_u64 *counters, lp_u64 start, lp_u32 step, lp_u32 stream, lp_u32 seed_lo, lp_u32 seed_hi) {
    __shared__ lp_u32 tops[2][32];
    lp_rule q = *rule;
    q.rule = LP_RULE;
#if LP_RULE == 2
    q.mode = LP_MODE;
#endif
    lp_nvfp4 t = {0.0f, 0.0f, 0.0f};
    Address words = {start, step, stream, seed_lo, seed_hi};
    Seen seen = {0, 0, 0};
    lp_i64 chunks = C / 8;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, turn = 0;
    for (lp_i64 r = blockIdx.x; r < R; r += gridDim.x, turn ^= 1) {
        Raw raw[LP_UNROLL];
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) {
            lp_i64 at = j * blockDim.x + threadIdx.x;
            if (at < chunks) raw[j] = load8(x, r * C + 8 * at);
        }
        lp_u32 top = 0;
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) {
            if (j * blockDim.x + threadIdx.x < chunks) top = larger(top, largest(raw[j]));
        }
        top = __reduce_max_sync(0xFFFFFFFFu, settled(top));
        if (lane == 0) tops[turn][warp] = top;
        __syncthreads();
        top = __reduce_max_sync(0xFFFFFFFFu, lane < warps ? tops[turn][lane] : 0u);
        lp_scale s = lp_block_scale(top, &q, &t);
        int dead = s.value != s.value;
        float factor = element_factor(s);
        int over = may_overflow(top, factor);
        seen.top = lp_umax(seen.top, top);
        if (threadIdx.x == 0) {
            if (LP_SCALE_BYTES == 4) ((lp_u32 *)scales)[r] = s.code;
            else ((lp_u8 *)scales)[r] = (lp_u8)s.code;
        }
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) {
            lp_i64 at = j * blockDim.x + threadIdx.x, flat = r * chunks + at;
            if (at >= chunks) continue;
            Eight e = widen(raw[j]);
            put8(codes, flat, e, s, dead, factor, over, words8(words, flat), seen);
        }
    }
    flush(seen, counters);
}

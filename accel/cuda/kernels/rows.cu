/* rows: one scale a row; a block of threads keeps its row in registers between amax and codes, so it is read once. One warp finds the scale for all.
 *
 * LP_UNROLL sixteens a thread; C is a multiple of 16 and at most 16 LP_UNROLL blockDim.x. Random words of LP_AHEAD sixteens are made while the loads
 * are under way, the others while one warp finds the scale. Macros: elements.cuh. */
#define LP_NEAR (LP_INTEGER && LP_IN == 1)
#include "plain.cuh"
#include "row_scale.cuh"

/* The row's sixteens of a thread; what is not there is 0. */
LPREF_FN void load_row(Sixteen *x, const lp_16 *row, lp_u32 units) {
#pragma unroll
    for (int j = 0; j < LP_UNROLL; ++j) {
        x[j] = {};
        if (j * blockDim.x + threadIdx.x < units) x[j] = load16th(row + j * blockDim.x * PER_UNIT);
    }
}

/* The largest magnitude bits of a warp's part of a row. */
LPREF_FN lp_u32 largest_of(const Sixteen *x) {
    lp_u32 top = 0;
#pragma unroll
    for (int j = 0; j < LP_UNROLL; ++j) top = larger(top, largest16(x[j], magnitudes(x[j])));
    return __reduce_max_sync(0xFFFFFFFFu, settled(top));
}

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) rows(const void *x, lp_u8 *codes, void *scales, lp_i64 R, lp_i64 C, const lp_rule *rule,
    lp_u64 *counters, LP_WORDS) {
    __shared__ lp_u32 tops[32];
    __shared__ Row shared;
    lp_rule q = *rule;
    q.rule = LP_RULE;
#if LP_RULE == 2
    q.mode = LP_MODE;
#endif
    Address words = LP_ADDRESS;
    Seen seen = {0, 0, 0, 0.0f};
    lp_u32 units = (lp_u32)(C / 16), lane = threadIdx.x & 31u, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, turn = 0;
    lp_u32 unit = blockIdx.x * units + threadIdx.x, stride = gridDim.x * units;
    const lp_16 *from = (const lp_16 *)x + (lp_i64)unit * PER_UNIT;
    lp_u8 *to = codes + (lp_i64)unit * (2 * LP_BITS);
    for (lp_i64 r = blockIdx.x; r < R; r += gridDim.x) {
        Sixteen row[LP_UNROLL];
        load_row(row, from, units);
        lp_u32 w[LP_UNROLL][8];
#pragma unroll
        for (int j = 0; j < LP_AHEAD; ++j) words16(w[j], words, unit + j * blockDim.x);
        lp_u32 top = largest_of(row);
        if (lane == 0) tops[warp] = top;
        __syncthreads();
        if (warp == turn) {
            top = __reduce_max_sync(0xFFFFFFFFu, lane < warps ? tops[lane] : 0u);
            Row found = row_of(top, q);
            if (lane == 0) {
                shared = found;
                seen.top = lp_umax(seen.top, top);
                if (LP_SCALE_BYTES == 4) ((lp_u32 *)scales)[r] = found.s.code;
                else ((lp_u8 *)scales)[r] = (lp_u8)found.s.code;
            }
        }
        turn = turn + 1 < warps ? turn + 1 : 0;
#pragma unroll
        for (int j = LP_AHEAD; j < LP_UNROLL; ++j) words16(w[j], words, unit + j * blockDim.x);
        __syncthreads();
        Row of = shared;
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) {
            lp_u32 at = j * blockDim.x;
            if (at + threadIdx.x < units)
                put16(to + (lp_i64)at * (2 * LP_BITS), row[j], magnitudes(row[j]), of.s, of.b, of.plain, of.over, w[j], seen);
        }
        from += (lp_i64)stride * PER_UNIT;
        unit += stride;
        to += (lp_i64)stride * (2 * LP_BITS);
    }
    flush(seen, counters);
}

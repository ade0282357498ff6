/* ranks: the elements of given ranks (lpref.ref.reduce.order_statistics), by digits of 11, 11 and 10 bits from the top: a pass counts the digits of the
 * elements that agree with what is known of a wanted one, and the rank falls into one of the counts.
 *
 * Integers, so that the order of additions is free. LP_RANKS: how many are wanted. counts [3][LP_RANKS][DIGITS], zeros before; known [LP_RANKS] after each of
 * two passes: the digits found so far, and the rank among the elements that have them; first: the same before the passes. Every block looks the digits
 * of the pass before up by itself; the first one writes them down for the next pass. Versions: 1. this one. */
#include "reduce.cuh"

#define DIGITS 2048
#define SHIFT(pass) ((pass) == 0 ? 21 : (pass) == 1 ? 10 : 0)
#define WIDTH(pass) ((pass) == 2 ? 1024 : DIGITS)

struct Known {
    lp_u32 prefix, rank;
};

/* the order of the elements as unsigned integers: -0 as +0, NaN last */
LPREF_FN lp_u32 key_of(lp_u32 bits) {
    if ((bits & LP_ABS) > LP_INF) return 0xFFFFFFFFu;
    bits = bits == 0x80000000u ? 0u : bits;
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
LPREF_FN float number_of(lp_u32 key) { return lp_float(key == 0xFFFFFFFFu ? LP_NAN : key >> 31 ? key & LP_ABS : ~key); }

/* by the whole block of 256 threads: what is known after the counts of a pass */
LPREF_FN Known after(const lp_u32 *counts, Known before, int pass) {
    __shared__ lp_u32 sums[256];
    __shared__ Known found;
    const int EACH = DIGITS / 256;
    int thread = (int)threadIdx.x;
    lp_u32 own[EACH], total = 0;
#pragma unroll
    for (int i = 0; i < EACH; ++i) total += own[i] = counts[thread * EACH + i];
    sums[thread] = total;
    __syncthreads();
    for (int d = 1; d < 256; d *= 2) {
        lp_u32 more = thread >= d ? sums[thread - d] : 0;
        __syncthreads();
        sums[thread] += more;
        __syncthreads();
    }
    lp_u32 below = sums[thread] - total;
    if (before.rank >= below && before.rank < sums[thread]) {
        int digit = thread * EACH;
#pragma unroll
        for (int i = 0; i < EACH - 1; ++i)
            if (digit == thread * EACH + i && before.rank - below >= own[i]) {
                below += own[i];
                ++digit;
            }
        found.prefix = before.prefix | (lp_u32)digit << SHIFT(pass);
        found.rank = before.rank - below;
    }
    __syncthreads();
    Known result = found;
    __syncthreads(); /* it may be written again */
    return result;
}

extern "C" __global__ void __launch_bounds__(256) digits(const lp_u32 *x, lp_i64 n, int pass, const Known *first, Known *known, lp_u32 *counts) {
    __shared__ lp_u32 seen[LP_RANKS][DIGITS];
    Known now[LP_RANKS];
#pragma unroll
    for (int k = 0; k < LP_RANKS; ++k) {
        now[k] = pass < 2 ? first[k] : known[k];
        if (pass) now[k] = after(counts + ((pass - 1) * LP_RANKS + k) * DIGITS, now[k], pass - 1);
        if (pass && blockIdx.x == 0 && threadIdx.x == 0) known[(pass - 1) * LP_RANKS + k] = now[k];
        for (int i = (int)threadIdx.x; i < DIGITS; i += 256) seen[k][i] = 0;
    }
    __syncthreads();
    lp_u32 shift = SHIFT(pass), width = WIDTH(pass);
    LP_EACH(i, n) {
        lp_u32 key = key_of(x[i]), above = pass ? key >> (shift + (pass == 1 ? 11 : 10)) << (shift + (pass == 1 ? 11 : 10)) : 0u;
#pragma unroll
        for (int k = 0; k < LP_RANKS; ++k)
            if (above == now[k].prefix) atomicAdd(&seen[k][key >> shift & (width - 1)], 1u);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < LP_RANKS; ++k)
        for (int i = (int)threadIdx.x; i < DIGITS; i += 256)
            if (seen[k][i]) atomicAdd(counts + (pass * LP_RANKS + k) * DIGITS + i, seen[k][i]);
}

/* one block */
extern "C" __global__ void __launch_bounds__(256) elements(const Known *known, const lp_u32 *counts, float *out) {
#pragma unroll
    for (int k = 0; k < LP_RANKS; ++k) {
        Known last = after(counts + (2 * LP_RANKS + k) * DIGITS, known[LP_RANKS + k], 2);
        if (threadIdx.x == 0) out[k] = number_of(last.prefix);
    }
}

/* What the threads of a block have counted, added to counters = {overflowed, underflowed, amax bits, NaN}: integers, so that the order is free. One
 * atomic a block and number: those of all warps of a small tensor queue up for longer than the tensor takes. */
LPREF_FN void lp_tally(lp_u32 over, lp_u32 under, lp_u32 top, lp_u32 nan, lp_u64 *counters) {
    __shared__ lp_u32 seen[4];
    lp_u32 thread = threadIdx.y * blockDim.x + threadIdx.x;
    if (thread < 4) seen[thread] = 0;
    __syncthreads();
    over = __reduce_add_sync(0xFFFFFFFFu, over);
    under = __reduce_add_sync(0xFFFFFFFFu, under);
    top = __reduce_max_sync(0xFFFFFFFFu, top);
    nan = __reduce_or_sync(0xFFFFFFFFu, nan);
    if ((thread & 31u) == 0) {
        if (over) atomicAdd(seen, over);
        if (under) atomicAdd(seen + 1, under);
        if (top) atomicMax(seen + 2, top);
        if (nan) seen[3] = 1;
    }
    __syncthreads();
    if (thread) return;
    if (seen[0]) atomicAdd(counters, (lp_u64)seen[0]);
    if (seen[1]) atomicAdd(counters + 1, (lp_u64)seen[1]);
    if (seen[2]) atomicMax(counters + 2, (lp_u64)seen[2]);
    if (seen[3]) atomicMax(counters + 3, 1ull);
}

/* delayed: the end of a step of delayed scaling, lpref.ref.scaling.te.update, for all places at once; a block each.
 *
 * A history is a ring: element i of the definition's array lies at (begin + i) mod window, so that rolling it moves nothing. Bits of magnitudes are
 * compared as integers: NaN is above infinity, as in np.maximum. Versions: 1. this one. */
#include "base.h"

/* recent: the last amax counts alone, else the largest of the window; divider: 2^margin */
struct State {
    lp_u32 window, recent;
    float target, divider;
};

/* rows: the counters of place p are rows[first[p]] .. rows[first[p + 1] - 1], one a micro-batch; without any nothing changes. verdict: whether the step
 * is applied comes first. told: `wide` words a slot, of which the amax of place p is word `from` + p; fed: {epoch, slot}. */
extern "C" __global__ void __launch_bounds__(256) delayed(const lp_u64 *rows, const lp_u32 *first, const State *states, const lp_u32 *verdict, const lp_u32 *fed,
                                                          lp_u32 *told, int wide, int from, float *scales, lp_u32 *histories, int pitch, lp_u32 *begins) {
    __shared__ lp_u32 tops[256];
    int p = (int)blockIdx.x, mine = (int)threadIdx.x;
    if (first[p] == first[p + 1]) return;
    lp_u32 seen = 0, top = 0, begin = begins[p];
    for (lp_u32 i = first[p]; i < first[p + 1]; ++i) seen = lp_umax(seen, (lp_u32)((const lp_u64 *)rows[i])[2]);
    if (mine == 0) told[(lp_i64)fed[1] * wide + from + p] = seen;
    if (!verdict[0]) return;
    if (seen > LP_INF) seen = 0; /* NaN is no observation */
    State of = states[p];
    lp_u32 *history = histories + (lp_i64)p * pitch;
    for (lp_u32 i = (lp_u32)mine; i < of.window; i += 256) top = lp_umax(top, i == begin ? seen : history[i]);
    tops[mine] = of.recent ? seen : top;
    __syncthreads();
    for (int half = 128; half; half /= 2) {
        if (mine < half) tops[mine] = lp_umax(tops[mine], tops[mine + half]);
        __syncthreads();
    }
    if (mine) return;
    history[begin] = seen;
    if (seen) {
        begin = begin + 1 < of.window ? begin + 1 : 0;
        begins[p] = begin;
        history[begin] = 0;
    }
    top = tops[0];
    if (top && top < LP_INF) {
        float s = lp_div(lp_div(of.target, lp_float(top)), of.divider);
        scales[p] = lp_bits(s) == LP_INF ? lp_float(LP_FLT_MAX) : s;
    }
}

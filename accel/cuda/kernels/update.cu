/* update: the end of a training step without the host: verdict, clipping factor, and every parameter and moment in place, if the verdict allows.
 *
 * lpref.ref.optim.guarded_step with its decisions on the device. Versions: 1. this one: one launch over all parameters, 28 bytes an element. With
 * LP_COPIES weights that have a copy in bfloat16 (copies.py) write it too, 30 bytes, and the next step need not cast them. */
#define LP_TEAM 1024
#define LP_SLOTS 1
#include "reduce.cuh"
#include "loads.cuh"
#include "rules.cuh"

/* What the update kernel reads and the host is told. halted: a step before this one, queued with it, was skipped: this one did not happen. */
struct Verdict {
    lp_u32 applied, finite, doubt, halted;
    float norm, factor;
};

/* Lasts over steps. */
struct Halt {
    lp_u32 halted, epoch;
};

/* sums: of the squares of each of `count` gradients. losses: where each micro-batch's is. words: doubt, anything not finite. fed: {epoch, slot}.
 * clip: the greatest norm, below 0 for none. told: `wide` words a slot: verdict, then the losses. */
extern "C" __global__ void __launch_bounds__(LP_TEAM) judge(const float *sums, lp_i64 count, const lp_u64 *losses, int micro, const lp_u32 *words, const lp_u32 *fed,
                                                            float clip, Halt *halt, Verdict *verdict, lp_u32 *told, int wide) {
    float norm = lp_sqrt(row_sum(count, [&](lp_place i) { return sums[i]; }));
    if (threadIdx.x) return;
    Verdict v = {0, !words[1], words[0], 0, norm, 1.0f};
    lp_u32 *to = told + (lp_i64)fed[1] * wide;
    for (int i = 0; i < micro; ++i) {
        lp_u32 loss = *(const lp_u32 *)losses[i];
        if ((loss & LP_ABS) >= LP_INF) v.finite = 0;
        to[6 + i] = loss;
    }
    if (halt->epoch != fed[0]) halt->halted = 0;
    halt->epoch = fed[0];
    v.halted = halt->halted;
    if (clip >= 0.0f) {
        float factor = lp_div(clip, lp_add(norm, 1e-6f));
        v.factor = factor < 1.0f ? factor : 1.0f;
    }
    v.applied = v.finite && !v.doubt && !v.halted && (clip < 0.0f || lp_bits(norm) < LP_INF);
    if (!v.applied) halt->halted = 1;
    *verdict = v;
    to[0] = v.applied;
    to[1] = v.finite;
    to[2] = v.doubt;
    to[3] = v.halted;
    to[4] = lp_bits(v.norm);
    to[5] = lp_bits(v.factor);
}

/* A parameter: where it, its gradient and its moments are, its elements, the decay group of its coefficients, its first chunk, its copy or 0. */
struct Slot {
    float *p;
    const float *g;
    float *m, *v;
    lp_i64 n, group, first;
    lp_u16 *copy;
};

#if LP_RULE == 0
typedef AdamW Rule;
#define DELTA(p, g, m, v) adamw_of(p, g, m, v, k, LP_ORDER)
#elif LP_RULE == 1
typedef Sgd Rule;
#define DELTA(p, g, m, v) sgd_of(p, g, m, k)
#else
typedef Lion Rule;
#define DELTA(p, g, m, v) lion_of(p, g, m, k)
#endif

/* A block: `chunk` elements, a multiple of 4, of the parameter owners[block]. rules: the coefficients of each decay group, 16 words each. by: what
 * gradients are multiplied with before the verdict's factor. */
extern "C" __global__ void __launch_bounds__(256) update(const Slot *slots, const lp_u32 *owners, lp_i64 chunk, const lp_u32 *rules, const float *by,
                                                         const Verdict *verdict) {
    if (!verdict->applied) return;
    Slot at = slots[owners[blockIdx.x]];
    Rule k = *(const Rule *)(rules + 16 * at.group);
    float inverse = *by, factor = verdict->factor;
    lp_i64 begin = ((lp_i64)blockIdx.x - at.first) * chunk, end = begin + chunk < at.n ? begin + chunk : at.n;
    int fours = !(((lp_u64)at.p | (lp_u64)at.g | (lp_u64)at.m | (lp_u64)at.v) & 15u);
#ifdef LP_COPIES
    fours = fours && !((lp_u64)at.copy & 7u);
#endif
    if (fours) {
        lp_i64 last = begin + (end - begin) / 4 * 4;
        for (lp_i64 i = begin + 4 * threadIdx.x; i < last; i += 4 * 256) {
            float4 p = *(const float4 *)(at.p + i), g = *(const float4 *)(at.g + i), m = {0, 0, 0, 0}, v = {0, 0, 0, 0};
            if (at.m) m = *(const float4 *)(at.m + i);
            if (at.v) v = *(const float4 *)(at.v + i);
            p.x = lp_add(DELTA(p.x, lp_mul(lp_mul(g.x, inverse), factor), m.x, v.x), p.x);
            p.y = lp_add(DELTA(p.y, lp_mul(lp_mul(g.y, inverse), factor), m.y, v.y), p.y);
            p.z = lp_add(DELTA(p.z, lp_mul(lp_mul(g.z, inverse), factor), m.z, v.z), p.z);
            p.w = lp_add(DELTA(p.w, lp_mul(lp_mul(g.w, inverse), factor), m.w, v.w), p.w);
            *(float4 *)(at.p + i) = p;
#ifdef LP_COPIES
            uint2 h = {short_bits(p.x) | short_bits(p.y) << 16, short_bits(p.z) | short_bits(p.w) << 16};
            if (at.copy) *(uint2 *)(at.copy + i) = h;
#endif
            if (at.m) *(float4 *)(at.m + i) = m;
            if (at.v) *(float4 *)(at.v + i) = v;
        }
        begin = last;
    }
    for (lp_i64 i = begin + threadIdx.x; i < end; i += 256) {
        float p = at.p[i], g = lp_mul(lp_mul(at.g[i], inverse), factor), m = at.m ? at.m[i] : 0.0f, v = at.v ? at.v[i] : 0.0f;
        p = lp_add(DELTA(p, g, m, v), p);
        at.p[i] = p;
#ifdef LP_COPIES
        if (at.copy) at.copy[i] = (lp_u16)short_bits(p);
#endif
        if (at.m) at.m[i] = m;
        if (at.v) at.v[i] = v;
    }
}

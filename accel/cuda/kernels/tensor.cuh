/* The scale of a whole tensor: the state's (delayed scaling), or from an amax that is known. Macros: elements.cuh. */
#include "plain.cuh"

/* dead: decodes to NaN; over, plain: may_overflow and plain of the tensor's amax */
struct Whole {
    lp_scale s;
    Block b;
    int dead, over, plain;
};

LPREF_FN int short_serves(lp_u32 top, const Whole &w) {
#if LP_QUICK
    return plain(top, w.s, w.b.factor);
#else
    return 0;
#endif
}

/* encode_scale: the state's S, or null; measured: whether *amax is that of this tensor. One thread of the grid stores the scale. */
LPREF_FN Whole whole_of(const lp_rule *rule, const lp_u32 *amax, const float *encode_scale, int measured, lp_u32 *scale) {
    lp_rule q = *rule;
    lp_nvfp4 t = {0.0f, 0.0f, 0.0f};
    Whole w;
    if (encode_scale) {
        w.s.factor = *encode_scale;
        w.s.value = lp_div(1.0f, w.s.factor);
        w.s.code = q.format == LP_E8M0 ? lp_e8m0_code(w.s.value) : lp_bits(w.s.value);
    } else {
        q.rule = LP_RULE;
#if LP_RULE == 2
        q.mode = LP_MODE;
#endif
        w.s = lp_block_scale(*amax, &q, &t);
    }
    float factor = element_factor(w.s);
    w.b = short_block(w.s, factor);
    w.dead = w.s.value != w.s.value;
    w.over = measured && may_overflow(*amax, factor);
    w.plain = measured && short_serves(*amax, w);
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        if (LP_SCALE_BYTES == 4) *scale = w.s.code;
        else *(lp_u8 *)scale = (lp_u8)w.s.code;
    }
    return w;
}

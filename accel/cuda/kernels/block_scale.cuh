/* The scale of a block from its amax bits, with the quantizer in constants: what blocks.cu and panels.cu share.
 *
 * NVFP4: the scale's code by cvt to E4M3, the factor of each code from a table in shared memory (made once a block of threads). MX by exponents: the
 * amax's bits. `value` is a flag then: NaN for dead blocks, 0 where nothing is left; `scale_value` is what the code decodes to. Macros: plain.cuh. */
#include "plain.cuh"

#ifdef __CUDACC_RTC__
typedef lp_u32 Table; /* an address in shared memory */
LPREF_FN Table table_of(const float *p) { return (lp_u32)__cvta_generic_to_shared(p); }
LPREF_FN float entry(Table t, lp_u32 i) {
    float f;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(f) : "r"(t + i * 4u));
    return f;
}
#else
typedef const float *Table;
LPREF_FN Table table_of(const float *p) { return p; }
LPREF_FN float entry(Table t, lp_u32 i) { return t[i]; }
#endif

struct Shared {
    lp_rule q;
    lp_nvfp4 t;
    lp_u32 carry;
    Table factors;
};

LPREF_FN lp_scale scale_of(lp_u32 top, const Shared &h) {
#if LP_RULE == 3
    lp_scale s; /* the factor depends on the code alone */
    float a = lp_mul(lp_float(top), h.t.mult);
#if __CUDA_ARCH__ >= 890
    lp_u16 code;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %1;" : "=h"(code) : "f"(a)); /* saturates, NaN is 0x7F */
    s.code = code & 0x7Fu;
    s.value = s.code == 0x7Fu ? lp_float(LP_NAN) : s.code == 0u ? 0.0f : 1.0f;
#else
    s.code = a >= 0.0f ? lp_small_code(lp_min(a, 448.0f), 3u, 7u, &s.value) : 0x7Fu;
    s.value = a >= 0.0f ? s.value : lp_float(LP_NAN);
#endif
    s.factor = entry(h.factors, s.code);
    return s;
#elif LP_POWER
    lp_scale s; /* emax >= 1: amax below 2^-126 has code 0 anyway, so the exponent's bits are read as they are */
    s.code = top >= LP_INF ? 255u : (lp_u32)lp_addmax((lp_i32)((top + h.carry) >> 23), -h.q.emax, 0);
    s.value = s.factor = top >= LP_INF ? lp_float(LP_NAN) : 1.0f;
    return s;
#else
    return lp_block_scale(top, &h.q, &h.t);
#endif
}

/* The rule with its constants, a tensor's numbers and factors; LP_FACTORS declares them. All threads take part. */
#if LP_RULE == 3
#define LP_FACTORS(name) __shared__ float name[128]
#else
#define LP_FACTORS(name) float *name = nullptr
#endif
LPREF_FN Shared scales_under(const lp_rule *rule, const lp_u32 *tensor_amax, float *factors) {
    Shared h = {*rule, {0.0f, 0.0f, 0.0f}, 0u, {}};
    h.q.rule = LP_RULE;
#if LP_RULE == 2
    h.q.mode = LP_MODE;
    h.carry = 0x800000u - (lp_u32)h.q.threshold;
#endif
#if LP_RULE == 3 || LP_RULE == 4
    h.t = lp_nvfp4_tensor(lp_float(*tensor_amax), h.q.target, h.q.inverse);
#endif
#if LP_RULE == 3
    for (lp_u32 c = threadIdx.x; c < 128; c += blockDim.x) {
        float value = c < 8 ? (float)c * 0.001953125f : lp_float(((c >> 3) + 120u) << 23 | (c & 7u) << 20);
        float f = lp_div(1.0f, lp_mul(value, h.t.inverse));
        factors[c] = c == 127u ? lp_float(LP_NAN) : f != f ? f : lp_min(f, lp_float(LP_FLT_MAX));
    }
    h.factors = table_of(factors);
    __syncthreads();
#endif
    return h;
}

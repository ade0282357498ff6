/* rope: the rotation of lpref.ref.nn.rope; x [B, H, T, D] with strides of its own for b, h, t, so that heads are read where they lie.
 *
 * sign -1 turns back: s -> -s is exact, and a - (-b) is a + b to the bit. A thread takes the pair i, i + D / 2. Versions: 1. this one. */
#include "reduce.cuh"

extern "C" __global__ void __launch_bounds__(256) rope(const float *x, lp_i64 n, lp_i64 H, lp_i64 T, lp_i64 half, lp_i64 sb, lp_i64 sh, lp_i64 st, const float *cos,
                                                       const float *sin, float sign, float *y) {
    LP_EACH(k, n) {
        lp_i64 row = n >> 31 ? k / half : (lp_i64)((lp_u32)k / (lp_u32)half), i = k - row * half;
        lp_i64 head = n >> 31 ? row / T : (lp_i64)((lp_u32)row / (lp_u32)T), t = row - head * T, b = head / H, h = head - b * H;
        const float *from = x + b * sb + h * sh + t * st + i;
        float p = from[0], q = from[half], c = cos[t * half + i], s = lp_mul(sign, sin[t * half + i]);
        float *to = y + row * 2 * half + i;
        to[0] = lp_sub(lp_mul(p, c), lp_mul(q, s));
        to[half] = lp_add(lp_mul(q, c), lp_mul(p, s));
    }
}

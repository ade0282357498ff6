/* activation: the pages of lpref.ref.nn.activation in one pass each; elementary functions as elementary.h defines them, by decided.h.
 *
 * Constants come from the host, rounded as the definition rounds them: gelu's (a, b, 3 b) or (sqrt(1/2), 1 / sqrt(2 pi), 0).
 * swiglu: gate g[r pitch + j] and value u[r pitch + j], so that halves of one array are read in place. LP_X, LP_DY,
 * LP_Y: what x (gate and value), dy and the result are (loads.cuh); counters, LP_TURNED: noting.cuh. Versions: 1. the float64 sequences, one
 * element a step (50 M elements on an H200: gelu 0.286 ms, its gradient 0.398: bound by float64). 2. this one. */
#include "decided.h"
#include "reduce.cuh"
#include "gelu.cuh"
#include "noting.cuh"
#include "vectors.cuh"

#ifndef LP_AGAIN
#define LP_AGAIN 0
#endif

#define KERNEL extern "C" __global__ void __launch_bounds__(256, LP_TURNED ? 2 : 4)
/* the last arguments: the array as panels (noting.cuh), null where LP_TURNED is 0 */
#define TURN , lp_i64 turn_rows, lp_i64 turn_width, const float *turn_signs, float turn_factor
#define TURN_OF {turn_rows, turn_width, turn_signs, turn_factor}

#define FOURS_OF(dy, x, y) (aligned<LP_DY>(dy) && aligned<LP_X>(x) && aligned<LP_Y>(y))

/* y = f(x) or f(dy, x) of N elements: f(Count<N>, v [INPUTS][4], out) */
template <class Function> LPREF_FN void of_one(const void *x, lp_i64 n, void *y, lp_u64 *counters, const Turn &turn, Function f) {
    noting<1, 1>(
        n, aligned<LP_X>(x) && aligned<LP_Y>(y), counters, turn, [&](auto c, lp_i64 i, lp_i64, float (*v)[4]) { take<decltype(c)::n, LP_X>(x, i, v[0]); },
        [&](auto c, lp_i64 i, lp_i64, float (*v)[4], float (*out)[4]) {
            f(c, v, out[0]);
            give<decltype(c)::n, LP_Y>(y, i, out[0]);
        });
}

template <class Function> LPREF_FN void of_two(const void *dy, const void *x, lp_i64 n, void *dx, lp_u64 *counters, const Turn &turn, Function f) {
    noting<2, 1>(
        n, FOURS_OF(dy, x, dx), counters, turn,
        [&](auto c, lp_i64 i, lp_i64, float (*v)[4]) {
            take<decltype(c)::n, LP_DY>(dy, i, v[0]);
            take<decltype(c)::n, LP_X>(x, i, v[1]);
        },
        [&](auto c, lp_i64 i, lp_i64, float (*v)[4], float (*out)[4]) {
            f(c, v, out[0]);
            give<decltype(c)::n, LP_Y>(dx, i, out[0]);
        });
}

/* the same, and what the forward gave, in bfloat16, where LP_AGAIN: f(Count<N>, v, out, again) */
template <class Function> LPREF_FN void of_two_again(const void *dy, const void *x, lp_i64 n, void *dx, void *y, lp_u64 *counters, const Turn &turn, Function f) {
    noting<2, 1>(
        n, FOURS_OF(dy, x, dx) && (!LP_AGAIN || aligned<1>(y)), counters, turn,
        [&](auto c, lp_i64 i, lp_i64, float (*v)[4]) {
            take<decltype(c)::n, LP_DY>(dy, i, v[0]);
            take<decltype(c)::n, LP_X>(x, i, v[1]);
        },
        [&](auto c, lp_i64 i, lp_i64, float (*v)[4], float (*out)[4]) {
            float again[4];
            f(c, v, out[0], again);
            give<decltype(c)::n, LP_Y>(dx, i, out[0]);
            if (LP_AGAIN) give<decltype(c)::n, 1>(y, i, again);
        });
}

#define ALL(k) \
    _Pragma("unroll") for (int k = 0; k < decltype(c)::n; ++k)

KERNEL relu(const void *x, lp_i64 n, void *y, lp_u64 *counters TURN) {
    of_one(x, n, y, counters, TURN_OF, [](auto c, float (*v)[4], float *out) { ALL(k) out[k] = v[0][k] <= 0.0f ? 0.0f : v[0][k]; });
}

KERNEL relu_backward(const void *dy, const void *x, lp_i64 n, void *dx, lp_u64 *counters TURN) {
    of_two(dy, x, n, dx, counters, TURN_OF, [](auto c, float (*v)[4], float *out) { ALL(k) out[k] = v[1][k] <= 0.0f ? 0.0f : v[0][k]; });
}

LPREF_FN float silu_slope(float x, float s) { return lp_mul(s, lp_add(1.0f, lp_mul(x, lp_sub(1.0f, s)))); }

KERNEL silu(const void *x, lp_i64 n, void *y, lp_u64 *counters TURN) {
    of_one(x, n, y, counters, TURN_OF, [](auto c, float (*v)[4], float *out) {
        float s[4];
        lp_each<lp_Sigmoid, decltype(c)::n>(v[0], s);
        ALL(k) out[k] = lp_mul(v[0][k], s[k]);
    });
}

KERNEL silu_backward(const void *dy, const void *x, lp_i64 n, void *dx, lp_u64 *counters TURN) {
    of_two(dy, x, n, dx, counters, TURN_OF, [](auto c, float (*v)[4], float *out) {
        float s[4];
        lp_each<lp_Sigmoid, decltype(c)::n>(v[1], s);
        ALL(k) out[k] = lp_mul(v[0][k], silu_slope(v[1][k], s[k]));
    });
}

KERNEL gelu_tanh(const void *x, lp_i64 n, float a, float b, float b3, void *y, lp_u64 *counters TURN) {
    of_one(x, n, y, counters, TURN_OF, [=](auto c, float (*v)[4], float *out) {
        gelu_of<decltype(c)::n>(v[0], a, b, out);
    });
}

#if LP_X
/* The greatest magnitude that gelu_tanh would write for n bfloat16, a multiple of eight. Eight are computed only where that of their block may grow:
 * |gelu(x)| <= |x|, and <= 0.18 where x < 0, which tests/gpu/test_turned.py asks of every x. Sixteen bits with the sign turned over are in order. */
KERNEL gelu_tanh_peak(const lp_16 *x, lp_i64 n, float a, float b, float b3, lp_u64 *counters) {
    const int DEEP = 4;
    __shared__ lp_u32 best;
    lp_u32 top = 0;
    if (threadIdx.x == 0) best = 0;
    __syncthreads();
    lp_i64 eights = n / 8, stride = (lp_i64)gridDim.x * blockDim.x;
    for (lp_i64 i = LP_INDEX; i < eights; i += DEEP * stride) {
        lp_16 v[DEEP];
#pragma unroll
        for (int j = 0; j < DEEP; ++j) v[j] = x[i + j * stride < eights ? i + j * stride : i];
#pragma unroll
        for (int j = 0; j < DEEP; ++j) {
            const lp_u32 w[4] = {v[j].x, v[j].y, v[j].z, v[j].w};
            lp_u32 seen = *(volatile lp_u32 *)&best, up = 0, raw = 0, grown = 0;
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                up = __vmaxu2(up, w[k] ^ 0x80008000u);
                raw = __vmaxu2(raw, w[k]);
            }
            up = lp_umax(up & 0xFFFFu, up >> 16);
            raw = lp_umax(raw & 0xFFFFu, raw >> 16);
            if (seen >= lp_bits(0.18f) && up <= 0x8000u + (seen >> 16) && raw < 0xFF80u) continue;
#pragma unroll
            for (int k = 0; k < 4; k += 2) {
                float out[4], in[4] = {lp_float(w[k] << 16), lp_float(w[k] & 0xFFFF0000u), lp_float(w[k + 1] << 16), lp_float(w[k + 1] & 0xFFFF0000u)};
                gelu_of<4>(in, a, b, out);
                seen_in<4>(grown, out);
            }
            if (grown > seen) atomicMax(&best, grown);
            top = lp_umax(top, grown);
        }
    }
    noted(top, counters);
}
#endif

KERNEL gelu_erf(const void *x, lp_i64 n, float root, float density, float unused, void *y, lp_u64 *counters TURN) {
    of_one(x, n, y, counters, TURN_OF, [=](auto c, float (*v)[4], float *out) { ALL(k) out[k] = lp_mul(lp_mul(0.5f, v[0][k]), lp_add(1.0f, lp_erf(lp_mul(v[0][k], root)))); });
}

KERNEL gelu_tanh_backward(const void *dy, const void *x, lp_i64 n, float a, float b, float b3, void *dx, void *y, lp_u64 *counters TURN) {
    of_two_again(dy, x, n, dx, y, counters, TURN_OF, [=](auto c, float (*in)[4], float *out, float *again) {
        float t[4];
        gelu_inner<decltype(c)::n>(in[1], a, b, t);
        ALL(k) {
            float v = in[1][k], slope = lp_mul(lp_sub(1.0f, lp_mul(t[k], t[k])), lp_mul(a, lp_add(1.0f, lp_mul(b3, lp_mul(v, v)))));
            again[k] = lp_mul(lp_mul(0.5f, v), lp_add(1.0f, t[k]));
            out[k] = lp_mul(in[0][k], lp_add(lp_mul(0.5f, lp_add(1.0f, t[k])), lp_mul(lp_mul(0.5f, v), slope)));
        }
    });
}

KERNEL gelu_erf_backward(const void *dy, const void *x, lp_i64 n, float root, float density, float unused, void *dx, void *y, lp_u64 *counters TURN) {
    of_two_again(dy, x, n, dx, y, counters, TURN_OF, [=](auto c, float (*in)[4], float *out, float *again) {
        float bell[4];
        ALL(k) bell[k] = lp_mul(lp_mul(-0.5f, in[1][k]), in[1][k]);
        lp_each<lp_Exp, decltype(c)::n>(bell, bell);
        ALL(k) {
            float v = in[1][k], t = lp_erf(lp_mul(v, root));
            again[k] = lp_mul(lp_mul(0.5f, v), lp_add(1.0f, t));
            out[k] = lp_mul(in[0][k], lp_add(lp_mul(0.5f, lp_add(1.0f, t)), lp_mul(v, lp_mul(density, bell[k]))));
        }
    });
}

/* where element i < n of [rows, width], of this row or of one that is not known (-1), lies in rows of `pitch` */
LPREF_FN lp_i64 pitched(lp_i64 i, lp_i64 row, lp_i64 n, lp_i64 width, lp_i64 pitch) {
    if (width == pitch) return i;
    lp_i64 r = row >= 0 ? row : n >> 31 ? i / width : (lp_i64)((lp_u32)i / (lp_u32)width);
    return i + r * (pitch - width);
}

/* whether four neighbours of a row are four neighbours in memory, on 16 bytes */
LPREF_FN bool rows_of_fours(lp_i64 width, lp_i64 pitch) { return width == pitch || ((width | pitch) & 3) == 0; }

KERNEL swiglu(const void *g, const void *u, lp_i64 n, lp_i64 width, lp_i64 pitch, void *y, lp_u64 *counters TURN) {
    noting<2, 1>(
        n, rows_of_fours(width, pitch) && aligned<LP_X>(g) && aligned<LP_X>(u) && aligned<LP_Y>(y), counters, TURN_OF,
        [&](auto c, lp_i64 i, lp_i64 row, float (*v)[4]) {
            lp_i64 at = pitched(i, row, n, width, pitch);
            take<decltype(c)::n, LP_X>(g, at, v[0]);
            take<decltype(c)::n, LP_X>(u, at, v[1]);
        },
        [&](auto c, lp_i64 i, lp_i64, float (*v)[4], float (*out)[4]) {
            float s[4];
            lp_each<lp_Sigmoid, decltype(c)::n>(v[0], s);
            ALL(k) out[0][k] = lp_mul(lp_mul(v[0][k], s[k]), v[1][k]);
            give<decltype(c)::n, LP_Y>(y, i, out[0]);
        });
}

KERNEL swiglu_backward(const void *dy, const void *g, const void *u, lp_i64 n, lp_i64 width, lp_i64 pitch, void *dg, void *du, lp_u64 *counters TURN) {
    noting<3, 2>(
        n, rows_of_fours(width, pitch) && FOURS_OF(dy, g, dg) && aligned<LP_X>(u) && aligned<LP_Y>(du), counters, TURN_OF,
        [&](auto c, lp_i64 i, lp_i64 row, float (*v)[4]) {
            lp_i64 at = pitched(i, row, n, width, pitch);
            take<decltype(c)::n, LP_DY>(dy, i, v[0]);
            take<decltype(c)::n, LP_X>(g, at, v[1]);
            take<decltype(c)::n, LP_X>(u, at, v[2]);
        },
        [&](auto c, lp_i64 i, lp_i64 row, float (*v)[4], float (*out)[4]) {
            lp_i64 at = pitched(i, row, n, width, pitch);
            float s[4];
            lp_each<lp_Sigmoid, decltype(c)::n>(v[1], s);
            ALL(k) {
                float x = v[1][k], d = v[0][k];
                out[1][k] = lp_mul(d, lp_mul(x, s[k]));
                out[0][k] = lp_mul(lp_mul(d, v[2][k]), silu_slope(x, s[k]));
            }
            give<decltype(c)::n, LP_Y>(dg, at, out[0]);
            give<decltype(c)::n, LP_Y>(du, at, out[1]);
        });
}

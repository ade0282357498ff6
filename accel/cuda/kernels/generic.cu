/* generic: block quantizers of any blocks, format, rounding, policy and words, in four passes: amax (amax.cu), scales, elements, packing.
 *
 * Serves what blocks.cu, rows.cu and tensor.cu do not: square tiles, blocks along axis 0, ragged edges, tables, given words, other policies.
 * Versions: 1. this one. */
#include "code.cuh"
#include "loads.cuh"
#include "pack.h"
#include "rules.h"
#include "tally.cuh"

extern "C" __global__ void scales_grid(const lp_u32 *amax, lp_i64 n, const lp_rule *rule, const lp_u32 *tensor_amax, const float *encode_scale,
                                       void *codes, int bytes, float *values, float *factors, float *tensor_scale) {
    lp_rule q = *rule;
    lp_nvfp4 t = {0.0f, 0.0f, 0.0f};
    lp_i64 stride = (lp_i64)gridDim.x * blockDim.x, first = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (q.rule == LP_RULE_NVFP4 || q.rule == LP_RULE_TORCHAO) {
        t = lp_nvfp4_tensor(lp_float(*tensor_amax), q.target, q.inverse);
        if (first == 0) *tensor_scale = t.tensor_scale;
    }
    for (lp_i64 i = first; i < n; i += stride) {
        lp_scale s;
        if (encode_scale) {
            s.factor = *encode_scale;
            s.value = lp_div(1.0f, s.factor);
            s.code = q.format == LP_E8M0 ? lp_e8m0_code(s.value) : lp_bits(s.value);
        } else {
            s = lp_block_scale(amax[i], &q, &t);
        }
        if (bytes == 4) ((lp_u32 *)codes)[i] = s.code;
        else if (bytes == 1) ((lp_u8 *)codes)[i] = (lp_u8)s.code;
        values[i] = s.value;
        factors[i] = s.factor;
    }
}

/* scales_grid of the rules of amax in core/rules.h: number: the magnitude bits of bfp, the group of shift; tensor: the tensor's amax (shift) */
extern "C" __global__ void __launch_bounds__(256) scales_of_amax(const lp_u32 *amax, lp_i64 n, int rule, const lp_u32 *tensor, float target, float eps, int mode,
                                                                 int number, void *codes, int bytes, float *values, float *factors) {
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (lp_i64)gridDim.x * blockDim.x) {
        float a = lp_float(amax[i]);
        lp_scale s = rule == 0   ? lp_bfp_scale(a, eps, mode, number)
                     : rule == 1 ? lp_coat_scale(a, eps, target)
                     : rule == 2 ? lp_two_eps_scale(a, eps, target)
                                 : lp_shift_scale(a, lp_float(*tensor), target, number);
        if (bytes == 4) ((lp_u32 *)codes)[i] = s.code;
        else if (bytes == 1) ((lp_u8 *)codes)[i] = (lp_u8)s.code;
        values[i] = s.value;
        factors[i] = s.factor;
    }
}

/* Scales from steps: one, or one a block (each); decoding multiplies with `up` times the step. refused: set to 1 where a step is not finite and positive. */
extern "C" __global__ void __launch_bounds__(256) given(const float *step, int each, lp_i64 n, float eps, int inverse, float up, lp_u32 *codes, float *values,
                                                        float *factors, lp_u64 *refused) {
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (lp_i64)gridDim.x * blockDim.x) {
        float s = step[each ? i : 0];
        s = s < eps ? eps : s;
        if (!(s > 0.0f && lp_bits(s) < LP_INF)) *refused = 1;
        codes[i] = lp_bits(lp_mul(s, up));
        values[i] = lp_mul(s, up);
        factors[i] = inverse ? lp_min(lp_div(1.0f, s), lp_float(LP_FLT_MAX)) : s;
    }
}

/* word <- 1 where the count is above the limit */
extern "C" __global__ void doubted(const lp_u64 *count, lp_u64 limit, lp_u32 *word) {
    if (*count > limit) *word = 1;
}

/* Every element of an R x C array, C < 2^32: threads lie along rows, blocks of threads are blockDim.x wide and blockDim.y high. */
#define EACH(r, c)                                                                                              \
    for (lp_i64 r = (lp_i64)blockIdx.y * blockDim.y + threadIdx.y; r < R; r += (lp_i64)gridDim.y * blockDim.y)   \
        for (lp_u32 c = blockIdx.x * blockDim.x + threadIdx.x; c < (lp_u64)C; c += gridDim.x * blockDim.x)

enum { MORE_NOTHING, MORE_HALF, MORE_TOP };

/* two's complement of so many bits */
LPREF_FN lp_i32 signed_code(lp_u32 code, int bits) { return (lp_i32)(code << (32 - bits)) >> (32 - bits); }

/* how, offsets, stop, down: of `lp_scaled`. points: zero points of blocks, or null. more: what else is counted (counters[5]: elements that would overflow at
 * half the scale, or the largest magnitude of a code), bits: of a code, where points or counts need them.
 * limits: low, high (NaN: no clipping; with zero points: the range), overflow low, overflow high. zeros: a bit set of the codes whose value is 0 (null: code 0). */
extern "C" __global__ void __launch_bounds__(256) elements(const void *x, lp_i64 R, lp_i64 C, lp_i64 br, lp_i64 bc, const float *values, const float *factors,
    const float *offsets, const lp_i32 *points, int how, float stop, float down, int more, int bits, float multiplier, const float *limits, const lp_u64 *cast,
    const lp_u32 *zeros, void *codes, int bytes, lp_u64 *counters) {
    Ready g = ready(cast);
    lp_i64 wide = (C + bc - 1) / bc;
    float low = limits[0], high = limits[1], below = limits[2], above = limits[3];
    lp_u32 over = 0, under = 0, top = 0, nan = 0, further = 0;
    EACH(r, c) {
        lp_i64 i = r * C + c, at = r / br * wide + c / (lp_u32)bc;
        float factor = factors[at], value = values[at], v = lp_float(source(x, i));
        int dead = value != value, lost;
        lp_u32 a = lp_bits(v) & LP_ABS, code;
        float u = lp_scaled(how, v, factor, offsets ? offsets[at] : 0.0f, stop, down);
        if (multiplier != 1.0f) u = lp_mul(u, multiplier);
        u = dead ? 0.0f : u;
        nan |= u != u;
        top = lp_umax(top, a);
        if (points) {
            lp_i32 z = points[at];
            double whole = lp_dadd((double)u, (double)z);
            over += a < LP_INF && (whole > (double)above || whole < (double)below);
            lp_i32 q = lp_imin(lp_imax(signed_code(code_of(g, lp_bits(u), i), 24) + z, (lp_i32)low), (lp_i32)high);
            code = (lp_u32)q & ((1u << bits) - 1u);
            lost = q == z;
        } else {
            over += a < LP_INF && (u > above || u < below);
            if (low == low && u == u) u = lp_min(lp_max(u, low), high);
            code = code_of(g, lp_bits(u), i);
            lost = zeros ? (zeros[code >> 5] >> (code & 31u)) & 1u : code == 0;
        }
        if (more == MORE_HALF) {
            float w = lp_div(v, lp_div(value, 2.0f));
            further += a < LP_INF && (w > above || w < below);
        } else if (more == MORE_TOP) {
            lp_i32 q = signed_code(code, bits);
            further = lp_umax(further, (lp_u32)(q < 0 ? -q : q));
        }
        under += !dead && a != 0 && (lost || value == 0.0f);
        put(codes, i, code, bytes);
    }
    if (more == MORE_HALF) atomicAdd(counters + 5, (lp_u64)further);
    if (more == MORE_TOP) atomicMax(counters + 5, (lp_u64)further);
    lp_tally(over, under, top, nan, counters);
}

/* four <- the fours of a thread: first, and 256, 512 and 768 behind it; zeros beyond the end */
LPREF_FN void fours_from(const uint4 *x, lp_i64 first, lp_i64 fours, uint4 *four) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        uint4 none = {0, 0, 0, 0};
        four[k] = first + 256 * k < fours ? x[first + 256 * k] : none;
    }
}

/* elements without scales for float32 to a 16-bit float by its plan, four fours a thread and step: codes, overflowed and underflowed elements, amax */
extern "C" __global__ void __launch_bounds__(256) plain16(const uint4 *x, lp_i64 fours, LP_PLAN, float below, float above, uint2 *codes, lp_u64 *counters) {
    lp_plan p = LP_GIVEN_PLAN;
    lp_u32 over = 0, under = 0, top = 0;
    for (lp_i64 first = (lp_i64)blockIdx.x * 1024 + threadIdx.x; first < fours; first += (lp_i64)gridDim.x * 1024) {
        uint4 four[4];
        fours_from(x, first, fours, four);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            lp_u32 bits[4] = {four[k].x, four[k].y, four[k].z, four[k].w}, code[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                lp_u32 a = bits[j] & LP_ABS;
                code[j] = lp_encode(bits[j], &p);
                over += a < LP_INF && (lp_float(bits[j]) > above || lp_float(bits[j]) < below);
                under += a != 0 && (code[j] & 0x7FFFu) == 0;
                top = lp_umax(top, a);
            }
            uint2 two = {code[0] | code[1] << 16, code[2] | code[3] << 16};
            if (first + 256 * k < fours) codes[first + 256 * k] = two;
        }
    }
    lp_tally(over, under, top, 0u, counters);
}

/* plain16 to bfloat16 by nearest even and infinity: four elements round together where none of them is NaN or infinite, or counts. above: beyond it a
 * finite magnitude counts as overflowed; up to 2^-134 it underflows. (plain16 took twice the time that its bytes do.) */
extern "C" __global__ void __launch_bounds__(256) short16(const uint4 *x, lp_i64 fours, lp_u32 above, uint2 *codes, lp_u64 *counters) {
    lp_u32 over = 0, under = 0, top = 0;
    for (lp_i64 first = (lp_i64)blockIdx.x * 1024 + threadIdx.x; first < fours; first += (lp_i64)gridDim.x * 1024) {
        uint4 four[4];
        fours_from(x, first, fours, four);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            lp_u32 bits[4] = {four[k].x, four[k].y, four[k].z, four[k].w}, rounded[4], most = 0, least = 0xFFFFFFFFu;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                lp_u32 a = bits[j] & LP_ABS;
                most = lp_umax(most, a);
                least = a - 1u < least ? a - 1u : least;
                rounded[j] = bits[j] + 0x7FFFu + (bits[j] >> 16 & 1u);
            }
            top = lp_umax(top, most);
            if (most > above || least < 0x8000u) {
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    lp_u32 a = bits[j] & LP_ABS;
                    over += a < LP_INF && a > above;
                    under += a - 1u < 0x8000u;
                    rounded[j] = short_bits(lp_float(bits[j])) << 16;
                }
            }
            uint2 two = {__byte_perm(rounded[0], rounded[1], 0x7632), __byte_perm(rounded[2], rounded[3], 0x7632)};
            if (first + 256 * k < fours) codes[first + 256 * k] = two;
        }
    }
    lp_tally(over, under, top, 0u, counters);
}

/* Code (r, c); bytes 0: packed as core/pack.h says, `pitch` bytes a row. */
LPREF_FN lp_u32 code_at(const void *codes, lp_i64 r, lp_i64 c, lp_i64 pitch, int bytes, int bits) {
    if (bytes == 1) return ((const lp_u8 *)codes)[r * pitch + c];
    if (bytes == 2) return ((const lp_u16 *)codes)[r * pitch + c];
    if (bytes == 4) return ((const lp_u32 *)codes)[r * pitch + c];
    const lp_u8 *row = (const lp_u8 *)codes + r * pitch;
    lp_i64 bit = c * bits, at = bit >> 3;
    lp_u32 two = row[at] | (at + 1 < pitch ? (lp_u32)row[at + 1] << 8 : 0u);
    return (two >> (bit & 7)) & ((1u << bits) - 1u);
}

/* what: 0 the element; 1 (element x block scale) x tensor scale in float64, rounded once; 2 fl32(element x block scale); 3 fl32(fl32(element / block
 * scale) + offset). kind: 0 float32, 1 float64, 2 bfloat16 (to nearest even). exact: values by code that float32 does not hold, or null. zeros: zero
 * points of blocks, or null. */
extern "C" __global__ void __launch_bounds__(256) dequantize(const void *codes, lp_i64 R, lp_i64 C, lp_i64 pitch, int bytes, int bits, const lp_u32 *table, int up,
                                                             lp_i64 br, lp_i64 bc, const float *scales, const float *tensor_scale, const double *exact,
                                                             const lp_i32 *zeros, const float *offsets, int what, void *out, int kind) {
    lp_i64 wide = (C + bc - 1) / bc;
    double outer = what == 1 ? (double)*tensor_scale : 1.0;
    EACH(r, c) {
        lp_i64 i = r * C + c, at = r / br * wide + c / (lp_u32)bc;
        lp_u32 code = code_at(codes, r, c, pitch, bytes, bits);
        float element = lp_float(value_of(code, table, up)), scale = what ? scales[at] : 1.0f;
        if (zeros) element = lp_sub(element, (float)zeros[at]);
        if (what == 1 || what == 3) {
            double v = what == 3 ? (double)lp_add(lp_div(element, scale), offsets[at]) : lp_dmul(lp_dmul(exact ? exact[code] : up < -1 ? whole_value(code, up) : (double)element, (double)scale), outer);
            if (kind == 1) ((double *)out)[i] = v;
            else ((float *)out)[i] = lp_narrow(v);
            continue;
        }
        if (kind == 1 && (exact || up < -1)) {
            ((double *)out)[i] = exact ? exact[code] : whole_value(code, up);
            continue;
        }
        float v = what ? lp_mul(element, scale) : element;
        lp_u32 word = lp_bits(v);
        if (kind == 0) ((float *)out)[i] = v;
        else if (kind == 1) ((double *)out)[i] = (double)v;
        else ((lp_u16 *)out)[i] = (lp_u16)(v != v ? 0x7FC0u : (word + 0x7FFFu + (word >> 16 & 1u)) >> 16);
    }
}

extern "C" __global__ void narrow(const double *x, lp_i64 n, float *out) {
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (lp_i64)gridDim.x * blockDim.x) out[i] = lp_narrow(x[i]);
}

extern "C" __global__ void __launch_bounds__(256) pack_rows(const lp_u8 *codes, lp_i64 R, lp_i64 C, int bits, lp_i64 bytes, lp_u8 *out) {
    lp_i64 n = R * bytes, stride = (lp_i64)gridDim.x * blockDim.x;
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) out[i] = lp_packed_byte(codes + i / bytes * C, C, bits, i % bytes);
}

extern "C" __global__ void __launch_bounds__(256) unpack_rows(const lp_u8 *packed, lp_i64 R, lp_i64 C, int bits, lp_i64 bytes, lp_u8 *out) {
    lp_i64 n = R * C, stride = (lp_i64)gridDim.x * blockDim.x;
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        out[i] = (lp_u8)code_at(packed, i / C, i % C, bytes, 0, bits);
    }
}

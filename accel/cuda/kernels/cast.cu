/* casts: float32, bfloat16 or binary16 to codes of any format, to values rounded in place, and back.
 *
 * The way is a run-time number, the same for all threads: one module serves every format, rounding and policy.
 * Versions: 1. one element a thread and step. 2. four elements, loads and stores of 16 (codes of 8 bits: 4) bytes, for aligned arrays. */
#include "code.cuh"

extern "C" __global__ void __launch_bounds__(256) encode(const void *x, lp_i64 n, const lp_u64 *cast, void *out, int bytes, lp_u64 *top) {
    Ready g = ready(cast);
    lp_u32 seen = 0;
    lp_i64 stride = (lp_i64)gridDim.x * blockDim.x, first = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x, done = 0;
#if LP_IN == 0
    if (bytes == 1 && ((lp_u64)x & 15) == 0 && ((lp_u64)out & 3) == 0) {
        for (lp_i64 i = first; i < n / 4; i += stride) {
            uint4 v = ((const uint4 *)x)[i];
            seen = lp_umax(seen, lp_umax(lp_umax(v.x & LP_ABS, v.y & LP_ABS), lp_umax(v.z & LP_ABS, v.w & LP_ABS)));
            lp_u32 lo = code_of(g, v.x, 4 * i) | code_of(g, v.y, 4 * i + 1) << 8, hi = code_of(g, v.z, 4 * i + 2) | code_of(g, v.w, 4 * i + 3) << 8;
            ((lp_u32 *)out)[i] = lo | hi << 16;
        }
        done = n / 4 * 4;
    }
#endif
    for (lp_i64 i = done + first; i < n; i += stride) {
        lp_u32 bits = source(x, i);
        seen = lp_umax(seen, bits & LP_ABS);
        put(out, i, code_of(g, bits, i), bytes);
    }
    flush_top(seen, top);
}

extern "C" __global__ void __launch_bounds__(256) round_to(const void *x, lp_i64 n, const lp_u64 *cast, const lp_u32 *table, int up, lp_u32 *out, lp_u64 *top) {
    Ready g = ready(cast);
    lp_u32 seen = 0;
    lp_i64 stride = (lp_i64)gridDim.x * blockDim.x;
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        lp_u32 bits = source(x, i);
        seen = lp_umax(seen, bits & LP_ABS);
        out[i] = value_of(code_of(g, bits, i), table, up);
    }
    flush_top(seen, top);
}

/* round_to of a deterministic formula that refuses nothing, two fours a thread and step */
extern "C" __global__ void __launch_bounds__(256) round_fours(const uint4 *x, lp_i64 fours, LP_PLAN, const lp_u32 *table, int up, uint4 *out) {
    lp_plan p = LP_GIVEN_PLAN;
    for (lp_i64 first = (lp_i64)blockIdx.x * 512 + threadIdx.x; first < fours; first += (lp_i64)gridDim.x * 512) {
        uint4 v[2];
#pragma unroll
        for (int k = 0; k < 2; ++k) v[k] = x[first + 256 * k < fours ? first + 256 * k : first];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            uint4 r = {value_of(lp_encode(v[k].x, &p), table, up), value_of(lp_encode(v[k].y, &p), table, up), value_of(lp_encode(v[k].z, &p), table, up),
                       value_of(lp_encode(v[k].w, &p), table, up)};
            if (first + 256 * k < fours) out[first + 256 * k] = r;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) decode(const void *codes, lp_i64 n, int bytes, const lp_u32 *table, int up, lp_u32 *out, lp_u64 *top) {
    lp_u32 seen = 0;
    lp_i64 stride = (lp_i64)gridDim.x * blockDim.x, first = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x, done = 0;
    if (bytes == 1 && up < 0 && ((lp_u64)codes & 3) == 0 && ((lp_u64)out & 15) == 0) {
        for (lp_i64 i = first; i < n / 4; i += stride) {
            lp_u32 c = ((const lp_u32 *)codes)[i];
            seen = __vmaxu4(seen, c);
            uint4 v = {table[c & 255u], table[c >> 8 & 255u], table[c >> 16 & 255u], table[c >> 24]};
            ((uint4 *)out)[i] = v;
        }
        seen = lp_umax(lp_umax(seen & 255u, seen >> 8 & 255u), lp_umax(seen >> 16 & 255u, seen >> 24));
        done = n / 4 * 4;
    }
    for (lp_i64 i = done + first; i < n; i += stride) {
        lp_u32 c = bytes == 1 ? ((const lp_u8 *)codes)[i] : bytes == 2 ? ((const lp_u16 *)codes)[i] : ((const lp_u32 *)codes)[i];
        seen = lp_umax(seen, c);
        out[i] = value_of(c, table, up);
    }
    flush_top(seen, top);
}

/* All patterns first .. first + n: encoded, and compared with the intervals of the definition: starts ascending, codes by interval
 * (-1: any NaN code, nan_codes a bit set by code; -2: refused). failures: count and the first pattern that differs. */
extern "C" __global__ void __launch_bounds__(256) prove(lp_u64 begin, lp_i64 n, const lp_u64 *cast, const lp_u32 *starts, const lp_i32 *codes, int intervals,
                                                        const lp_u32 *nan_codes, lp_u64 *failures) {
    Ready g = ready(cast);
    lp_i64 stride = (lp_i64)gridDim.x * blockDim.x;
    for (lp_i64 i = (lp_i64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        lp_u32 bits = (lp_u32)(begin + (lp_u64)i), got = code_of(g, bits, i);
        int low = 0, high = intervals;
        while (high - low > 1) {
            int middle = (low + high) >> 1;
            if (starts[middle] <= bits) low = middle;
            else high = middle;
        }
        lp_i32 want = codes[low];
        int good = want == -2 || (want == -1 ? (nan_codes[got >> 5] >> (got & 31u)) & 1u : (lp_i32)got == want);
        if (!good) {
            atomicAdd(failures, 1ull);
            atomicMin(failures + 1, (lp_u64)bits);
        }
    }
}

/* Elements by fours: 16 bytes of float32 a load, or 8 of bfloat16, the next four on their way while these are computed. Where an address or a length
 * forbids it, one by one. KIND: loads.cuh. */
#ifndef FOURS_CUH
#define FOURS_CUH
#include "loads.cuh"

template <int N> struct Count {
    static const int n = N;
};

/* elements i .. i + N - 1 of x, N 1, 2 or 4; i a multiple of N */
template <int N, int KIND> LPREF_FN void take(const void *x, lp_i64 i, float *v) {
    if constexpr (N == 4) {
        float4 q = load4<KIND>(x, i >> 2);
        v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
    } else if constexpr (N == 2 && KIND == 1) {
        lp_u32 q = ((const lp_u32 *)x)[i >> 1];
        v[0] = lp_float(q << 16), v[1] = lp_float(q & 0xFFFF0000u);
    } else if constexpr (N == 2) {
        float2 q = ((const float2 *)x)[i >> 1];
        v[0] = q.x, v[1] = q.y;
    } else {
        v[0] = load<KIND>(x, i);
    }
}

template <int N, int KIND> LPREF_FN void give(void *y, lp_i64 i, const float *v) {
    if constexpr (N == 4 && KIND == 1) {
        uint2 q = {pack(v[0], v[1]), pack(v[2], v[3])};
        ((uint2 *)y)[i >> 2] = q;
    } else if constexpr (N == 4) {
        float4 q = {v[0], v[1], v[2], v[3]};
        ((float4 *)y)[i >> 2] = q;
    } else if constexpr (N == 2 && KIND == 1) {
        ((lp_u32 *)y)[i >> 1] = pack(v[0], v[1]);
    } else if constexpr (N == 2) {
        float2 q = {v[0], v[1]};
        ((float2 *)y)[i >> 1] = q;
    } else {
        store<KIND>(y, i, v[0]);
    }
}

/* whether four may be read at x */
template <int KIND> LPREF_FN bool aligned(const void *x) { return ((lp_u64)x & (KIND == 1 ? 7 : 15)) == 0; }

/* load(Count<N>, i, v [INPUTS][4]) reads the elements i .. i + N - 1, work(Count<N>, i, v) computes them: every i < n once, by the whole grid */
template <int INPUTS, class Load, class Work> LPREF_FN void by_fours(lp_i64 n, bool fours, Load load, Work work) {
    lp_i64 stride = (lp_i64)gridDim.x * blockDim.x, whole = fours ? n / 4 : 0, i = LP_INDEX;
    float next[INPUTS][4], now[INPUTS][4];
    if (i < whole) load(Count<4>(), 4 * i, next);
    for (; i < whole; i += stride) {
#pragma unroll
        for (int k = 0; k < 4 * INPUTS; ++k) now[k / 4][k % 4] = next[k / 4][k % 4];
        if (i + stride < whole) load(Count<4>(), 4 * (i + stride), next);
        work(Count<4>(), 4 * i, now);
    }
    for (i = 4 * whole + LP_INDEX; i < n; i += stride) {
        load(Count<1>(), i, now);
        work(Count<1>(), i, now);
    }
}
#endif

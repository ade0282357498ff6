/* A row of up to 1024 numbers in the registers of a warp, for norms: thread t has the elements 128 j + 4 t .. 128 j + 4 t + 3, j < LP_FOURS, so that
 * loads have 16 bytes (8 of bfloat16). Rows are whole fours. */
#include "elementary.h"
#include "reduce.cuh"
#include "fours.cuh"

#define LP_WIDE (128 * LP_FOURS)

/* body(j, i) of every four that the row has; its first element is i */
template <class Body> LPREF_FN void each_four(int n, Body body) {
#pragma unroll
    for (int j = 0; j < LP_FOURS; ++j) {
        int i = 128 * j + 4 * (int)(threadIdx.x & 31);
        if (j < LP_FOURS - 1 || i < n) body(j, i); /* all but the last are whole */
    }
}

/* v <- the row, zeros behind its end */
template <int KIND> LPREF_FN void read_row(const void *x, lp_i64 at, int n, float (*v)[4]) {
#pragma unroll
    for (int k = 0; k < 4; ++k) v[LP_FOURS - 1][k] = 0.0f;
    each_four(n, [&](int j, int i) { take<4, KIND>(x, at + i, v[j]); });
}

/* v[0][0 .. 3] <- sums of the fours that stand 128 apart, in the order of halving */
template <int HALF> LPREF_FN void halve_fours(float (*v)[4]) {
    if constexpr (HALF > 0) {
#pragma unroll
        for (int j = 0; j < HALF; ++j) {
            if (j + HALF < LP_FOURS) {
#pragma unroll
                for (int k = 0; k < 4; ++k) v[j][k] = lp_add(v[j][k], v[j + HALF][k]);
            }
        }
        halve_fours<HALF / 2>(v);
    }
}

/* The sum of the row, in the order of halving (lpref.ref.reduce), known to every thread; v is used up. Elements 64 and 32 apart are in other threads,
 * which exchange halves of what they have, so that each goes on with one number. */
LPREF_FN float row_total(float (*v)[4]) {
    halve_fours<4>(v);
    bool high = threadIdx.x & 16, odd = threadIdx.x & 8;
    float a = lp_add(high ? v[0][2] : v[0][0], __shfl_xor_sync(LP_ALL, high ? v[0][0] : v[0][2], 16));
    float b = lp_add(high ? v[0][3] : v[0][1], __shfl_xor_sync(LP_ALL, high ? v[0][1] : v[0][3], 16));
    float sum = lp_add(odd ? b : a, __shfl_xor_sync(LP_ALL, odd ? a : b, 8));
    sum = lp_add(sum, __shfl_xor_sync(LP_ALL, sum, 4));  /* 16 apart */
    sum = lp_add(sum, __shfl_xor_sync(LP_ALL, sum, 2));  /* 8 */
    sum = lp_add(sum, __shfl_xor_sync(LP_ALL, sum, 1));  /* 4 */
    sum = lp_add(sum, __shfl_xor_sync(LP_ALL, sum, 16)); /* 2: the other half of the four */
    sum = lp_add(sum, __shfl_xor_sync(LP_ALL, sum, 8));  /* 1 */
    return lp_add(sum, 0.0f);
}

/* the row's sum of term(j, k), the element k of four j */
template <class Term> LPREF_FN float row_sum_of(int n, Term term) {
    float v[LP_FOURS][4];
#pragma unroll
    for (int k = 0; k < 4; ++k) v[LP_FOURS - 1][k] = 0.0f;
    each_four(n, [&](int j, int) {
#pragma unroll
        for (int k = 0; k < 4; ++k) v[j][k] = term(j, k);
    });
    return row_total(v);
}

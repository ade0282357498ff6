/* The butterflies of lpref.ref.linalg.hadamard on SIZE numbers of a thread: strides STRIDE, 2 STRIDE, ... below END in this order. */
#ifndef BUTTERFLIES_CUH
#define BUTTERFLIES_CUH
#include "base.h"

template <int SIZE, int STRIDE = 1, int END = SIZE> LPREF_FN void butterflies(float *v) {
    if constexpr (STRIDE < END) {
#pragma unroll
        for (int p = 0; p < SIZE / 2; ++p) {
            const int low = p / STRIDE * 2 * STRIDE + p % STRIDE;
            float a = v[low], b = v[low + STRIDE];
            v[low] = lp_add(a, b);
            v[low + STRIDE] = lp_sub(a, b);
        }
        butterflies<SIZE, 2 * STRIDE, END>(v);
    }
}
#endif

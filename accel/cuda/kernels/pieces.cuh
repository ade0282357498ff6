/* Pieces of K: they end at every block boundary of either operand and every multiple of `chunk`; and the scales of blocks.
 *
 * Scales lie in grids of their operand's blocks: `other` elements of the operand's own axis and `step` of k share one; step 0: constant along k, for the
 * epilogue; null: none. A factor that is missing is 1, which changes no bit. */
#include "tile.cuh"

struct Scales {
    const float *p;
    lp_i64 outer, inner;
    int other, step;
    LPREF_MEMBER lp_i64 row(int i) const { return step ? i / other * outer : 0; }
    LPREF_MEMBER lp_i64 column(int k) const { return step ? k / step * inner : 0; }
    LPREF_MEMBER float at(lp_i64 row, lp_i64 column) const { return p && step ? p[row + column] : 1.0f; }
    LPREF_MEMBER float constant(int i) const { return p && !step ? p[i / other * outer] : 1.0f; }
};

LPREF_FN int boundary(int k, int depth, int step_a, int step_b, int chunk) {
    int stop = depth;
    if (step_a) stop = lp_imin(stop, (k / step_a + 1) * step_a);
    if (step_b) stop = lp_imin(stop, (k / step_b + 1) * step_b);
    if (chunk) stop = lp_imin(stop, (k / chunk + 1) * chunk);
    return stop;
}

/* An output of which `total` is the sum over its pieces, after the scales that are constant along k and those of the tensors. */
LPREF_FN float finished(float total, const Scales &a, int m, const Scales &b, int n, float tensors) {
    return lp_mul(lp_mul(total, lp_mul(a.constant(m), b.constant(n))), tensors);
}

LPREF_FN float of_tensors(const float *a, const float *b) { return lp_mul(a ? *a : 1.0f, b ? *b : 1.0f); }

#ifdef LP_TM
/* C [M, N] <- a thread's outputs of the tile that starts at m0, n0 */
LPREF_FN void write(float *C, int M, int N, int m0, int n0, int y, int x, const float (&total)[LP_TM][LP_TN], const Scales &a, const Scales &b, float tensors) {
#pragma unroll
    for (int i = 0; i < LP_TM; ++i)
#pragma unroll
        for (int j = 0; j < LP_TN; ++j) {
            int m = m0 + LP_ROW(i, y, LP_BM, LP_TM), n = n0 + LP_ROW(j, x, LP_BN, LP_TN);
            if (m < M && n < N) C[(lp_i64)m * N + n] = finished(total[i][j], a, m, b, n, tensors);
        }
}
#endif

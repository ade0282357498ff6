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

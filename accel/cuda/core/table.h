/* The cast of a format without a formula, by a table of at most 16-bit codes (made by lpref.accel.cells from the definition).
 *
 * A cell is a run of neighbouring float32 patterns in which the code changes at most once: place << 32 | code behind << 16 | code before.
 * first[upper 16 bits] = first cell of the bucket x 32 + the right shift of the lower 16 bits: two look-ups and one comparison. */
#ifndef LPREF_CORE_TABLE_H
#define LPREF_CORE_TABLE_H
#include "base.h"

LPREF_FN lp_u32 lp_encode_cells(lp_u32 x, const lp_u32 *first, const lp_u64 *entries) {
    lp_u32 bucket = first[x >> 16], low = x & 0xFFFFu;
    lp_u64 entry = entries[(bucket >> 5) + (low >> (bucket & 31u))];
    return (lp_u32)(low >= (lp_u32)(entry >> 32) ? entry >> 16 : entry) & 0xFFFFu;
}

/* Variants A, B, C (0, 1, 2): the cells give the neighbour nearer to zero; nu = (|x| - lower) / width goes up iff
 * 2^(r+1) (|x| - lower) reaches width k, k = 2 (2^r - R), and 1 less in B and C (C sends ties to the even count). lower, width and above are
 * indexed by the code, + half for negative x. The float64 products are exact: lpref.accel.cells checks that. */
LPREF_FN lp_u32 lp_encode_neighbours(lp_u32 x, const lp_u32 *first, const lp_u64 *entries, const double *lower, const double *width,
                                     const lp_u16 *above, lp_u32 half, lp_u32 word, lp_u32 r, int variant) {
    lp_u32 code = lp_encode_cells(x, first, entries), mask = 0xFFFFFFFFu >> (32u - r);
    lp_u32 at = code + (x >> 31 ? half : 0u), w = word & mask;
    double scale = lp_dmul((double)mask, 2.0) + 2.0, whole = scale - (variant ? 1.0 : 0.0);
    double left = lp_dmul(lp_dsub((double)lp_float(x & LP_ABS), lower[at]), scale);
    double right = lp_dmul(width[at], lp_dsub(whole, lp_dmul((double)w, 2.0)));
    int tie = variant != 2 || (w & 1u) == 0;
    return left > right || (left == right && tie) ? above[at] : code;
}

#endif

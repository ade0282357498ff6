/* panels: the operands that one tensor becomes, from one read: codes, scales, and where they are multiplied at once the numbers in bfloat16.
 *
 * Side a: blocks 1 x K along rows (LP_ROWS); side b: blocks K x 1 down the columns, after a Hadamard transform of theirs (LP_COLUMNS), or K x K
 * (LP_SQUARE). A side's tensor amax (NVFP4) is known before (peaks.cu). LP_A_OUT, LP_B_OUT: whether a side's numbers are wanted. A panel is in shared
 * memory while its sides are made and the next one comes (staged.cuh). Rows go sixteen neighbours a thread as in blocks.cu, columns two a thread. Random
 * words of a panel's column side are made sixteen neighbours a thread too, each Philox block once, and handed over in shared memory. LP_JOINED: the warps
 * of a block of threads always have neighbouring panels of one row of panels, and store the scales of a row together.
 *
 * Versions: 1. transform, amax_grid, scales_grid, elements (columns.cu, tiles.cu) and embed, each through memory: 23 bytes an element of a column side
 * and four more launches. 2. 6.6 bytes, each side a launch that reads from memory. 3. this one. Macros: panel.cuh, block_scale.cuh, embedded.cuh. */
#define LP_PARTS /* a panel has 32 or 64 bytes of a row's codes */
#include "element.h"
#include "philox.h"
#include "scales.h"
#include "embedded.cuh"
#include "panel.cuh"
#include "vectors.cuh"
#include "staged.cuh"

/* Codes, scales, bfloat16 numbers (null: not wanted), tensor scale, tensor amax, the other operand's tensor scale and where {their product, 0} goes (null:
 * not wanted), counters, words of a side. */
#define SIDE(p)                                                                                                                                     \
    lp_u8 *p##_codes, lp_u8 *p##_scales, lp_u32 *p##_out, float *p##_scale, const lp_u32 *p##_amax, const float *p##_other,                   \
        float *p##_alpha, lp_u64 *p##_counters, lp_u64 p##_first,                                                                                    \
        const lp_u32 *p##_step, lp_u32 p##_stream, lp_u64 p##_k0, lp_u64 p##_k1, lp_u64 p##_k2, lp_u64 p##_k3, lp_u64 p##_k4, lp_u64 p##_k5, \
        lp_u64 p##_k6, lp_u64 p##_k7, lp_u64 p##_k8, lp_u64 p##_k9
#define STEP(p) (LP_SR ? *p##_step : 0u)
#define ADDRESS(p) \
    {(lp_u32)p##_first, (lp_u32)(p##_first >> 32), STEP(p), p##_stream, {{p##_k0, p##_k1, p##_k2, p##_k3, p##_k4, p##_k5, p##_k6, p##_k7, p##_k8, p##_k9}}}

struct Target {
    lp_u8 *codes, *scales;
    lp_u32 *out;
};

/* A side's tensor scale, by one thread of all. */
LPREF_FN void tell(float own, float *scale, const float *other, float *alpha) {
    if (blockIdx.x || threadIdx.x) return;
    if (scale) *scale = own;
    if (alpha) alpha[0] = lp_mul(own, *other), alpha[1] = 0.0f;
}

/* Which sixteen of the tensor is in this row of a panel, at column c. */
LPREF_FN lp_u32 unit_of(const Corner &at, lp_u32 row, lp_u32 c, lp_i64 C) { return ((lp_u32)at.row + row) * (lp_u32)(C / 16) + c / 16; }

/* Each side reads x as it does best: rows the 16 bits that there are, columns float32 where they are transformed. */
#if LP_ROWS
namespace a_side {
#define LP_IN LP_FROM
#include "row_side.cuh"
#undef LP_IN
}
#endif
#if LP_COLUMNS || LP_SQUARE
namespace b_side {
#define LP_IN (LP_SIZE ? 0 : LP_FROM)
#if LP_RULE == 3 && LP_BITS == 4 && LP_SR != 16 && !LP_DIVIDE && (LP_SIZE == 4 || LP_SIZE == 16)
#undef LP_BEFORE
#define LP_BEFORE (LP_SIZE == 4 ? 0.5f : 0.25f) /* the transform's factor is part of the block's */
#endif
#undef LP_PAIRED
#define LP_PAIRED (LP_BITS == 4 && LP_SR == 8)
#include "column_side.cuh"
#undef LP_IN
}
#endif

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) panels(const void *x, lp_i64 R, lp_i64 C, const lp_rule *rule, const float *signs, lp_i64 count,
                                                                              float turn_factor, SIDE(a), SIDE(b)) {
    lp_u32 across = (lp_u32)((C + WIDE - 1) / WIDE), panels = (lp_u32)(R / LP_K) * across, first = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    __shared__ lp_16 stages[LP_THREADS / 32][2][STAGE];
    lp_u32 turn = 0, stride = gridDim.x * (LP_THREADS / 32);
    Corner at = corner_of(first, across), by = corner_of(stride, across);
    if (first < panels) fetch_panel(stages[threadIdx.x / 32][0], x, at, C);
    close_group();
#if LP_ROWS
    __shared__ __align__(16) lp_u8 joined[2][LP_K * JOINED];
    lp_u32 done = 0;
    LP_FACTORS(a_factors);
    a_side::Shared ha = a_side::scales_under(rule, a_amax, a_factors);
    a_side::Address a_words = ADDRESS(a);
    a_side::Seen a_seen = {0, 0, 0, 0.0f};
    Target ta = {a_codes, a_scales, a_out};
    tell(ha.t.tensor_scale, a_scale, a_other, a_alpha);
#endif
#if LP_COLUMNS || LP_SQUARE
    LP_FACTORS(b_factors);
    __shared__ __align__(16) lp_u8 drawn_here[LP_THREADS / 32][LP_K * WIDE * WORD_BYTES + 16];
    b_side::Shared hb = b_side::scales_under(rule, b_amax, b_factors);
    b_side::Address b_words = ADDRESS(b);
    b_side::Seen b_seen = {0, 0, 0, 0.0f};
    Target tb = {b_codes, b_scales, b_out};
    __shared__ __align__(16) lp_u32 flips[LP_THREADS / 32][LP_SIZE ? LP_K : 1];
    const bool own = LP_SIZE && signs && count != LP_SIZE; /* each row of x has its sign */
    if (LP_SIZE && !own) flip(flips[threadIdx.x / 32], signs, count, 0);
    tell(hb.t.tensor_scale, b_scale, b_other, b_alpha);
#endif
    for (lp_u32 p = first; p < panels; p += stride, turn ^= 1) {
        lp_16 *stage = stages[threadIdx.x / 32][turn];
        Corner next = further(at, by, across);
        if (p + stride < panels) fetch_panel(stages[threadIdx.x / 32][turn ^ 1], x, next, C);
        close_group();
        await_groups<1>();
#if LP_ROWS
        a_side::row_side(joined[turn], stage, at, C, ta, ha, a_words, a_seen);
#endif
#if LP_COLUMNS || LP_SQUARE
        b_side::Strips v;
        if (own) flip(flips[threadIdx.x / 32], signs, count, at.row);
        b_side::load_strips(v, stage, flips[threadIdx.x / 32]);
        b_side::draw(drawn_here[threadIdx.x / 32], at, C, b_words);
        lp_u32 tops[2];
        b_side::turn_strips(tops, v, turn_factor);
        b_side::column_side(v, tops, drawn_here[threadIdx.x / 32], (lp_u8 *)stage, at, C, tb, hb, b_seen);
#endif
#if LP_JOINED
        __syncthreads(); /* of this turn the scales are there, of the one before they have been read */
        if (done++ % (LP_THREADS / 32) == threadIdx.x / 32) a_side::store_joined(a_scales, joined[turn], at, C);
#else
        __syncwarp(); /* the panel has been read */
#endif
        at = next;
    }
#if LP_ROWS
    a_side::flush(a_seen, a_counters);
    __syncthreads(); /* the tally has been read */
#endif
#if LP_COLUMNS || LP_SQUARE
    b_side::flush(b_seen, b_counters);
#endif
}

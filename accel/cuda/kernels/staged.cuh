/* A panel of x in a warp's shared memory while the next one is on its way, so that it is read once and waited for by nobody. Pieces of 16 bytes lie
 * where rows, sixteen neighbours a lane, and columns, two a lane, are read without two lanes at one bank. After panel.cuh. */
#include "copies.cuh"

#define PIECES (LP_FROM ? 8 : 16) /* of a row */
#define STAGE (LP_K * PIECES)

LPREF_FN lp_u32 piece_at(lp_u32 row, lp_u32 piece) { return row * PIECES + (piece ^ (LP_FROM ? row & 1u : piece >> 3 | (row & 1u) << 1)); }

/* Begins to fetch a panel; columns beyond C are 0. */
LPREF_FN void fetch_panel(lp_16 *to, const void *x, const Corner &at, lp_i64 C) {
    const lp_u32 lane = threadIdx.x % 32, piece = lane % PIECES, row = lane / PIECES, rows = 32 / PIECES, size = LP_FROM ? 2 : 4;
    lp_u32 c = at.column + piece * (16 / size), live = c < C ? 16u : 0u;
    const lp_u8 *from = (const lp_u8 *)x + ((at.row + row) * C + (live ? c : 0u)) * size;
    to += piece_at(row, piece);
#pragma unroll
    for (int i = 0; i < STAGE / 32; ++i, from += rows * C * size) copy16(to + 32 * i, from, live);
}

/* row_warps: one scale a row, by warps that do not wait for memory: the copy engine brings the next row while this one is encoded.
 *
 * A block has a row at a time, in shared memory between amax and codes. Its warps take runs of 32 LP_UNROLL sixteens in turn; where a run has been
 * encoded, one of the next row is asked for. Warps trade their maxima behind one barrier a row (none where a row has one warp) and each makes the
 * scale; LP_RESIDENT rows of a multiprocessor fill each other's gaps. C is a multiple of 16. Macros: elements.cuh.
 *
 * Versions, stochastic INT8 of bfloat16, 2^17 rows of 8192, share of the copy's 4.25 TB/s on a card that gave the last of rows.cu 67 (70 on another):
 * 1. rows.cu: 256 threads a row, which is in registers; three rows a multiprocessor wait at two barriers and for their loads. 67.
 * 2. this one with one warp a row, 13 rows a multiprocessor, a run of 32 or 64 sixteens: 62, 66. With 12 rows 70, 77: a multiprocessor has four
 *    quarters with pipes of their own, rows are dealt out evenly, and the quarter with a warp more ends last.
 * 3. runs of 128 sixteens: 81; straight code for whole runs of plain rows without zeros, so that four sixteens overlap: 84.
 * Signs by one product a word instead of three operations a word more (plain.cuh) are 4 of them. No gain: two warps a row (78) or four (70), a ring that
 * holds a run of the row after next besides (77), two rows a block (73), evict_first. */
#define LP_NEAR (LP_INTEGER && LP_IN == 1)
#include "plain.cuh"
#include "bulk.cuh"
#include "row_scale.cuh"

#define WARPS (LP_THREADS / 32)
#define EACH (LP_UNROLL * 32)    /* sixteens of a run */
#define APART (WARPS * EACH)     /* from a warp's run to its next one */
#define PIECES (EACH * PER_UNIT) /* of 16 bytes in a run */
#ifdef __CUDACC_RTC__
#define STAGE(name) extern __shared__ __align__(128) lp_16 name[]
#else
#define STAGE(name) static __attribute__((aligned(16))) lp_16 name[1 << 14]
#endif

/* Sixteen elements in shared memory; `apart`: between their pieces of 16 bytes. */
LPREF_FN Sixteen staged16(Shelf p, lp_u32 apart = 1u) {
    Sixteen s;
#if LP_IN
    s.a.a = taken16(p, 0u);
    s.b.a = taken16(p, apart);
#else
    s.a.a = taken16(p, 0u);
    s.a.b = taken16(p, apart);
    s.b.a = taken16(p, 2u * apart);
    s.b.b = taken16(p, 3u * apart);
#endif
    return s;
}

/* A warp's runs of a row in shared memory. units: sixteens of a row; first: where the warp's begin; `runs`, of which `whole` do not end beyond the row,
 * `bytes` in all. */
struct Part {
    Shelf shelf;
    lp_u32 units, first, runs, whole, bytes;
};

LPREF_FN Part part_of(lp_16 *stage, lp_u32 units) {
    Part g;
    lp_u32 warp = threadIdx.x / 32u, most = (units + APART - 1u) / APART;
    g.shelf = beyond(shelf_at(stage), warp * most * PIECES);
    g.units = units;
    g.first = warp * EACH;
    g.runs = units <= g.first ? 0u : (units - g.first + APART - 1u) / APART;
    g.whole = units < g.first + EACH ? 0u : (units - g.first - EACH) / APART + 1u;
    g.bytes = (g.whole * EACH + (g.whole < g.runs ? units - g.first - g.whole * APART : 0u)) * (PER_UNIT * 16u);
    return g;
}

/* One lane asks for run k of the row at `row`, with the first one for all. */
LPREF_FN void ask(const Part &g, const lp_16 *row, lp_u32 k, Arrival a) {
    lp_u32 at = g.first + k * APART;
    if (k == 0) expect(a, g.bytes);
    bring(beyond(g.shelf, k * PIECES), row + at * PER_UNIT, lp_umin(g.units - at, EACH) * (PER_UNIT * 16u), a);
}

struct Extremes {
    lp_u32 top, low;
};

LPREF_FN void look(Extremes &e, const Sixteen &x) {
    Magnitudes m = magnitudes(x);
    e.top = larger(e.top, largest16(x, m));
#if LP_IN
    e.low = smaller(e.low, least16(m));
#endif
}

/* Largest magnitude of the warp's part of a row; zeros: whether it has one. Whole runs are read without two lanes at one bank: order does not matter. */
LPREF_FN lp_u32 largest_of(const Part &g, int &zeros) {
    Extremes e = {0u, 0x7FFF7FFFu};
    lp_u32 lane = threadIdx.x % 32u;
#pragma unroll 2
    for (lp_u32 k = 0; k < g.whole; ++k) {
        Shelf run = beyond(g.shelf, k * PIECES + lane);
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) look(e, staged16(beyond(run, j * 32 * PER_UNIT), 32u));
    }
    if (g.whole < g.runs) {
        Shelf run = beyond(g.shelf, g.whole * PIECES);
        lp_u32 left = g.units - g.first - g.whole * APART;
        for (lp_u32 i = lane; i < left; i += 32u) look(e, staged16(beyond(run, i * PER_UNIT)));
    }
    zeros = !LP_IN || __any_sync(0xFFFFFFFFu, !both_alive(e.low));
    return __reduce_max_sync(0xFFFFFFFFu, settled(e.top));
}

/* The largest of all warps. */
LPREF_FN lp_u32 traded(lp_u32 top, lp_u32 *tops) {
#if LP_THREADS > 32
    if (threadIdx.x % 32u == 0) tops[threadIdx.x / 32u] = top;
    __syncthreads();
    top = __reduce_max_sync(0xFFFFFFFFu, threadIdx.x % 32u < WARPS ? tops[threadIdx.x % 32u] : 0u);
#endif
    return top;
}

/* Run k of the row whose codes begin at `to` and whose words at sixteen `words_at`. swift: the row is plain and has no zero. Runs without an end and a
 * question are straight code, in which the sixteens overlap. */
LPREF_FN void encode(lp_u8 *to, const Part &g, lp_u32 k, const Address &words, lp_u32 words_at, const Row &of, int swift, int zeros, Seen &seen) {
    Sixteen now[LP_UNROLL];
    lp_u32 w[LP_UNROLL][8], lane = threadIdx.x % 32u, at = g.first + k * APART + lane;
    Shelf run = beyond(g.shelf, k * PIECES + lane * PER_UNIT);
#pragma unroll
    for (int j = 0; j < LP_UNROLL; ++j) {
        now[j] = staged16(beyond(run, j * 32 * PER_UNIT)); /* beyond the row: anything */
        words16(w[j], words, words_at + at + j * 32);
    }
#if LP_QUICK
    if (swift && k < g.whole) {
        Codes c[LP_UNROLL], d[LP_UNROLL];
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) code16_plain(c[j], d[j], now[j], magnitudes(now[j]), of.b, w[j], seen, 0);
#pragma unroll
        for (int j = 0; j < LP_UNROLL; ++j) store16(to + (at + j * 32) * (2 * LP_BITS), c[j], d[j]);
        return;
    }
#endif
#pragma unroll
    for (int j = 0; j < LP_UNROLL; ++j) {
        lp_u32 own = at + j * 32;
        if (own < g.units) put16(to + own * (2 * LP_BITS), now[j], magnitudes(now[j]), of.s, of.b, of.plain, of.over, w[j], seen, zeros);
    }
}

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) row_warps(const lp_16 *x, lp_u8 *codes, void *scales, lp_i64 R, lp_i64 C, const lp_rule *rule,
    lp_u64 *counters, LP_WORDS) {
    STAGE(stage);
    __shared__ lp_u64 arrivals[WARPS];
    __shared__ lp_u32 tops[2][WARPS]; /* by turns, so that one barrier a row is enough */
    lp_rule q = *rule;
    q.rule = LP_RULE;
#if LP_RULE == 2
    q.mode = LP_MODE;
#endif
    Address words = LP_ADDRESS;
    Seen seen = {0, 0, 0, 0.0f};
    const lp_u32 lane = threadIdx.x % 32u, upper = 0x4B00u + (lp_u32)(R >> 62); /* as the compiler does not know it, it keeps a register for it */
    const Part part = part_of(stage, (lp_u32)(C / 16));
    const Arrival arrival = arrival_at(&arrivals[threadIdx.x / 32u]);
    const lp_i64 stride = (lp_i64)gridDim.x * part.units * PER_UNIT;
    const lp_16 *row = x + (lp_i64)blockIdx.x * part.units * PER_UNIT;
    if (lane == 0) {
        prepare(arrival);
        for (lp_u32 k = 0; k < part.runs; ++k) ask(part, row, k, arrival);
    }
    __syncwarp();
    lp_u32 turn = 0;
    for (lp_i64 r = blockIdx.x; r < R; r += gridDim.x, ++turn) {
        if (part.runs) await(arrival, turn & 1u);
        int zeros;
        lp_u32 top = largest_of(part, zeros);
        top = traded(top, tops[turn & 1u]);
        Row of = row_of(top, q);
        of.b.upper = upper;
        if (threadIdx.x == 0) {
            seen.top = lp_umax(seen.top, top);
            if (LP_SCALE_BYTES == 4) ((lp_u32 *)scales)[r] = of.s.code;
            else ((lp_u8 *)scales)[r] = (lp_u8)of.s.code;
        }
        row += stride;
        const int swift = of.plain && !zeros, more = lane == 0 && r + gridDim.x < R;
        lp_u8 *to = codes + r * C / 8 * LP_BITS;
#pragma unroll 1
        for (lp_u32 k = 0; k < part.runs; ++k) {
            encode(to, part, k, words, (lp_u32)r * part.units, of, swift, zeros, seen);
            __syncwarp();
            if (more) ask(part, row, k, arrival);
        }
    }
    flush(seen, counters);
}

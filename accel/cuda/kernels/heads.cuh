/* Attention's tiles: rows of a head from memory to shared memory as bfloat16, their products, and results back to memory.
 *
 * LP_TERMS 3: a number x is h + l, h the nearest bfloat16 and l that of the rest, and a product is h h' + l h' + h l' (what is left out is below
 * 3 2^-18 of it); 1: h alone. A tile is rows of LP_PITCH halves, the plane of l behind that of h; the eight halves between rows keep every access of a
 * warp free of bank conflicts. LP_D numbers of a head's queries and keys, LP_E of its values, both in LP_WIDE columns (zeros after them).
 * LP_VEC 4: addresses and strides are multiples of 16 bytes. LP_TURN: queries and keys are rotated on the way (lpref.ref.nn.rope). */
#include "bf16.cuh"

#define THREADS (32 * LP_WARPS)
#define PLANES (LP_TERMS == 3 ? 2 : 1)
#define ROWS (16 * LP_MT * LP_WARPS)
#if LP_GROUP /* panels of 64 columns in the order of a warpgroup's matrix unit */
#define LP_PITCH ((LP_WIDE + 63) / 64 * 64)
#define PLACE(rows, r, c) ((c) / 64 * (rows)*64 + (r)*64 + ((((c) >> 3) ^ (r)) & 7) * 8 + ((c)&7))
#define GROUP __shfl_sync(0xFFFFFFFFu, (int)threadIdx.x >> 7, 0)
#define TOGETHER 64 /* rows that are multiplied at once, of which this thread has TEAM */
#define TEAM GROUP
#else
#define LP_PITCH (LP_WIDE + 8)
#define PLACE(rows, r, c) ((r)*LP_PITCH + (c))
#define TOGETHER (16 * LP_MT)
#define TEAM WARP
#endif
#define OF(rows) (PLANES * (rows) * LP_PITCH) /* halves of a tile */
#define LANE ((int)threadIdx.x & 31)
#define WARP ((int)threadIdx.x >> 5)

/* Shared memory, from a multiple of 1024 bytes on where panels want that */
#ifndef __CUDACC_RTC__
#define POOL(bytes) static __attribute__((aligned(1024))) lp_u16 pool[(bytes) / 2]
#elif LP_GROUP
#define POOL(bytes)                         \
    extern __shared__ __align__(16) lp_u16 memory[]; \
    lp_u16 *pool = memory + (-(int)__cvta_generic_to_shared(memory) & 1023) / 2
#else
#define POOL(bytes) extern __shared__ __align__(16) lp_u16 pool[]
#endif

/* Rotation tables [T, LP_D / 2]. */
struct Turn {
    const float *cos, *sin;
};

/* COUNT rows of WIDTH numbers: fetched into registers, put into a tile. */
template <int COUNT, int WIDTH, bool TURNED> struct Rows {
    static const int PARTS = TURNED ? 2 : 1, EACH = WIDTH / PARTS / LP_VEC, ITEMS = COUNT * EACH, PER = (ITEMS + THREADS - 1) / THREADS;
    float held[PER][PARTS][LP_VEC];

    /* rows first ... of x, zeros from row `rows` on */
    LPREF_MEMBER void fetch(const float *x, lp_i64 pitch, int first, int rows) {
        const bool EVEN = THREADS % EACH == 0; /* every thread keeps to a column */
        const float *start = x + (first + (int)threadIdx.x / EACH) * pitch + (int)threadIdx.x % EACH * LP_VEC;
        lp_i64 step = THREADS / EACH * pitch;
#pragma unroll
        for (int n = 0; n < PER; ++n) {
            int item = (int)threadIdx.x + n * THREADS, r = first + item / EACH;
            bool live = (ITEMS % THREADS == 0 || item < ITEMS) && r < rows;
            const float *row = EVEN ? start + n * step : x + r * pitch + item % EACH * LP_VEC;
#pragma unroll
            for (int p = 0; p < PARTS; ++p) {
                const float *from = row + p * (WIDTH / 2);
                if (LP_VEC == 4) {
                    lp_f4 v = live ? *(const lp_f4 *)from : lp_f4{0.0f, 0.0f, 0.0f, 0.0f};
                    held[n][p][0] = v.x, held[n][p][LP_VEC / 4] = v.y, held[n][p][LP_VEC / 2] = v.z, held[n][p][LP_VEC - 1] = v.w;
                } else {
                    held[n][p][0] = live ? *from : 0.0f;
                }
            }
        }
    }

    /* rotated where TURNED, then times factor where SCALED */
    template <bool SCALED> LPREF_MEMBER void put(lp_u16 *tile, float factor, Turn turn, int first, int rows) {
#pragma unroll
        for (int n = 0; n < PER; ++n) {
            int item = (int)threadIdx.x + n * THREADS, r = item / EACH, c = item % EACH * LP_VEC;
            if (ITEMS % THREADS && item >= ITEMS) continue;
            if (TURNED && first + r < rows) rotate(held[n][0], held[n][PARTS - 1], turn, (first + r) * (WIDTH / 2) + c);
#pragma unroll
            for (int p = 0; p < PARTS; ++p) {
                lp_u16 *to = tile + PLACE(COUNT, r, c + p * (WIDTH / 2));
#pragma unroll
                for (int i = 0; SCALED && i < LP_VEC; ++i) held[n][p][i] = lp_mul(held[n][p][i], factor);
                store(to, held[n][p]);
            }
        }
    }

    static LPREF_MEMBER void rotate(float *p, float *q, Turn turn, int at) {
#pragma unroll
        for (int i = 0; i < LP_VEC; ++i) {
            float c = turn.cos[at + i], s = turn.sin[at + i], a = p[i], b = q[i];
            p[i] = lp_sub(lp_mul(a, c), lp_mul(b, s));
            q[i] = lp_add(lp_mul(b, c), lp_mul(a, s));
        }
    }

    static LPREF_MEMBER void store(lp_u16 *to, const float *x) {
        if (LP_VEC == 4) {
            lp_8 h = {pack(x[0], x[LP_VEC / 4]), pack(x[LP_VEC / 2], x[LP_VEC - 1])};
            *(lp_8 *)to = h;
            if (LP_TERMS == 3) *(lp_8 *)(to + COUNT * LP_PITCH) = lp_8{rest(x[0], x[LP_VEC / 4], h.x), rest(x[LP_VEC / 2], x[LP_VEC - 1], h.y)};
        } else {
            lp_u32 h = pack(x[0], 0.0f);
            *to = (lp_u16)h;
            if (LP_TERMS == 3) to[COUNT * LP_PITCH] = (lp_u16)rest(x[0], 0.0f, h);
        }
    }
};

/* Zeros in the columns that nobody puts. */
LPREF_FN void clear(lp_u16 *pool, int halves) {
    if (LP_D == LP_WIDE && LP_E == LP_WIDE) return;
    for (int i = (int)threadIdx.x; i < halves; i += THREADS) pool[i] = 0;
    __syncthreads();
}

template <int NT> LPREF_FN void zero(float (&sum)[LP_MT][NT][4]) {
#pragma unroll
    for (int m = 0; m < LP_MT; ++m)
#pragma unroll
        for (int n = 0; n < NT; ++n)
#pragma unroll
            for (int c = 0; c < 4; ++c) sum[m][n][c] = 0.0f;
}

#if LP_GROUP
#include "warpgroup.cuh"
#else
#include "fragments.cuh"
#endif

/* Row of the tile of which this thread holds numbers 2 h and 2 h + 1 of the m-th fragments. */
LPREF_FN int row_of(int m, int h) { return 16 * (LP_MT * WARP + m) + 8 * h + (LANE >> 2); }

LPREF_FN void write(float *to, int c, int width, float x0, float x1) {
    if (LP_VEC == 4) {
        if (c < width) *(lp_f2 *)(to + c) = lp_f2{x0, x1};
    } else {
        if (c < width) to[c] = x0;
        if (c + 1 < width) to[c + 1] = x1;
    }
}

/* y's rows first ... (below `rows`) <- sum times factor; turned back where TURNED */
template <int WIDTH, bool TURNED> LPREF_FN void store(float *y, lp_i64 pitch, int first, int rows, float (&sum)[LP_MT][LP_WIDE / 8][4], float factor, Turn turn) {
    const int HALF = LP_WIDE / 16;
#pragma unroll
    for (int m = 0; m < LP_MT; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            int r = first + row_of(m, h);
            if (r >= rows) continue;
#pragma unroll
            for (int n = 0; n < LP_WIDE / 8; ++n)
#pragma unroll
                for (int i = 0; i < 2; ++i) sum[m][n][2 * h + i] = lp_mul(sum[m][n][2 * h + i], factor);
#pragma unroll
            for (int n = 0; TURNED && n < HALF; ++n)
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    int at = r * (WIDTH / 2) + 8 * n + 2 * (LANE & 3) + i;
                    float a = sum[m][n][2 * h + i], b = sum[m][n + HALF][2 * h + i], c = turn.cos[at], s = turn.sin[at];
                    sum[m][n][2 * h + i] = lp_add(lp_mul(a, c), lp_mul(b, s));
                    sum[m][n + HALF][2 * h + i] = lp_sub(lp_mul(b, c), lp_mul(a, s));
                }
#pragma unroll
            for (int n = 0; n < LP_WIDE / 8; ++n) write(y + r * pitch, 8 * n + 2 * (LANE & 3), WIDTH, sum[m][n][2 * h], sum[m][n][2 * h + 1]);
        }
}

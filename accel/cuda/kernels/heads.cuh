/* Attention's tiles: rows of a head from memory to shared memory as bfloat16, their products, and results back to memory.
 *
 * LP_TERMS 3: a number x is h + l, h the nearest bfloat16 and l that of the rest, and a product is h h' + l h' + h l' (what is left out is below
 * 3 2^-18 of it); 1: h alone. LP_SIXTEEN: queries, keys and values are bfloat16 in memory, so that l is zero and its plane is left out, but
 * of what was rotated, whose planes lie in memory. LP_DO: do is bfloat16 in memory. A tile is rows of LP_PITCH halves, the plane of l behind that of h; the eight halves between rows keep
 * every access of a warp free of bank conflicts. LP_D numbers of a head's queries and keys, LP_E of its values, both in LP_WIDE columns (zeros after them).
 * LP_VEC 4, 8: addresses and strides are multiples of 16 bytes. LP_TURN: queries and keys are rotated (lpref.ref.nn.rope) and
 * their gradients turned back: of float32 on the way, of bfloat16 by a kernel before (flash_halves.cu), or (2) on the way, or (3, forward) the queries on
 * the way, whose planes it leaves for the backward. */
#include "bf16.cuh"
#include "peak.cuh"

#define THREADS (32 * LP_WARPS)
#define PLANES (LP_TERMS == 3 ? 2 : 1)                            /* of what is made here: probabilities and gradients of scores */
#define PLANES_K (LP_SIXTEEN && !LP_TURN ? 1 : PLANES)            /* of queries and keys */
#define PLANES_V (LP_SIXTEEN ? 1 : PLANES)                        /* of values */
#define PLANES_D (LP_DO ? 1 : PLANES)                             /* of do */
#define TURN_IN (LP_TURN == 2 || (LP_TURN && !LP_SIXTEEN))        /* rotated on the way */
#define LESSER(term, planes) ((term) == 1 && (planes) == 2)       /* whether a term takes l of the left side, of so many planes */
#define OTHERS(term, planes) ((term) > 0 && !LESSER(term, planes)) /* or l of the right side; there are left + right planes - 1 terms */
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
#define OF_K(rows) (PLANES_K * (rows)*LP_PITCH) /* halves of a tile of queries or keys */
#define OF_V(rows) (PLANES_V * (rows)*LP_PITCH) /* of values */
#define OF_D(rows) (PLANES_D * (rows)*LP_PITCH) /* of do */
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

#if LP_SHORT /* gradients are stored as bfloat16 */
typedef lp_u16 Stored;
#else
typedef float Stored;
#endif
#if LP_SIXTEEN
typedef lp_u16 Number;
#else
typedef float Number;
#endif
#if LP_DO
typedef lp_u16 Do;
#else
typedef float Do;
#endif
LPREF_FN lp_u32 bits_of(lp_u16 x) { return x; }
LPREF_FN lp_u32 bits_of(float x) { return lp_bits(x); }
/* number i of words that hold those of this type */
template <class From> LPREF_FN float number_of(const lp_u32 *words, int i) {
    return sizeof(From) == 4 ? lp_float(words[i]) : i % 2 ? high(words[i / 2]) : low(words[i / 2]);
}
/* numbers of 16 bytes, or one */
template <class From> constexpr LPREF_MEMBER int vector_of() { return LP_VEC == 1 ? 1 : 16 / (int)sizeof(From); }

/* How scores become exponents of 2: times `sign`, then times `factor` > 0, for c = scale log2 e */
struct Exponent {
    float factor, sign;
};
LPREF_FN Exponent exponent_of(float c) { return c > 0.0f ? Exponent{c, 1.0f} : c < 0.0f ? Exponent{-c, -1.0f} : Exponent{1.0f, c}; }

/* scores times their sign, which hardly ever is not 1 */
template <int NT> LPREF_FN void turned_over(float (&s)[LP_MT][NT][4], Exponent by) {
    if (by.sign == 1.0f) return;
#pragma unroll
    for (int m = 0; m < LP_MT; ++m)
#pragma unroll
        for (int n = 0; n < NT; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) s[m][n][i] = lp_mul(s[m][n][i], by.sign);
}

#include "fetch.cuh"

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

/* two numbers, to nearest even */
LPREF_FN void write(lp_u16 *to, int c, int width, float x0, float x1) {
    lp_u32 pair = pack(x0, x1);
    if (LP_VEC > 1) {
        if (c < width) *(lp_u32 *)(to + c) = pair;
    } else {
        if (c < width) to[c] = (lp_u16)pair;
        if (c + 1 < width) to[c + 1] = (lp_u16)(pair >> 16);
    }
}
LPREF_FN void write(float *to, int c, int width, float x0, float x1) {
    if (LP_VEC > 1) {
        if (c < width) *(lp_f2 *)(to + c) = lp_f2{x0, x1};
    } else {
        if (c < width) to[c] = x0;
        if (c + 1 < width) to[c + 1] = x1;
    }
}

/* y's rows first ... (below `rows`) <- sum times factor; turned back where TURNED; top: peak.cuh */
template <int WIDTH, bool TURNED, class Kept>
LPREF_FN void store(Kept *y, lp_i64 pitch, int first, int rows, float (&sum)[LP_MT][LP_WIDE / 8][4], float factor, Turn turn, lp_u32 &top) {
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
            for (int n = 0; n < LP_WIDE / 8; ++n) {
                int c = 8 * n + 2 * (LANE & 3);
                write(y + r * pitch, c, WIDTH, sum[m][n][2 * h], sum[m][n][2 * h + 1]);
                if (c < WIDTH) seen_in<1>(top, &sum[m][n][2 * h]);
                if (c + 1 < WIDTH) seen_in<1>(top, &sum[m][n][2 * h + 1]);
            }
        }
}

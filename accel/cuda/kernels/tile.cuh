/* The tile of a matrix product: LP_BM x LP_BN outputs a block, LP_TM x LP_TN a thread, LP_BK of k at a time in shared memory, two buffers.
 *
 * Operands are addressed by strides, so one kernel serves every layout: element (i, k) of a side is at i outer + k inner. Threads that load
 * walk along k where LP_A_K (LP_B_K), else along i: whichever is contiguous. Whatever lies outside is 0 on both sides, and +0 added to a sum that
 * began at +0 changes no bit. */
#include "base.h"

#ifndef LP_THREADS
#define LP_THREADS ((LP_BM / LP_TM) * (LP_BN / LP_TN))
#endif
#define LP_VECTOR(part) ((part) < 4 ? (part) : 4)
/* The i-th of a thread's `part` rows (columns) of a tile of `size`: runs of four, so that shared memory is read 16 bytes at a time. */
#define LP_ROW(i, y, size, part) ((i) / LP_VECTOR(part) * ((size) / ((part) / LP_VECTOR(part))) + (y)*LP_VECTOR(part) + (i) % LP_VECTOR(part))

/* The loads of one thread from one side: load n is element (row + n ROWS, k + n KS) of the tile. */
template <int SIZE, int ALONG_K> struct Loader {
    static constexpr int COUNT = SIZE * LP_BK / LP_THREADS;
    static constexpr int ROWS = ALONG_K ? LP_THREADS / LP_BK : 0, KS = ALONG_K ? 0 : LP_THREADS / SIZE;
    const float *p;
    lp_i64 inner, step;
    int row, k, left; /* left: elements of this side from the thread's first row on */

    LPREF_MEMBER Loader(const float *base, lp_i64 outer, lp_i64 inner_, int first, int count) : inner(inner_) {
        int t = (int)threadIdx.x;
        row = ALONG_K ? t / LP_BK : t % SIZE;
        k = ALONG_K ? t % LP_BK : t / SIZE;
        left = count - first - row;
        step = ALONG_K ? outer * ROWS : inner * KS;
        p = base + (lp_i64)(first + row) * outer + (lp_i64)k * inner;
    }

    /* k = from .. stop - 1 of the side into registers */
    LPREF_MEMBER void fetch(int from, int stop, float *r) const {
        const float *q = p + (lp_i64)from * inner;
#pragma unroll
        for (int n = 0; n < COUNT; ++n, q += step) r[n] = n * ROWS < left && from + k + n * KS < stop ? *q : 0.0f;
    }

    template <class T> LPREF_MEMBER void put(T (*tile)[SIZE + 4], const float *r) const {
#pragma unroll
        for (int n = 0; n < COUNT; ++n) tile[k + n * KS][row + n * ROWS] = (T)r[n];
    }
};

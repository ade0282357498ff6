/* Rows of a head from memory to a tile of shared memory, as bfloat16 in one plane or two. Macros: heads.cuh.
 *
 * Two planes of bfloat16 sources lie in memory as such (flash_halves.cu): behind a row's halves those of the rest.
 * Numbers that have to be made (halves of float32, rotated pairs) go through registers: fetched while others multiply, put when the tile is free.
 * bfloat16 that stays as it is needs no registers in the order of warpgroups: what is put is copied beside the threads (cp.async) until `published`. */

/* COUNT rows of WIDTH numbers (float or the bits of bfloat16) to a tile of PLANES_OF planes */
template <class Number, int COUNT, int WIDTH, bool TURNED, int PLANES_OF> struct Rows {
    static const int VEC = vector_of<Number>(); /* numbers at once */
    static const bool AS_IT_IS = sizeof(Number) == 2 && !TURNED, BESIDE = AS_IT_IS && LP_GROUP && VEC > 1;
    static const int PARTS = TURNED || (AS_IT_IS && PLANES_OF == 2) ? 2 : 1, APART = TURNED ? WIDTH / 2 : WIDTH; /* pieces of a thread in a row, in memory */
    static const int BETWEEN = AS_IT_IS ? COUNT * LP_PITCH : 0; /* and from plane to plane of the tile */
    static const int EACH = WIDTH / (TURNED ? 2 : 1) / VEC, ITEMS = COUNT * EACH, PER = (ITEMS + THREADS - 1) / THREADS, WORDS = VEC > 1 ? 4 : 1;
    static const bool EVEN = THREADS % EACH == 0; /* every thread keeps to a column */
    lp_u32 held[BESIDE ? 1 : PER][PARTS][WORDS];

    /* f(n, row of the tile, column, address of the source, whether it is there) for every piece of this thread; rows from `rows` on are not there */
    template <class Each> static LPREF_MEMBER void pieces(const Number *x, lp_i64 pitch, int first, int rows, Each f) {
        const Number *start = x + (first + (int)threadIdx.x / EACH) * pitch + (int)threadIdx.x % EACH * VEC;
        lp_i64 step = THREADS / EACH * pitch;
#pragma unroll
        for (int n = 0; n < PER; ++n) {
            int item = (int)threadIdx.x + n * THREADS, r = item / EACH, c = item % EACH * VEC;
            bool inside = ITEMS % THREADS == 0 || item < ITEMS;
            if (inside || !BESIDE) f(n, r, c, EVEN ? start + n * step : x + (first + r) * pitch + c, inside && first + r < rows);
        }
    }

    /* rows first ... of x, zeros from row `rows` on */
    LPREF_MEMBER void fetch(const Number *x, lp_i64 pitch, int first, int rows) {
        if (BESIDE) return;
        pieces(x, pitch, first, rows, [&](int n, int, int, const Number *row, bool live) {
#pragma unroll
            for (int p = 0; p < PARTS; ++p) {
                const Number *from = row + p * APART;
                if (VEC > 1) {
                    lp_16 v = live ? *(const lp_16 *)from : lp_16{0u, 0u, 0u, 0u};
                    held[n][p][0] = v.x, held[n][p][WORDS / 4] = v.y, held[n][p][WORDS / 2] = v.z, held[n][p][WORDS - 1] = v.w;
                } else {
                    held[n][p][0] = live ? bits_of(*from) : 0u;
                }
            }
        });
    }

    /* what was fetched, or the same rows now; rotated where TURNED; left: where the planes of what is rotated also go, by rows like those of x, if anywhere */
    LPREF_MEMBER void put(lp_u16 *tile, Turn turn, const Number *x, lp_i64 pitch, int first, int rows, lp_u16 *left = 0, lp_i64 apart = 0) {
        if (BESIDE) {
            pieces(x, pitch, first, rows, [&](int, int r, int c, const Number *row, bool live) {
#pragma unroll
                for (int p = 0; p < PARTS; ++p) copy16((lp_16 *)(tile + PLACE(COUNT, r, c) + p * BETWEEN), row + p * APART, live ? 16 : 0);
            });
            return;
        }
#pragma unroll
        for (int n = 0; n < PER; ++n) {
            int item = (int)threadIdx.x + n * THREADS, r = item / EACH, c = item % EACH * VEC;
            if (ITEMS % THREADS && item >= ITEMS) continue;
            float real[PARTS][VEC];
#pragma unroll
            for (int p = 0; p < PARTS; ++p)
#pragma unroll
                for (int i = 0; i < VEC; ++i) real[p][i] = number_of<Number>(held[n][p], i);
            if (TURNED && first + r < rows) rotate(real[0], real[PARTS - 1], turn, (first + r) * (WIDTH / 2) + c);
#pragma unroll
            for (int p = 0; p < PARTS; ++p) {
                lp_u16 *to = tile + (AS_IT_IS ? PLACE(COUNT, r, c) + p * BETWEEN : PLACE(COUNT, r, c + p * APART));
                if (AS_IT_IS)
                    keep(to, held[n][p]);
                else
                    store(to, real[p]);
                if (TURNED && VEC == 8 && left && first + r < rows) leave(left + (first + r) * apart + c + p * APART, real[p]);
            }
        }
    }

    static LPREF_MEMBER void rotate(float *p, float *q, Turn turn, int at) {
#pragma unroll
        for (int i = 0; i < VEC; ++i) {
            float c = turn.cos[at + i], s = turn.sin[at + i], a = p[i], b = q[i];
            p[i] = lp_sub(lp_mul(a, c), lp_mul(b, s));
            q[i] = lp_add(lp_mul(b, c), lp_mul(a, s));
        }
    }

    static LPREF_MEMBER void leave(lp_u16 *to, const float *x) {
        lp_u32 h[4], l[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            h[i] = pack(x[2 * i % VEC], x[(2 * i + 1) % VEC]);
            l[i] = rest(x[2 * i % VEC], x[(2 * i + 1) % VEC], h[i]);
        }
        *(lp_16 *)to = lp_16{h[0], h[1], h[2], h[3]};
        if (PLANES_OF == 2) *(lp_16 *)(to + WIDTH) = lp_16{l[0], l[1], l[2], l[3]};
    }

    static LPREF_MEMBER void keep(lp_u16 *to, const lp_u32 *words) {
        if (VEC > 1)
            *(lp_16 *)to = lp_16{words[0], words[WORDS / 4], words[WORDS / 2], words[WORDS - 1]};
        else
            *to = (lp_u16)words[0];
    }

    static LPREF_MEMBER void store(lp_u16 *to, const float *x) {
        if (VEC == 1) {
            lp_u32 h = pack(x[0], 0.0f);
            *to = (lp_u16)h;
            if (PLANES_OF == 2) to[COUNT * LP_PITCH] = (lp_u16)rest(x[0], 0.0f, h);
        }
#pragma unroll
        for (int i = 0; i + 3 < VEC; i += 4) {
            lp_8 h = {pack(x[i], x[i + 1]), pack(x[i + 2], x[i + 3])};
            *(lp_8 *)(to + i) = h;
            if (PLANES_OF == 2) *(lp_8 *)(to + i + COUNT * LP_PITCH) = lp_8{rest(x[i], x[i + 1], h.x), rest(x[i + 2], x[i + 3], h.y)};
        }
    }
};

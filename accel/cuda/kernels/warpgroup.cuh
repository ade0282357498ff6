/* The matrix unit of a warpgroup (wgmma, sm_90a): 128 threads multiply 64 rows at once, the right side and, where it can, the left one in shared memory.
 *
 * A tile's 64 columns are a panel of rows of 128 bytes in eight pieces of 16; piece c of row r lies where piece c ^ (r & 7) would (the unit's 128-byte
 * swizzle), so neither the unit nor the threads that put rows meet bank conflicts. A panel starts at a multiple of 1024 bytes. The same panel is read with
 * k along its rows (by_rows) or down its columns (by_columns): descriptors say which. Sums are those of m16n8k16's fragments, 64 rows high.
 * The unit runs beside the threads: what it is given is its own until `settle`, and what threads put is `published` before others see a barrier.
 * PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions". */

#ifdef __CUDACC_RTC__
#define SUM(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
LPREF_FN void group(float (&d)[4][4], lp_u64 a, lp_u64 b, int add) {
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %18, 0; wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, %16, %17, p, 1, 1, 0, 0;}"
        : SUM(0), SUM(1), SUM(2), SUM(3)
        : "l"(a), "l"(b), "r"(add));
}
LPREF_FN void group(float (&d)[4][4], const lp_u32 *a, lp_u64 b, int add) {
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %21, 0; wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19}, %20, p, 1, 1, 1;}"
        : SUM(0), SUM(1), SUM(2), SUM(3)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}
LPREF_FN void group(float (&d)[8][4], lp_u64 a, lp_u64 b, int add) {
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, p, 1, 1, 0, 0;}"
        : SUM(0), SUM(1), SUM(2), SUM(3), SUM(4), SUM(5), SUM(6), SUM(7)
        : "l"(a), "l"(b), "r"(add));
}
LPREF_FN void group(float (&d)[8][4], const lp_u32 *a, lp_u64 b, int add) {
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, p, 1, 1, 1;}"
        : SUM(0), SUM(1), SUM(2), SUM(3), SUM(4), SUM(5), SUM(6), SUM(7)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}
LPREF_FN void group(float (&d)[16][4], lp_u64 a, lp_u64 b, int add) {
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, p, 1, 1, 0, 0;}"
        : SUM(0), SUM(1), SUM(2), SUM(3), SUM(4), SUM(5), SUM(6), SUM(7), SUM(8), SUM(9), SUM(10), SUM(11), SUM(12), SUM(13), SUM(14), SUM(15)
        : "l"(a), "l"(b), "r"(add));
}
LPREF_FN void group(float (&d)[16][4], const lp_u32 *a, lp_u64 b, int add) {
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %69, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, {%64,%65,%66,%67}, %68, p, 1, 1, 1;}"
        : SUM(0), SUM(1), SUM(2), SUM(3), SUM(4), SUM(5), SUM(6), SUM(7), SUM(8), SUM(9), SUM(10), SUM(11), SUM(12), SUM(13), SUM(14), SUM(15)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}
#undef SUM

LPREF_FN void group_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
LPREF_FN void group_end() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/* What the unit was given is done, but for the last LATER products. */
template <int NT, int LATER = 0> LPREF_FN void settle(float (&sum)[LP_MT][NT][4]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LATER) : "memory");
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
        for (int c = 0; c < 4; ++c) asm volatile("" : "+f"(sum[0][n][c])::"memory");
}
LPREF_FN void published() { asm volatile("cp.async.wait_all;\nfence.proxy.async.shared::cta;" ::: "memory"); }

/* Where a tile's panel lies, for the unit: 8 rows are 1024 bytes; `panels`: bytes from one panel to the next, where columns are n. What lies `halves`
 * farther is described by the number + halves / 8. */
LPREF_FN lp_u64 described(const lp_u16 *at, int panels) {
    lp_u64 address = (lp_u64)(lp_u32)__cvta_generic_to_shared(at);
    return (address & 0x3FFFF) >> 4 | (lp_u64)(panels >> 4) << 16 | (lp_u64)(1024 >> 4) << 32 | 1ull << 62;
}

/* sum [64, 8 NT] = A B^T of the warpgroup's rows of tile a (of ROWS) of PA planes, and the rows of tile b, of PB; `settle` before it is read */
template <int NT, int PA, int PB> LPREF_FN void by_rows(float (&sum)[LP_MT][NT][4], const lp_u16 *a, const lp_u16 *b) {
    lp_u64 of_a = described(a + 64 * 64 * GROUP, 16), of_b = described(b, 16);
    group_begin();
#pragma unroll
    for (int k = 0; k < LP_WIDE; k += 16) {
        int at = k % 64, left = k / 64 * ROWS * 64, right = k / 64 * 8 * NT * 64;
#pragma unroll
        for (int t = 0; t < PA + PB - 1; ++t)
            group(sum[0], of_a + (LESSER(t, PA) * ROWS * LP_PITCH + left + at) / 8, of_b + (OTHERS(t, PA) * 8 * NT * LP_PITCH + right + at) / 8, k + t > 0);
    }
    group_end();
}

/* The left side of by_columns: settled sums of by_rows. */
template <int KT> struct Left {
    lp_u32 of[KT / 2][PLANES][4];
    LPREF_MEMBER void take(const float (&left)[LP_MT][KT][4]) {
#pragma unroll
        for (int k = 0; k < KT; k += 2)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float *x = left[0][k + i / 2] + i % 2 * 2;
                of[k / 2][0][i] = pack(x[0], x[1]);
                if (LP_TERMS == 3) of[k / 2][PLANES - 1][i] = rest(x[0], x[1], of[k / 2][0][i]);
            }
    }
};

/* sum [64, LP_WIDE] += P B: B the 8 KT rows of tile b, of PB planes */
template <int KT, int PB> LPREF_FN void by_columns(float (&sum)[LP_MT][LP_WIDE / 8][4], const Left<KT> &left, const lp_u16 *b) {
    lp_u64 of_b = described(b, 8 * KT * 128);
    group_begin();
#pragma unroll
    for (int k = 0; k < KT; k += 2)
#pragma unroll
        for (int t = 0; t < PLANES + PB - 1; ++t)
            group(sum[0], left.of[k / 2][LESSER(t, PLANES)], of_b + (OTHERS(t, PLANES) * 8 * KT * LP_PITCH + 8 * k * 64) / 8, 1);
    group_end();
}
#else /* the same products from where PLACE says that numbers lie: no model of the unit's descriptors */
template <int NT, int LATER = 0> LPREF_FN void settle(float (&)[LP_MT][NT][4]) {}
LPREF_FN void published() {}

/* Number (r, c) of plane p of a tile of COUNT rows */
template <int COUNT> LPREF_FN double number(const lp_u16 *tile, int p, int r, int c) { return low(tile[p * COUNT * LP_PITCH + PLACE(COUNT, r, c)]); }

template <int NT, int PA, int PB> LPREF_FN void by_rows(float (&sum)[LP_MT][NT][4], const lp_u16 *a, const lp_u16 *b) {
    for (int n = 0; n < NT; ++n)
        for (int c = 0; c < 4; ++c) {
            int r = 16 * WARP + c / 2 * 8 + (LANE >> 2), column = 8 * n + 2 * (LANE & 3) + c % 2;
            double total = 0.0;
            for (int t = 0; t < PA + PB - 1; ++t)
                for (int k = 0; k < LP_WIDE; ++k) total += number<ROWS>(a, LESSER(t, PA), r, k) * number<8 * NT>(b, OTHERS(t, PA), column, k);
            sum[0][n][c] = (float)total;
        }
}

template <int KT> struct Left {
    float row[2][8 * KT]; /* of all four lanes that hold a row */
    LPREF_MEMBER void take(const float (&left)[LP_MT][KT][4]) {
        for (int n = 0; n < KT; ++n)
            for (int c = 0; c < 4; ++c)
                for (int q = 0; q < 4; ++q) row[c / 2][8 * n + 2 * q + c % 2] = __shfl_sync(0xFFFFFFFFu, left[0][n][c], (LANE & 28) + q);
    }
};

template <int KT, int PB> LPREF_FN void by_columns(float (&sum)[LP_MT][LP_WIDE / 8][4], const Left<KT> &left, const lp_u16 *b) {
    for (int n = 0; n < LP_WIDE / 8; ++n)
        for (int c = 0; c < 4; ++c) {
            double total = sum[0][n][c];
            for (int t = 0; t < PLANES + PB - 1; ++t)
                for (int k = 0; k < 8 * KT; ++k) {
                    float x = left.row[c / 2][k];
                    lp_u32 h = pack(x, 0.0f);
                    total += (double)low(LESSER(t, PLANES) ? rest(x, 0.0f, h) : h) * number<8 * KT>(b, OTHERS(t, PLANES), k, 8 * n + 2 * (LANE & 3) + c % 2);
                }
            sum[0][n][c] = (float)total;
        }
}
#endif

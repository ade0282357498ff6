/* gemm_float64: c[m, n] = sum over the pieces of K, ascending, of fl32(dot of the piece) fl32(s_a s_b), then the scales that are constant along k:
 * lpref.ref.linalg.gemm of block-scaled codes, exact inner products, grade exact. Pieces and scales: pieces.cuh.
 *
 * Elements are whole multiples of their format's quantum, so float64 products and sums are exact as long as a sum stays below 2^53 quanta, in any order:
 * the tensor cores' float64 instruction makes them, 8 x 8 outputs and four k at a time. Wider operands (E5M2: 32 bits) are cut in two: LP_SLICES_A,
 * LP_SLICES_B; x = hi + lo at the multiple `cut` of a power of two; sums of slices of one weight are exact, and are added with one rounding, through
 * rounding to odd. NaN and infinities (which only then need care) are noticed while loading; such a piece's plain sum decides where it is not finite.
 * Eight warps, 4 x 2, of LP_MT x LP_NT instructions each: LP_BM = 32 LP_MT, LP_BN = 16 LP_NT; columns of 4 more than a multiple of 16 doubles lie in
 * other banks. Versions: 1. multiply-adds of 4 x 4 outputs a thread: bound by shared memory, 8.4 ms for MXFP8 16384 x 3072 x 768 on an H200.
 * 2. this one. */
#define LP_THREADS 256
#include "pieces.cuh"

#define DIGITS (LP_SLICES_A + LP_SLICES_B - 1)

/* s = fl(a + b) and the error of it */
LPREF_FN double two_sum(double a, double b, double *error) {
    double s = lp_dadd(a, b), t = lp_dsub(s, a);
    *error = lp_dadd(lp_dsub(a, lp_dsub(s, t)), lp_dsub(b, t));
    return s;
}

/* a + b rounded to odd */
LPREF_FN double odd_add(double a, double b) {
    double error, s = two_sum(a, b, &error);
    lp_i64 bits = lp_dbits(s);
    if ((error > 0.0 || error < 0.0) && !(bits & 1)) bits += (error > 0.0) == (s > 0.0) ? 1 : -1;
    return lp_double(bits);
}

/* The sum of the digits, rounded once. Three: what cancels in the upper sum is exact there, and what does not leaves the errors far below it. */
LPREF_FN float rounded(const double *d) {
#if DIGITS == 1
    return lp_narrow(lp_dadd(d[0], 0.0));
#elif DIGITS == 2
    return lp_narrow(lp_dadd(odd_add(d[0], d[1]), 0.0));
#else
    double low, high, s = two_sum(d[2], d[1], &low);
    s = two_sum(d[0], s, &high);
    return lp_narrow(lp_dadd(odd_add(s, odd_add(high, low)), 0.0));
#endif
}

/* x = hi + lo, hi a multiple of cut; numbers that are not finite become 0 and are reported */
LPREF_FN int split(float x, float cut, float inverse, double *hi, double *lo) {
    int bad = (lp_bits(x) & LP_ABS) >= LP_INF;
    float v = bad ? 0.0f : x, top = lp_mul(truncf(lp_mul(v, inverse)), cut);
    *hi = (double)top;
    *lo = (double)lp_sub(v, top);
    return bad;
}

template <int SLICES, int SIZE, class Load> LPREF_FN int put(double (*tile)[LP_BK][SIZE + 4], const Load &load, const float *r, float cut, float inverse) {
    int bad = 0;
#if DIGITS > 1
#pragma unroll
    for (int n = 0; n < Load::COUNT; ++n) {
        int k = load.k + n * Load::KS, i = load.row + n * Load::ROWS;
        double hi, lo;
        if (SLICES == 2) {
            bad |= split(r[n], cut, inverse, &hi, &lo);
            tile[0][k][i] = hi;
            tile[SLICES - 1][k][i] = lo;
        } else {
            int wrong = (lp_bits(r[n]) & LP_ABS) >= LP_INF;
            tile[0][k][i] = wrong ? 0.0 : (double)r[n];
            bad |= wrong;
        }
    }
#else
    load.put(tile[0], r);
#endif
    return bad;
}

/* sum (8 x 8 of a warp, two a lane) += a (8 x 4) b (4 x 8): lane 4 g + q has a[g, q] and b[q, g], sums [g, 2 q] and [g, 2 q + 1] */
LPREF_FN void multiply(double *sum, double a, double b) {
#ifdef __CUDACC_RTC__
    asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};" : "+d"(sum[0]), "+d"(sum[1]) : "d"(a), "d"(b));
#else
    gpu::multiply(sum, a, b);
#endif
}

extern "C" __global__ void __launch_bounds__(LP_THREADS) gemm(
    const float *A, lp_i64 a_outer, lp_i64 a_inner, const float *a_scale, lp_i64 as_outer, lp_i64 as_inner, int a_other, int a_step, const float *a_tensor,
    float a_cut, const float *B, lp_i64 b_outer, lp_i64 b_inner, const float *b_scale, lp_i64 bs_outer, lp_i64 bs_inner, int b_other, int b_step,
    const float *b_tensor, float b_cut, float *C, int M, int N, int K, int chunk) {
    __shared__ __align__(16) double sa[2][LP_SLICES_A][LP_BK][LP_BM + 4], sb[2][LP_SLICES_B][LP_BK][LP_BN + 4];
    __shared__ int not_finite;
    int wide = (N + LP_BN - 1) / LP_BN, m0 = (int)blockIdx.x / wide * LP_BM, n0 = (int)blockIdx.x % wide * LP_BN;
    Scales of_a = {a_scale, as_outer, as_inner, a_other, a_step}, of_b = {b_scale, bs_outer, bs_inner, b_other, b_step};
    Loader<LP_BM, LP_A_K> load_a(A, a_outer, a_inner, m0, M);
    Loader<LP_BN, LP_B_K> load_b(B, b_outer, b_inner, n0, N);
    int lane = (int)threadIdx.x % 32, g = lane / 4, q = lane % 4, wm = (int)threadIdx.x / 32 % 4 * 8 * LP_MT, wn = (int)threadIdx.x / 128 * 8 * LP_NT;
    float ra[load_a.COUNT], rb[load_b.COUNT], total[LP_MT][LP_NT][2];
    double sum[LP_MT][LP_NT][DIGITS][2];
#pragma unroll
    for (int i = 0; i < LP_MT; ++i)
#pragma unroll
        for (int j = 0; j < LP_NT; ++j)
#pragma unroll
            for (int c = 0; c < 2; ++c) {
                total[i][j][c] = 0.0f;
#pragma unroll
                for (int d = 0; d < DIGITS; ++d) sum[i][j][d][c] = 0.0;
            }
    lp_i64 row_a[LP_MT], row_b[LP_NT][2]; /* where the scales of this thread's outputs are: divided once, not for each piece */
#pragma unroll
    for (int i = 0; i < LP_MT; ++i) row_a[i] = of_a.row(lp_imin(m0 + wm + 8 * i + g, M - 1));
#pragma unroll
    for (int j = 0; j < LP_NT; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) row_b[j][c] = of_b.row(lp_imin(n0 + wn + 8 * j + 2 * q + c, N - 1));
    if (threadIdx.x == 0) not_finite = 0;
    __syncthreads();
    int piece = 0, stop = boundary(0, K, a_step, b_step, chunk);
    load_a.fetch(0, stop, ra);
    load_b.fetch(0, stop, rb);
    for (int from = 0, turn = 0; from < K; turn ^= 1) {
        int bad = put<LP_SLICES_A, LP_BM>(sa[turn], load_a, ra, a_cut, lp_div(1.0f, a_cut));
        bad |= put<LP_SLICES_B, LP_BN>(sb[turn], load_b, rb, b_cut, lp_div(1.0f, b_cut));
        if (bad) not_finite = 1;
        __syncthreads();
        int next = lp_imin(from + LP_BK, stop), until = next < stop ? stop : boundary(next, K, a_step, b_step, chunk);
        load_a.fetch(next, until, ra);
        load_b.fetch(next, until, rb);
#pragma unroll
        for (int k = 0; k < LP_BK; k += 4) {
            double fa[LP_SLICES_A][LP_MT], fb[LP_SLICES_B][LP_NT];
#pragma unroll
            for (int s = 0; s < LP_SLICES_A; ++s)
#pragma unroll
                for (int i = 0; i < LP_MT; ++i) fa[s][i] = sa[turn][s][k + q][wm + 8 * i + g];
#pragma unroll
            for (int s = 0; s < LP_SLICES_B; ++s)
#pragma unroll
                for (int j = 0; j < LP_NT; ++j) fb[s][j] = sb[turn][s][k + q][wn + 8 * j + g];
#pragma unroll
            for (int i = 0; i < LP_MT; ++i)
#pragma unroll
                for (int j = 0; j < LP_NT; ++j)
#pragma unroll
                    for (int s = 0; s < LP_SLICES_A; ++s)
#pragma unroll
                        for (int t = 0; t < LP_SLICES_B; ++t) multiply(sum[i][j][s + t], fa[s][i], fb[t][j]);
        }
        if (next == stop) {
            lp_i64 at_a = of_a.column(piece), at_b = of_b.column(piece);
            float s_b[LP_NT][2];
#pragma unroll
            for (int j = 0; j < LP_NT; ++j)
#pragma unroll
                for (int c = 0; c < 2; ++c) s_b[j][c] = of_b.at(row_b[j][c], at_b);
#pragma unroll
            for (int i = 0; i < LP_MT; ++i) {
                float s_a = of_a.at(row_a[i], at_a);
#pragma unroll
                for (int j = 0; j < LP_NT; ++j)
#pragma unroll
                    for (int c = 0; c < 2; ++c) {
                        double digits[DIGITS];
#pragma unroll
                        for (int d = 0; d < DIGITS; ++d) digits[d] = sum[i][j][d][c];
                        float v = rounded(digits);
#if DIGITS > 1
                        if (not_finite) {
                            int m = lp_imin(m0 + wm + 8 * i + g, M - 1), n = lp_imin(n0 + wn + 8 * j + 2 * q + c, N - 1);
                            double plain = 0.0;
                            for (int k = piece; k < stop; ++k)
                                plain = lp_dadd(plain, lp_dmul((double)A[m * a_outer + k * a_inner], (double)B[n * b_outer + k * b_inner]));
                            if (!(fabs(plain) < lp_double(0x7FF0000000000000ll))) v = lp_narrow(plain);
                        }
#endif
                        total[i][j][c] = lp_add(total[i][j][c], lp_mul(v, lp_mul(s_a, s_b[j][c])));
#pragma unroll
                        for (int d = 0; d < DIGITS; ++d) sum[i][j][d][c] = 0.0;
                    }
            }
            piece = stop;
        }
        from = next;
        stop = until;
    }
    float tensors = of_tensors(a_tensor, b_tensor);
#pragma unroll
    for (int i = 0; i < LP_MT; ++i)
#pragma unroll
        for (int j = 0; j < LP_NT; ++j)
#pragma unroll
            for (int c = 0; c < 2; ++c) {
                int m = m0 + wm + 8 * i + g, n = n0 + wn + 8 * j + 2 * q + c;
                if (m < M && n < N) C[(lp_i64)m * N + n] = finished(total[i][j][c], of_a, m, of_b, n, tensors);
            }
}

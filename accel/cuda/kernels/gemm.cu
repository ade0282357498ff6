/* gemm: c[m, n] = sum over the pieces of K, ascending, of fl32(dot of the piece) fl32(s_a s_b), then the scales that are constant along k:
 * lpref.ref.linalg.gemm of block-scaled codes, grade exact.
 *
 * A piece ends at every block boundary of either operand and every multiple of `chunk`. LP_INNER says how it is summed:
 *   0  exact, rounded once: elements are whole multiples of their format's quantum, so float64 multiply-adds are exact as long as a sum stays below
 *      2^53 quanta. Wider operands (E5M2: 32 bits) are cut in two: LP_SLICES_A, LP_SLICES_B; x = hi + lo at the multiple `cut` of a power of two;
 *      sums of slices of one weight are exact, and are added with one rounding, through rounding to odd. NaN and infinities (which only then need
 *      care) are noticed while loading; such a piece's plain sum decides where it is not finite.
 *   1  sequential in float32, k ascending from +0, product rounded          2  the same with exact products (one rounding each)
 * Scales lie in grids of their operand's blocks: `other` elements of the operand's own axis and `step` of k share one; step 0: constant along k, for
 * the epilogue; null: none. A factor that is missing is 1, which changes no bit.
 * Versions: 1. this one: tiles of 64 x 64, elements decoded before; 64 exact products a clock and multiprocessor. */
#include "tile.cuh"

#if LP_INNER
typedef float Number;
#define LP_SLICES_A 1
#define LP_SLICES_B 1
#else
typedef double Number;
#endif
#define DIGITS (LP_SLICES_A + LP_SLICES_B - 1)

struct Scales {
    const float *p;
    lp_i64 outer, inner;
    int other, step;
    LPREF_MEMBER float of(int i, int k) const { return p && step ? p[i / other * outer + k / step * inner] : 1.0f; }
    LPREF_MEMBER float constant(int i) const { return p && !step ? p[i / other * outer] : 1.0f; }
};

LPREF_FN int boundary(int k, int depth, int step_a, int step_b, int chunk) {
    int stop = depth;
    if (step_a) stop = lp_imin(stop, (k / step_a + 1) * step_a);
    if (step_b) stop = lp_imin(stop, (k / step_b + 1) * step_b);
    if (chunk) stop = lp_imin(stop, (k / chunk + 1) * chunk);
    return stop;
}

#if !LP_INNER
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
#endif

template <int SLICES, int SIZE, class Load> LPREF_FN int put(Number (*tile)[LP_BK][SIZE + 4], const Load &load, const float *r, float cut, float inverse) {
    int bad = 0;
#if !LP_INNER && DIGITS > 1
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

extern "C" __global__ void __launch_bounds__(LP_THREADS, LP_RESIDENT) gemm(
    const float *A, lp_i64 a_outer, lp_i64 a_inner, const float *a_scale, lp_i64 as_outer, lp_i64 as_inner, int a_other, int a_step, const float *a_tensor,
    float a_cut, const float *B, lp_i64 b_outer, lp_i64 b_inner, const float *b_scale, lp_i64 bs_outer, lp_i64 bs_inner, int b_other, int b_step,
    const float *b_tensor, float b_cut, float *C, int M, int N, int K, int chunk) {
    __shared__ __align__(16) Number sa[2][LP_SLICES_A][LP_BK][LP_BM + 4], sb[2][LP_SLICES_B][LP_BK][LP_BN + 4];
    __shared__ int not_finite;
    int wide = (N + LP_BN - 1) / LP_BN, m0 = (int)blockIdx.x / wide * LP_BM, n0 = (int)blockIdx.x % wide * LP_BN;
    Scales of_a = {a_scale, as_outer, as_inner, a_other, a_step}, of_b = {b_scale, bs_outer, bs_inner, b_other, b_step};
    Loader<LP_BM, LP_A_K> load_a(A, a_outer, a_inner, m0, M);
    Loader<LP_BN, LP_B_K> load_b(B, b_outer, b_inner, n0, N);
    int x = (int)threadIdx.x % (LP_BN / LP_TN), y = (int)threadIdx.x / (LP_BN / LP_TN);
    float ra[load_a.COUNT], rb[load_b.COUNT], total[LP_TM][LP_TN];
    Number sum[LP_TM][LP_TN][DIGITS];
#pragma unroll
    for (int i = 0; i < LP_TM; ++i)
#pragma unroll
        for (int j = 0; j < LP_TN; ++j) {
            total[i][j] = 0.0f;
#pragma unroll
            for (int d = 0; d < DIGITS; ++d) sum[i][j][d] = 0;
        }
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
        for (int k = 0; k < LP_BK; ++k) {
            Number fa[LP_SLICES_A][LP_TM], fb[LP_SLICES_B][LP_TN];
#pragma unroll
            for (int s = 0; s < LP_SLICES_A; ++s)
#pragma unroll
                for (int i = 0; i < LP_TM; ++i) fa[s][i] = sa[turn][s][k][LP_ROW(i, y, LP_BM, LP_TM)];
#pragma unroll
            for (int s = 0; s < LP_SLICES_B; ++s)
#pragma unroll
                for (int j = 0; j < LP_TN; ++j) fb[s][j] = sb[turn][s][k][LP_ROW(j, x, LP_BN, LP_TN)];
#pragma unroll
            for (int i = 0; i < LP_TM; ++i)
#pragma unroll
                for (int j = 0; j < LP_TN; ++j) {
#if LP_INNER == 1
                    sum[i][j][0] = lp_add(sum[i][j][0], lp_mul(fa[0][i], fb[0][j]));
#elif LP_INNER == 2
                    sum[i][j][0] = lp_fma(fa[0][i], fb[0][j], sum[i][j][0]);
#else
#pragma unroll
                    for (int s = 0; s < LP_SLICES_A; ++s)
#pragma unroll
                        for (int t = 0; t < LP_SLICES_B; ++t) sum[i][j][s + t] = lp_dfma(fa[s][i], fb[t][j], sum[i][j][s + t]); /* exact */
#endif
                }
        }
        if (next == stop) {
            float s_b[LP_TN];
#pragma unroll
            for (int j = 0; j < LP_TN; ++j) s_b[j] = of_b.of(lp_imin(n0 + LP_ROW(j, x, LP_BN, LP_TN), N - 1), piece);
#pragma unroll
            for (int i = 0; i < LP_TM; ++i) {
                int m = lp_imin(m0 + LP_ROW(i, y, LP_BM, LP_TM), M - 1);
                float s_a = of_a.of(m, piece);
#pragma unroll
                for (int j = 0; j < LP_TN; ++j) {
#if LP_INNER
                    float v = sum[i][j][0];
#else
                    float v = rounded(sum[i][j]);
#if DIGITS > 1
                    if (not_finite) {
                        int n = lp_imin(n0 + LP_ROW(j, x, LP_BN, LP_TN), N - 1);
                        double plain = 0.0;
                        for (int k = piece; k < stop; ++k)
                            plain = lp_dadd(plain, lp_dmul((double)A[m * a_outer + k * a_inner], (double)B[n * b_outer + k * b_inner]));
                        if (!(fabs(plain) < lp_double(0x7FF0000000000000ll))) v = lp_narrow(plain);
                    }
#endif
#endif
                    total[i][j] = lp_add(total[i][j], lp_mul(v, lp_mul(s_a, s_b[j])));
#pragma unroll
                    for (int d = 0; d < DIGITS; ++d) sum[i][j][d] = 0;
                }
            }
            piece = stop;
        }
        from = next;
        stop = until;
    }
    float tensors = lp_mul(a_tensor ? *a_tensor : 1.0f, b_tensor ? *b_tensor : 1.0f);
#pragma unroll
    for (int i = 0; i < LP_TM; ++i)
#pragma unroll
        for (int j = 0; j < LP_TN; ++j) {
            int m = m0 + LP_ROW(i, y, LP_BM, LP_TM), n = n0 + LP_ROW(j, x, LP_BN, LP_TN);
            if (m < M && n < N) C[(lp_i64)m * N + n] = lp_mul(lp_mul(total[i][j], lp_mul(of_a.constant(m), of_b.constant(n))), tensors);
        }
}

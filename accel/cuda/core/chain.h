/* Sums that are rounded to a format after every addition (lpref.ref.linalg.inner): a sum of float64 rounded to odd, then once to the format; and sums of
 * integers in a register of few bits (lpref.ref.linalg.integer_dot). */
#ifndef LPREF_CORE_CHAIN_H
#define LPREF_CORE_CHAIN_H
#include "elementary.h"

/* A binary float format: p significand bits, least normal exponent, largest value, and what is beyond it (infinity, or the largest value). */
typedef struct {
    int precision, emin;
    double most, beyond;
} lp_sum_format;

/* a + b: exact, or the neighbour whose last significand bit is 1 */
LPREF_FN double lp_odd_add(double a, double b) {
    double s = lp_dadd(a, b), t = lp_dsub(s, a), error = lp_dadd(lp_dsub(a, lp_dsub(s, t)), lp_dsub(b, t));
    lp_i64 bits = lp_dbits(s);
    if ((error > 0.0 || error < 0.0) && (bits & 1) == 0) bits += (error > 0.0) == (s > 0.0) ? 1 : -1;
    return lp_double(bits);
}

/* s to nearest even */
LPREF_FN double lp_rounded_to(double s, const lp_sum_format *f) {
    double a = lp_dabs(s);
    if (!(a > 0.0) || a == LP_DINF) return s != s || a == 0.0 ? s : lp_dcopysign(f->beyond, s);
    int e = (int)(lp_dbits(a) >> 52) - 1023;
    int down = f->precision - 1 - (e > f->emin ? e : f->emin); /* multiples of 2^-down */
    double r = lp_dmul(lp_drint(lp_dmul(a, lp_double((lp_i64)(1023 + down) << 52))), lp_double((lp_i64)(1023 - down) << 52));
    return lp_dcopysign(r > f->most ? f->beyond : r, s);
}

/* The sum c of integers and p (below 2^62) in a register of up to 62 bits: half is 2^(bits - 1). */
LPREF_FN lp_i64 lp_register_add(lp_i64 c, lp_i64 p, lp_i64 half, int saturates) {
    lp_i64 s = c + p;
    if (!saturates) return ((s + half) & (2 * half - 1)) - half;
    return s < -half ? -half : s < half ? s : half - 1;
}

#endif

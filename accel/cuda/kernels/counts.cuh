/* What was lost of sixteen elements that went the short way, from packed codes (of stochastic integers: signed_bytes' `filled`) and pairs of the source
 * (least: encode8_plain, zeros: code16_plain). After the scales of plain.cuh. Macros: elements.cuh. */

/* One bit for each code that is not zero, in places that leave room for another such word one bit below or above. */
LPREF_FN lp_u32 not_zero(lp_u32 c) {
#if LP_BITS == 8 && LP_INTEGER && LP_SR
    return c & 0x80808080u;
#elif LP_BITS == 8
    lp_u32 t = (c & 0x7F7F7F7Fu) + 0x7F7F7F7Fu;
    return (LP_INTEGER ? t | c : t) & 0x80808080u;
#elif LP_BITS == 6 /* four codes in 24 bits */
    return ((c & 0x7DF7DFu) + 0x7DF7DFu) & 0x820820u;
#else
    return (c | c >> 1 | c >> 2) & 0x11111111u;
#endif
}

/* The top bit of each four bits, for a code of 4 bits that is a magnitude above zero and a sign. */
LPREF_FN lp_u32 above(lp_u32 c) { return (c & 0x77777777u) + 0x77777777u; }

/* Counts of sixteen that went the short way. */
LPREF_FN void count_over(Seen &seen, const Sixteen &x, const Magnitudes &r, const Block &b) {
#if LP_POWER && LP_PAIRS
    lp_u32 n = pair_above(r.m[0], b.over2);
#pragma unroll
    for (int i = 1; i < 8; ++i) n = pair_add(n, pair_above(r.m[i], b.over2));
    seen.many = lp_add(seen.many, lp_add(lp_float(n << 16), lp_float(n & 0xFFFF0000u)));
#elif LP_POWER
    Eight e = widen(x.a), f = widen(x.b);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        seen.over += fabsf(lp_mul(e.v[i], b.factor)) > lp_float(LP_OVER);
        seen.over += fabsf(lp_mul(f.v[i], b.factor)) > lp_float(LP_OVER);
    }
#endif
}

LPREF_FN void count_under(Seen &seen, const Sixteen &x, const Magnitudes &r, const Codes &c, const Codes &d, lp_u32 least, int zeros) {
#if LP_BITS == 8 && !LP_INTEGER
    if ((not_zero(c.lo) & not_zero(c.hi) & not_zero(d.lo) & not_zero(d.hi)) != 0x80808080u) {
        Eight e = elements8(x.a), f = elements8(x.b);
        seen.under += alive(e) + alive(f) - nonzero(c) - nonzero(d);
    }
#else
#if LP_BITS == 6
    lp_u32 left = __popc(not_zero(c.lo) | not_zero(c.lo >> 24 | c.hi << 8) >> 1 | not_zero(d.lo) >> 2 | not_zero(d.lo >> 24 | d.hi << 8) >> 3);
#elif LP_BITS == 8
    lp_u32 left = __popc(not_zero(c.lo) + (not_zero(c.hi) >> 1) + (not_zero(d.lo) >> 2) + (not_zero(d.hi) >> 3));
#else
    lp_u32 left = __popc(LP_INTEGER ? not_zero(c.lo) + not_zero(d.lo) * 2u : chosen(0x88888888u, above(c.lo), above(d.lo) >> 1) & 0xCCCCCCCCu);
#endif
    seen.under += 16u - left;
    if (zeros && (LP_E2M1_PAIRS && LP_LEAST ? ((least + 0x7FFF7FFFu) & 0x80008000u) != 0x80008000u : LP_LEAST ? least < (LP_BEFORE != 1.0f ? 0x35800000u : 1u) : !all_alive(x, r))) {
        Eight e = elements8(x.a), f = elements8(x.b);
        seen.under -= 16u - alive(e) - alive(f);
    }
#endif
}

/* What a row's elements need of its largest magnitude, found by a whole warp. After plain.cuh. */

/* A number that is found here, not again wherever it is used. */
#ifdef __CUDACC_RTC__
LPREF_FN void found(float &f) { asm volatile("" : "+f"(f)); }
#else
LPREF_FN void found(float &) {}
#endif

struct Row {
    lp_scale s;
    Block b;
    int plain, over;
};

/* All lanes of a warp take part. Five dependent divisions: eight warps that repeat them for one row fill the integer pipe. */
LPREF_FN Row row_of(lp_u32 top, const lp_rule &q) {
    Row r;
    lp_nvfp4 t = {0.0f, 0.0f, 0.0f};
    r.s = lp_block_scale(top, &q, &t);
    float factor = element_factor(r.s);
    r.b = short_block(r.s, factor);
#if LP_QUICK
    r.plain = plain(top, r.s, factor);
#else
    r.plain = 0;
#endif
    r.over = may_overflow(top, factor);
#if LP_DIVIDE && LP_NEAR
    r.b.rest = lp_rest(factor, r.b.inverse);
    int same = 1;
#pragma unroll
    for (int i = 128; i < 256; i += 32) { /* the significands of bfloat16; where lp_quotient does not serve, the row is not plain anyway */
        float x = (float)(i + (int)(threadIdx.x & 31u));
        same &= lp_bits(lp_near_quotient(x, r.b.inverse, r.b.rest)) == lp_bits(lp_quotient(x, factor, r.b.inverse));
    }
    r.plain = r.plain && __all_sync(0xFFFFFFFFu, same);
#endif
    found(r.b.inverse); /* divisions: the compiler would make them for every sixteen */
    found(r.b.rest);
    return r;
}

/* The implementation under test: float32 bits -> OCP E4M3, round to nearest even, saturating. Put your own in its place. */
#include <stdint.h>

static uint8_t e4m3_cast(uint32_t u) {
    uint8_t sign = (uint8_t)(u >> 24 & 0x80);
    uint32_t a = u & 0x7FFFFFFF;
    if (a > 0x7F800000) return 0x7F;          /* NaN */
    if (a >= 0x43E80000) return sign | 0x7E;  /* 464 and above: the largest, 448 */
    if (a < 0x3C800000) {                     /* below 2^-6: multiples of 2^-9 */
        uint32_t e = a >> 23, s = (a & 0x7FFFFF) | 0x800000;
        if (e < 117) return sign;             /* below 2^-10, half of the smallest */
        uint32_t shift = 141 - e, half = 1u << (shift - 1);
        return sign | (uint8_t)((s + half - 1 + (s >> shift & 1)) >> shift);
    }
    a += 0x7FFFF + (a >> 20 & 1); /* a carry moves to the next binade */
    return sign | (uint8_t)((a >> 20) - (120u << 3));
}

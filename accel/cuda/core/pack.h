/* Packing of lpref.ref.quantize.packing: 1, 2, 4 bits with the lower index in the lower bits; 6 bits, four codes in three bytes. */
#ifndef LPREF_CORE_PACK_H
#define LPREF_CORE_PACK_H
#include "base.h"

/* Byte `at` of a row of `columns` codes of `bits` bits (1, 2, 4, 6); one code a byte in `codes`. */
LPREF_FN lp_u8 lp_packed_byte(const lp_u8 *codes, lp_i64 columns, lp_u32 bits, lp_i64 at) {
    lp_i64 first = at * 8 / bits;
    lp_u32 byte = 0;
    for (lp_i64 i = first; i < columns && i * bits < (at + 1) * 8; ++i) {
        lp_i64 place = i * bits - at * 8;
        byte |= place >= 0 ? (lp_u32)codes[i] << place : (lp_u32)codes[i] >> -place;
    }
    return (lp_u8)byte;
}

#endif

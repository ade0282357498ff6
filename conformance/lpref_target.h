/* lpref_target.h: the C signature of a target of `lpref diff lib:PATH.so:SYMBOL`. SPDX-License-Identifier: CC0-1.0

   x             row-major, rows x cols, in the input's dtype: float, double, or 16 bits of bfloat16 or binary16 (--input)
   codes         cast: one code an element, in the smallest of 1, 2, 4 bytes that holds a code;
                 quantize: packed rows, every row starting on a byte; 1, 2, 4 bits: the lower index in the lower bits
                 (4 bits: low nibble first); 6 bits: 4 codes in 3 bytes, code j at bits 6 j .. 6 j + 5 of a little-endian stream
   scales        quantize: scale codes of the block grid, row-major (float32 scales: their 4 bytes); cast: NULL
   tensor_scale  quantize: the second scale level; holds 1 on entry; leave it where there is none
   result        0, or an error code, which is reported

   Build: cc -O2 -shared -fPIC -o mine.so mine.c      Run: lpref diff lib:./mine.so:mine --op cast --format e4m3 */
#ifndef LPREF_TARGET_H
#define LPREF_TARGET_H
#include <stdint.h>
#define LPREF_TARGET_VERSION 1
#ifdef __cplusplus
extern "C" {
#endif
typedef int lpref_target(const void *x, int64_t rows, int64_t cols, uint8_t *codes, uint8_t *scales, float *tensor_scale);
#ifdef __cplusplus
}
#endif
#endif

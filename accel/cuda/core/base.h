/* Types, bit casts and single-rounded arithmetic, the same on the device and on the host.
 *
 * On the device every operation is an intrinsic that the compiler may not contract; on the host the file is compiled with
 * -ffp-contract=off. Division is IEEE, subnormals are kept. Nothing here includes a CUDA header. */
#ifndef LPREF_CORE_BASE_H
#define LPREF_CORE_BASE_H

typedef unsigned char lp_u8;
typedef unsigned short lp_u16;
typedef unsigned int lp_u32;
typedef int lp_i32;
typedef unsigned long long lp_u64;
typedef long long lp_i64;

#ifdef __CUDACC_RTC__
#define LPREF_FN static __device__ __forceinline__
#define LPREF_MEMBER __device__ __forceinline__
LPREF_FN lp_u32 lp_bits(float x) { return __float_as_uint(x); }
LPREF_FN float lp_float(lp_u32 bits) { return __uint_as_float(bits); }
LPREF_FN float lp_add(float a, float b) { return __fadd_rn(a, b); }
LPREF_FN float lp_sub(float a, float b) { return __fsub_rn(a, b); }
LPREF_FN float lp_mul(float a, float b) { return __fmul_rn(a, b); }
LPREF_FN float lp_div(float a, float b) { return __fdiv_rn(a, b); }
LPREF_FN float lp_sqrt(float a) { return __fsqrt_rn(a); }
LPREF_FN float lp_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
LPREF_FN double lp_dfma(double a, double b, double c) { return __fma_rn(a, b, c); }
LPREF_FN lp_i64 lp_dbits(double x) { return __double_as_longlong(x); }
LPREF_FN double lp_double(lp_i64 bits) { return __longlong_as_double(bits); }
LPREF_FN float lp_narrow(double x) { return __double2float_rn(x); }
LPREF_FN double lp_dadd(double a, double b) { return __dadd_rn(a, b); }
LPREF_FN double lp_ddiv(double a, double b) { return __ddiv_rn(a, b); }
LPREF_FN double lp_dsqrt(double a) { return __dsqrt_rn(a); }
LPREF_FN double lp_dsub(double a, double b) { return __dsub_rn(a, b); }
LPREF_FN double lp_dmul(double a, double b) { return __dmul_rn(a, b); }
LPREF_FN float lp_min(float a, float b) { return fminf(a, b); }
LPREF_FN float lp_max(float a, float b) { return fmaxf(a, b); }
LPREF_FN lp_u32 lp_min3(lp_u32 a, lp_u32 b, lp_u32 c) { return __vimin3_u32(a, b, c); }
LPREF_FN lp_i32 lp_addmax(lp_i32 a, lp_i32 b, lp_i32 c) { return __viaddmax_s32(a, b, c); }
LPREF_FN lp_u32 lp_farther(lp_u32 a, lp_u32 b) {
    float most; /* one instruction, signs cost nothing; NaN is some NaN */
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(most) : "f"(fabsf(lp_float(a))), "f"(fabsf(lp_float(b))));
    return lp_bits(most);
}
LPREF_FN lp_u32 lp_nearer(lp_u32 a, lp_u32 b) { return lp_bits(fminf(fabsf(lp_float(a)), fabsf(lp_float(b)))); }
LPREF_FN lp_u64 lp_product(lp_u32 a, lp_u32 b) {
    lp_u64 p; /* said so, because a 64-bit product adds the product with the upper zeros */
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(p) : "r"(a), "r"(b));
    return p;
}
#else
#include <math.h>
#include <string.h>
#define LPREF_FN static inline
#define LPREF_MEMBER inline
LPREF_FN lp_u32 lp_bits(float x) { lp_u32 u; memcpy(&u, &x, 4); return u; }
LPREF_FN float lp_float(lp_u32 bits) { float x; memcpy(&x, &bits, 4); return x; }
LPREF_FN float lp_add(float a, float b) { return a + b; }
LPREF_FN float lp_sub(float a, float b) { return a - b; }
LPREF_FN float lp_mul(float a, float b) { return a * b; }
LPREF_FN float lp_div(float a, float b) { return a / b; }
LPREF_FN float lp_sqrt(float a) { return sqrtf(a); }
LPREF_FN float lp_fma(float a, float b, float c) { return fmaf(a, b, c); }
LPREF_FN double lp_dfma(double a, double b, double c) { return fma(a, b, c); }
LPREF_FN lp_i64 lp_dbits(double x) { lp_i64 b; memcpy(&b, &x, 8); return b; }
LPREF_FN double lp_double(lp_i64 bits) { double x; memcpy(&x, &bits, 8); return x; }
LPREF_FN float lp_narrow(double x) { return (float)x; }
LPREF_FN double lp_dadd(double a, double b) { return a + b; }
LPREF_FN double lp_ddiv(double a, double b) { return a / b; }
LPREF_FN double lp_dsqrt(double a) { return sqrt(a); }
LPREF_FN double lp_dsub(double a, double b) { return a - b; }
LPREF_FN double lp_dmul(double a, double b) { return a * b; }
LPREF_FN float lp_min(float a, float b) { return a < b ? a : b; }
LPREF_FN float lp_max(float a, float b) { return a > b ? a : b; }
LPREF_FN lp_u32 lp_min3(lp_u32 a, lp_u32 b, lp_u32 c) { return a < b ? (a < c ? a : c) : (b < c ? b : c); }
LPREF_FN lp_i32 lp_addmax(lp_i32 a, lp_i32 b, lp_i32 c) { return a + b > c ? a + b : c; }
LPREF_FN lp_u32 lp_farther(lp_u32 a, lp_u32 b) { return (a & 0x7FFFFFFFu) > (b & 0x7FFFFFFFu) ? a & 0x7FFFFFFFu : b & 0x7FFFFFFFu; }
LPREF_FN lp_u32 lp_nearer(lp_u32 a, lp_u32 b) { return (a & 0x7FFFFFFFu) < (b & 0x7FFFFFFFu) ? a & 0x7FFFFFFFu : b & 0x7FFFFFFFu; }
LPREF_FN lp_u64 lp_product(lp_u32 a, lp_u32 b) { return (lp_u64)a * b; }
#endif
/* lp_farther, lp_nearer: bits of floats; those of the magnitude farther from zero (NaN wins), nearer to it (of numbers). */

#define LP_ABS 0x7FFFFFFFu
#define LP_INF 0x7F800000u
#define LP_NAN 0x7FC00000u
#define LP_FLT_MAX 0x7F7FFFFFu

LPREF_FN lp_u32 lp_umin(lp_u32 a, lp_u32 b) { return a < b ? a : b; }
LPREF_FN lp_u32 lp_umax(lp_u32 a, lp_u32 b) { return a > b ? a : b; }
LPREF_FN lp_i32 lp_imin(lp_i32 a, lp_i32 b) { return a < b ? a : b; }
LPREF_FN lp_i32 lp_imax(lp_i32 a, lp_i32 b) { return a > b ? a : b; }

#endif

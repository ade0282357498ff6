/* image: im2col and its adjoint, the pages of lpref.ref.nn.conv. A thread an element of the result; 32-bit indices where they do.
 *
 * col2im: a pixel adds, from +0, the entries that read it, in ascending (i, j) of the kernel. Versions: 1. this one. */
#include "reduce.cuh"


#define WINDOW lp_i32 C, lp_i32 H, lp_i32 W, lp_i32 oh, lp_i32 ow, lp_i32 kh, lp_i32 kw, lp_i32 stride, lp_i32 pad

/* Index: 32 bits where all of the result's places fit */
template <class Index> LPREF_FN float gathered(const float *x, Index k, WINDOW) {
    Index width = (Index)(C * kh * kw), row = k / width, image = row / (Index)(oh * ow);
    lp_u32 column = (lp_u32)(k - row * width), at = (lp_u32)(row - image * (Index)(oh * ow)), area = (lp_u32)(kh * kw);
    lp_u32 c = column / area, inside = column - c * area, i = inside / (lp_u32)kw, y = at / (lp_u32)ow;
    lp_i32 h = (lp_i32)y * stride + (lp_i32)i - pad, w = (lp_i32)(at - y * ow) * stride + (lp_i32)(inside - i * kw) - pad;
    return h >= 0 && h < H && w >= 0 && w < W ? x[(((lp_i64)image * C + c) * H + h) * W + w] : 0.0f;
}

template <class Index> LPREF_FN float scattered(const float *cols, Index k, WINDOW) {
    Index size = (Index)(C * H * W), image = k / size;
    lp_u32 at = (lp_u32)(k - image * size), plane = (lp_u32)(H * W), c = at / plane, rest = at - c * plane;
    lp_i32 h = (lp_i32)(rest / (lp_u32)W), w = (lp_i32)rest - h * W + pad;
    float sum = 0.0f;
    h += pad;
    for (lp_i32 i = 0; i < kh; ++i) {
        lp_i32 y = (h - i) / stride;
        if (h < i || y * stride != h - i || y >= oh) continue;
        for (lp_i32 j = 0; j < kw; ++j) {
            lp_i32 z = (w - j) / stride;
            if (w < j || z * stride != w - j || z >= ow) continue;
            sum = lp_add(sum, cols[(((lp_i64)image * oh + y) * ow + z) * C * kh * kw + (c * kh + i) * kw + j]);
        }
    }
    return sum;
}

#define PASSED C, H, W, oh, ow, kh, kw, stride, pad

extern "C" __global__ void __launch_bounds__(256) im2col(const float *x, lp_i64 n, WINDOW, float *out) {
    if (n >> 31) LP_EACH(k, n) out[k] = gathered(x, (lp_u64)k, PASSED);
    else LP_EACH(k, n) out[k] = gathered(x, (lp_u32)k, PASSED);
}

extern "C" __global__ void __launch_bounds__(256) col2im(const float *cols, lp_i64 n, WINDOW, float *out) {
    if (n >> 31) LP_EACH(k, n) out[k] = scattered(cols, (lp_u64)k, PASSED);
    else LP_EACH(k, n) out[k] = scattered(cols, (lp_u32)k, PASSED);
}

/* image: im2col and its adjoint, the pages of lpref.ref.nn.conv. A thread an element of the result; 32-bit indices inside an image.
 *
 * col2im: a pixel adds, from +0, the entries that read it, in ascending (i, j) of the kernel. Versions: 1. this one. */
#include "reduce.cuh"


#define WINDOW lp_i32 C, lp_i32 H, lp_i32 W, lp_i32 oh, lp_i32 ow, lp_i32 kh, lp_i32 kw, lp_i32 stride, lp_i32 pad

extern "C" __global__ void __launch_bounds__(256) im2col(const float *x, lp_i64 n, WINDOW, float *out) {
    lp_i32 width = C * kh * kw;
    LP_EACH(k, n) {
        lp_i64 row = k / width;
        lp_i32 column = (lp_i32)(k - row * width), c = column / (kh * kw), i = column / kw % kh, j = column % kw;
        lp_i64 image = row / (oh * ow);
        lp_i32 at = (lp_i32)(row - image * (oh * ow)), h = at / ow * stride + i - pad, w = at % ow * stride + j - pad;
        out[k] = h >= 0 && h < H && w >= 0 && w < W ? x[((image * C + c) * H + h) * W + w] : 0.0f;
    }
}

extern "C" __global__ void __launch_bounds__(256) col2im(const float *cols, lp_i64 n, WINDOW, float *out) {
    lp_i64 width = (lp_i64)C * kh * kw;
    LP_EACH(k, n) {
        lp_i64 image = k / ((lp_i64)C * H * W);
        lp_i32 at = (lp_i32)(k - image * C * H * W), c = at / (H * W), h = at / W % H + pad, w = at % W + pad;
        float sum = 0.0f;
        for (lp_i32 i = 0; i < kh; ++i) {
            lp_i32 y = h - i;
            if (y < 0 || y % stride || y / stride >= oh) continue;
            for (lp_i32 j = 0; j < kw; ++j) {
                lp_i32 z = w - j;
                if (z < 0 || z % stride || z / stride >= ow) continue;
                sum = lp_add(sum, cols[((image * oh + y / stride) * ow + z / stride) * width + (c * kh + i) * kw + j]);
            }
        }
        out[k] = sum;
    }
}

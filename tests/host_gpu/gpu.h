// A GPU of one block at a time, for g++: every CUDA thread is a fiber, so that barriers and shuffles mean what they mean.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include <tuple>
#include <utility>
#include <vector>

#define __global__
#ifndef BOUNDS // left in the text, from which the wrappers take it
#define __launch_bounds__(...)
#endif
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))

struct Place {
    unsigned x, y, z;
};
struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
};
static Place threadIdx, blockIdx, blockDim, gridDim;

namespace gpu {
struct Fiber {
    ucontext_t context;
    Place at;
    std::vector<char> stack;
    bool done;
};
struct Barrier {
    unsigned arrived, round;
};
static std::vector<Fiber> fibers(1024);
static ucontext_t home;
static unsigned now, threads, alive;
static Barrier whole, warps[32];
static uint64_t traded[1024];
static void *work;
static void (*body)(void *);

static void yield() {
    unsigned next = now;
    do next = (next + 1) % threads;
    while (fibers[next].done);
    if (next == now) return;
    Fiber &from = fibers[now];
    now = next;
    threadIdx = fibers[now].at;
    swapcontext(&from.context, &fibers[now].context);
}
static void wait(Barrier &b, unsigned all) {
    unsigned round = b.round;
    if (++b.arrived == all) {
        b.arrived = 0;
        ++b.round;
        return;
    }
    while (b.round == round) yield();
}
static void start() {
    body(work);
    fibers[now].done = true;
    if (--alive == 0) setcontext(&home);
    yield();
}
template <class Work> void block(Work w) {
    work = &w;
    body = [](void *p) { (*(Work *)p)(); };
    threads = alive = blockDim.x * blockDim.y * blockDim.z;
    whole = {0, 0};
    for (unsigned i = 0; i < 32; ++i) warps[i] = {0, 0};
    for (unsigned i = 0; i < threads; ++i) {
        Fiber &f = fibers[i];
        f.stack.resize(1 << 16);
        f.done = false;
        f.at = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = f.stack.size();
        f.context.uc_link = &home;
        makecontext(&f.context, start, 0);
    }
    now = 0;
    threadIdx = fibers[0].at;
    swapcontext(&home, &fibers[0].context);
}
template <class T> T trade(T v, unsigned lane) { // every lane gives v and takes that of `lane`
    unsigned warp = now / 32;
    memcpy(&traded[now], &v, sizeof v);
    wait(warps[warp], 32);
    memcpy(&v, &traded[warp * 32 + lane], sizeof v);
    wait(warps[warp], 32);
    return v;
}
template <class T, class Op> T fold(T v, Op op) {
    for (unsigned d = 16; d; d /= 2) v = op(v, trade(v, (now & 31) ^ d));
    return v;
}
// mma.m16n8kWIDE of int8: sum of row g (and g + 8) of a and columns 2 q, 2 q + 1 of b; lane 4 g + q has k = 4 q .. 4 q + 3 (+ 16)
template <int WIDE> void multiply(int *sum, const unsigned *a, const unsigned *b) {
    unsigned lane = now & 31, g = lane / 4, q = lane % 4;
    for (unsigned from = 0; from < 4; ++from)
        for (int w = 0; w < WIDE / 16; ++w) {
            unsigned rows[2] = {trade(a[2 * w], g * 4 + from), trade(a[2 * w + 1], g * 4 + from)};
            unsigned columns[2] = {trade(b[w], 8 * q + from), trade(b[w], 8 * q + 4 + from)};
            for (int c = 0; c < 4; ++c)
                for (int i = 0; i < 4; ++i) sum[c] += (int)(int8_t)(rows[c / 2] >> (8 * i)) * (int)(int8_t)(columns[c % 2] >> (8 * i));
        }
}
// mma.m8n8k4 of float64: lane 4 g + q has a[g, q] and b[q, g], sums [g, 2 q] and [g, 2 q + 1]
static void multiply(double *sum, double a, double b) {
    unsigned lane = now & 31, g = lane / 4, q = lane % 4;
    for (unsigned k = 0; k < 4; ++k) {
        double row = trade(a, 4 * g + k), left = trade(b, 8 * q + k), right = trade(b, 8 * q + 4 + k);
        sum[0] = fma(row, left, sum[0]);
        sum[1] = fma(row, right, sum[1]);
    }
}
// The bfloat16 nearest to the float32 of these bits, ties to even.
static unsigned bf16(unsigned bits) {
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return bits >> 16 | 0x40u;
    return (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
}
struct Fragment {
    unsigned a[4], b[2];
};
static Fragment fragments[32][32];
// mma.m16n8k16 of bfloat16: lane 4 g + q has of a rows g and g + 8 (columns 2 q, 2 q + 1, then 8 more), of b the same rows of column g. Products are exact,
// sums float64, rounded once: no model of the unit's own sums, whose bound is proved.
static void multiply_bf16(float *sum, const unsigned *a, const unsigned *b) {
    unsigned lane = now & 31, g = lane / 4, q = lane % 4;
    Fragment *all = fragments[now / 32];
    memcpy(all[lane].a, a, 16);
    memcpy(all[lane].b, b, 8);
    wait(warps[now / 32], 32);
    auto real = [](unsigned pair, int i) {
        unsigned bits = i ? pair & 0xFFFF0000u : pair << 16;
        float x;
        memcpy(&x, &bits, 4);
        return (double)x;
    };
    for (int c = 0; c < 4; ++c) {
        double total = sum[c];
        for (int k = 0; k < 16; ++k) {
            unsigned left = all[4 * g + k % 8 / 2].a[c / 2 + k / 8 * 2], right = all[4 * (2 * q + c % 2) + k % 8 / 2].b[k / 8];
            total += real(left, k % 2) * real(right, k % 2);
        }
        sum[c] = (float)total;
    }
    wait(warps[now / 32], 32);
}
// ldmatrix.x4: lane 8 i + r says where row r of the i-th 8 x 8 matrix is
static void matrices(unsigned *to, const void *row, bool turned) {
    static const void *rows[32][32];
    unsigned lane = now & 31, g = lane / 4, q = lane % 4;
    rows[now / 32][lane] = row;
    wait(warps[now / 32], 32);
    for (unsigned i = 0; i < 4; ++i) {
        auto at = [&](unsigned r, unsigned c) { return (unsigned)((const uint16_t *)rows[now / 32][8 * i + r])[c]; };
        to[i] = turned ? at(2 * q, g) | at(2 * q + 1, g) << 16 : at(g, 2 * q) | at(g, 2 * q + 1) << 16;
    }
    wait(warps[now / 32], 32);
}
template <class... A, size_t... I> void call(void (*kernel)(A...), void **args, std::index_sequence<I...>) { kernel(*(A *)args[I]...); }
template <class... A> int launch(void (*kernel)(A...), const unsigned *grid, const unsigned *shape, int count, void **args, const int *sizes) {
    const int wanted[] = {(int)sizeof(A)...};
    if (count != (int)sizeof...(A)) return 1000 + (int)sizeof...(A);
    for (int i = 0; i < count; ++i)
        if (sizes[i] != wanted[i]) return i + 1;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {shape[0], shape[1], shape[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) block([&] { call(kernel, args, std::index_sequence_for<A...>()); });
    return 0;
}
} // namespace gpu
// most: threads of a block, as __launch_bounds__ says
#define RUN(kernel, most) \
    extern "C" int run_##kernel(const unsigned *grid, const unsigned *shape, int count, void **args, const int *sizes) { \
        return shape[0] * shape[1] * shape[2] > (most) ? -1 : gpu::launch(kernel, grid, shape, count, args, sizes); \
    }

static inline void __syncthreads() { gpu::wait(gpu::whole, gpu::alive); }
static inline int __syncthreads_or(int v) {
    static int any[2]; // of this round and of the next
    static unsigned left;
    unsigned round = gpu::whole.round & 1;
    any[round] |= v;
    __syncthreads();
    int found = any[round];
    if (++left == gpu::alive) left = 0, any[round] = 0;
    __syncthreads();
    return found;
}
static inline void __syncwarp(unsigned = ~0u) { gpu::trade(0, 0); }
template <class T> static T __shfl_xor_sync(unsigned, T v, int d) { return gpu::trade(v, (gpu::now & 31) ^ d); }
template <class T> static T __shfl_sync(unsigned, T v, int lane) { return gpu::trade(v, lane & 31); }
template <class T> static T __reduce_max_sync(unsigned, T v) { return gpu::fold(v, [](T a, T b) { return a > b ? a : b; }); }
template <class T> static T __reduce_add_sync(unsigned, T v) { return gpu::fold(v, [](T a, T b) { return a + b; }); }
template <class T> static T __reduce_or_sync(unsigned, T v) { return gpu::fold(v, [](T a, T b) { return (T)(a | b); }); }
static inline int __all_sync(unsigned mask, int v) { return __reduce_or_sync(mask, (unsigned)(v == 0)) == 0; }
static inline int __any_sync(unsigned mask, int v) { return __reduce_or_sync(mask, (unsigned)(v != 0)) != 0; }
static inline unsigned __vmaxu2(unsigned a, unsigned b) {
    unsigned low = a & 0xFFFFu, high = a >> 16;
    low = low > (b & 0xFFFFu) ? low : b & 0xFFFFu;
    return (high > b >> 16 ? high : b >> 16) << 16 | low;
}
static inline unsigned __vminu2(unsigned a, unsigned b) { return ~__vmaxu2(~a, ~b); }
static inline unsigned __vimax3_u16x2(unsigned a, unsigned b, unsigned c) { return __vmaxu2(__vmaxu2(a, b), c); }
static inline unsigned __vimin3_u16x2(unsigned a, unsigned b, unsigned c) { return __vminu2(__vminu2(a, b), c); }
static inline unsigned __viaddmin_u16x2(unsigned a, unsigned b, unsigned c) {
    return __vminu2(((a & 0x7FFF7FFFu) + (b & 0x7FFF7FFFu)) ^ ((a ^ b) & 0x80008000u), c);
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned order) {
    unsigned r = 0;
    for (int at = 0; at < 4; ++at) r |= (unsigned)(((unsigned long long)b << 32 | a) >> (order >> 4 * at & 7) * 8 & 255) << 8 * at;
    return r;
}
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline unsigned __vmaxu4(unsigned a, unsigned b) {
    unsigned most = 0;
    for (int at = 0; at < 32; at += 8) most |= (((a >> at) & 255u) > ((b >> at) & 255u) ? (a >> at) & 255u : (b >> at) & 255u) << at;
    return most;
}
struct uint2 {
    unsigned x, y;
};
struct uint4 {
    unsigned x, y, z, w;
};
template <class T> static T atomicMin(T *p, T v) { T old = *p; *p = old < v ? old : v; return old; }
template <class T> static T atomicMax(T *p, T v) { T old = *p; *p = old > v ? old : v; return old; }
template <class T> static T atomicAdd(T *p, T v) { T old = *p; *p = old + v; return old; }

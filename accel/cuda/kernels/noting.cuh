/* Elements by fours, or by panels: what a kernel writes, and its greatest magnitudes for scales of whole tensors (peak.cuh).
 *
 *   LP_TURNED   0: fours by fours.cuh, noted where LP_PEAK asks for it. 16: a warp takes panels of 16 rows and 64 columns, a thread two columns of one,
 *               so that the greatest magnitude after a Hadamard transform of 16 rows each is known too (peaks.cu) and nobody reads the array again.
 *               [rows, width]: whole panels of rows, an even width, arrays on eight bytes (bfloat16: four). LP_PEAK is 1.
 * load(Count<N>, i, row, v [INPUTS][4]) reads N neighbours, work(Count<N>, i, row, v, out [OUTPUTS][4]) computes and writes them. i: the first one's
 * number, row: where it is, -1 where that is not known. */
#include "fours.cuh"
#include "peak.cuh"
#ifndef LP_TURNED
#define LP_TURNED 0
#endif

/* Of panels: the array's shape, the 16 signs of its columns before the transform (null: none), the transform's factor. */
struct Turn {
    lp_i64 rows, width;
    const float *signs;
    float factor;
};

#if LP_TURNED
#include "turned_top.cuh"

struct Spot {
    lp_i64 i, row;
};

/* Rows under way. Three inputs leave no registers for more. */
template <int INPUTS> struct Under {
    static const int way = INPUTS > 2 ? 2 : 4;
};
template <int INPUTS, class Load> LPREF_FN void fetch_rows(Spot at, lp_i64 width, float (*v)[INPUTS][4], Load load) {
    const int AHEAD = Under<INPUTS>::way;
#pragma unroll
    for (int k = 0; k < AHEAD; ++k, at.i += width, ++at.row) load(Count<2>(), at.i, at.row, v[k]);
}

template <int INPUTS, int OUTPUTS, class Load, class Work> LPREF_FN void by_panels(const Turn &t, lp_u64 *counters, Load load, Work work) {
    const int AHEAD = Under<INPUTS>::way;
    const lp_u32 across = (lp_u32)((t.width + 63) / 64), panels = (lp_u32)(t.rows / LP_TURNED) * across, stride = gridDim.x * (blockDim.x / 32);
    const lp_u32 flips = flips_of<LP_TURNED>(t.signs), lane = threadIdx.x % 32;
    auto spot = [&](lp_u32 p) {
        lp_u32 down = p / across;
        Spot at = {0, (lp_i64)down * LP_TURNED};
        at.i = at.row * t.width + (p - down * across) * 64 + 2 * lane;
        return at;
    };
    auto live = [&](lp_u32 p) { return p < panels && p % across * 64 + 2 * lane < t.width; };
    lp_u32 p = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, plain = 0, turned = 0;
    float next[AHEAD][INPUTS][4], now[AHEAD][INPUTS][4], column[2 * OUTPUTS][LP_TURNED];
    if (live(p)) fetch_rows<INPUTS>(spot(p), t.width, next, load);
    for (; p < panels; p += stride) {
        const bool own = live(p);
        Spot at = spot(p);
#pragma unroll
        for (int first = 0; first < LP_TURNED; first += AHEAD) {
#pragma unroll
            for (int k = 0; k < AHEAD * INPUTS * 2; ++k) now[k / 2 / INPUTS][k / 2 % INPUTS][k % 2] = next[k / 2 / INPUTS][k / 2 % INPUTS][k % 2];
            if (first + AHEAD < LP_TURNED) {
                Spot further = {at.i + AHEAD * t.width, at.row + AHEAD};
                if (own) fetch_rows<INPUTS>(further, t.width, next, load);
            } else if (live(p + stride)) {
                fetch_rows<INPUTS>(spot(p + stride), t.width, next, load);
            }
#pragma unroll
            for (int k = 0; k < AHEAD; ++k, at.i += t.width, ++at.row) {
                if (!own) break;
                float out[OUTPUTS][4];
                work(Count<2>(), at.i, at.row, now[k], out);
                const lp_u32 sign = flips << (31 - first - k) & 0x80000000u;
#pragma unroll
                for (int o = 0; o < OUTPUTS; ++o) {
                    seen_in<2>(plain, out[o]);
                    column[2 * o][first + k] = lp_float(lp_bits(out[o][0]) ^ sign);
                    column[2 * o + 1][first + k] = lp_float(lp_bits(out[o][1]) ^ sign);
                }
            }
        }
        if (own) {
#pragma unroll
            for (int o = 0; o < 2 * OUTPUTS; ++o) turned = turned_top<LP_TURNED, LP_TURNED>(turned, column[o]);
        }
    }
    noted(plain, counters);
    noted_turned(lp_bits(lp_mul(lp_float(turned), t.factor)) & LP_ABS, counters);
}
#endif

template <int INPUTS, int OUTPUTS, class Load, class Work>
LPREF_FN void noting(lp_i64 n, bool fours, lp_u64 *counters, const Turn &turn, Load load, Work work) {
#if LP_TURNED
    by_panels<INPUTS, OUTPUTS>(turn, counters, load, work);
#else
    lp_u32 top = 0;
    by_fours<INPUTS>(
        n, fours, [&](auto c, lp_i64 i, float (*v)[4]) { load(c, i, (lp_i64)-1, v); },
        [&](auto c, lp_i64 i, float (*v)[4]) {
            float out[OUTPUTS][4];
            work(c, i, (lp_i64)-1, v, out);
#pragma unroll
            for (int o = 0; o < OUTPUTS; ++o) seen_in<decltype(c)::n>(top, out[o]);
        });
    noted(top, counters);
#endif
}

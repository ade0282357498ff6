/* The one sum in float64, by a block of 1024 threads: thread l holds lane l (lpref.ref.reduce). */
#include "base.h"
#define LANES 1024

/* the sum of the lanes, in the order of halving; never -0 */
LPREF_FN double halved(double *lanes, double mine) {
    int l = (int)threadIdx.x;
    lanes[l] = mine;
    __syncthreads();
    for (int half = LANES / 2; half; half /= 2) {
        if (l < half) lanes[l] = lp_dadd(lanes[l], lanes[l + half]);
        __syncthreads();
    }
    double total = lanes[0];
    __syncthreads();
    return lp_dadd(total, 0.0);
}

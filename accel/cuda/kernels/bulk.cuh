/* Copies of whole runs of bytes into shared memory by the copy engine (compute capability 9.0), and the barriers that tell of them. One lane asks, a warp
 * waits; addresses and sizes are multiples of 16 bytes. Addresses in shared memory are numbers of 32 bits, since the compiler makes those of pointers
 * again wherever they are used. Without a GPU a copy is done at once. */
#ifndef BULK_CUH
#define BULK_CUH
#include "vectors.cuh"

#ifdef __CUDACC_RTC__
typedef lp_u32 Shelf, Arrival; /* where 16 bytes are; where a barrier is */
LPREF_FN Shelf shelf_at(lp_16 *p) { return (lp_u32)__cvta_generic_to_shared(p); }
LPREF_FN Shelf beyond(Shelf s, lp_u32 sixteens) { return s + sixteens * 16u; }
LPREF_FN lp_16 taken16(Shelf s, lp_u32 sixteens) {
    lp_16 r;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "r"(s + sixteens * 16u) : "memory");
    return r;
}
LPREF_FN Arrival arrival_at(lp_u64 *p) { return (lp_u32)__cvta_generic_to_shared(p); }
/* Phases that end when one lane has said what comes and all of it is there. */
LPREF_FN void prepare(Arrival a) {
    asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(a) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
LPREF_FN void expect(Arrival a, lp_u32 bytes) { asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(a), "r"(bytes) : "memory"); }
LPREF_FN void bring(Shelf at, const void *from, lp_u32 bytes, Arrival a) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(at), "l"(from), "r"(bytes), "r"(a) : "memory");
}
/* phase: 0 for the first, then in turn */
LPREF_FN void await(Arrival a, lp_u32 phase) {
    lp_u32 there;
    do {
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}" : "=r"(there) : "r"(a), "r"(phase) : "memory");
    } while (!there);
}
#else
typedef lp_16 *Shelf;
typedef lp_u64 *Arrival;
LPREF_FN Shelf shelf_at(lp_16 *p) { return p; }
LPREF_FN Shelf beyond(Shelf s, lp_u32 sixteens) { return s + sixteens; }
LPREF_FN lp_16 taken16(Shelf s, lp_u32 sixteens) { return s[sixteens]; }
LPREF_FN Arrival arrival_at(lp_u64 *p) { return p; }
LPREF_FN void prepare(Arrival) {}
LPREF_FN void expect(Arrival, lp_u32) {}
LPREF_FN void bring(Shelf to, const void *from, lp_u32 bytes, Arrival) { memcpy(to, from, bytes); }
LPREF_FN void await(Arrival, lp_u32) { __syncwarp(); }
#endif
#endif

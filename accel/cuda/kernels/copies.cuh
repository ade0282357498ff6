/* Copies of 16 bytes into shared memory that a thread does not wait for. */
#ifndef COPIES_CUH
#define COPIES_CUH
#include "vectors.cuh"

#ifdef __CUDACC_RTC__
/* `size` bytes are read, 16 or 0; the others are 0 */
LPREF_FN void copy16(lp_16 *to, const void *from, lp_u32 size) {
    lp_u32 at = (lp_u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(size) : "memory");
}
LPREF_FN void close_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* A warp has all but the last `left` groups of its lanes. */
template <int left> LPREF_FN void await_groups() {
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
    __syncwarp();
}
#else
LPREF_FN void copy16(lp_16 *to, const void *from, lp_u32 size) {
    lp_16 nothing = {};
    *to = size ? *(const lp_16 *)from : nothing;
}
LPREF_FN void close_group() {}
template <int left> LPREF_FN void await_groups() { __syncwarp(); }
#endif
#endif

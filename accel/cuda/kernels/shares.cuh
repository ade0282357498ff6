/* Probabilities of a softmax from its exponentials and their sum. */
#include "decided.h"
#include "element.h"

/* e / s, to nearest but where LP_NEAR (decided.h) allows less: by one reciprocal a row where nothing comes near the subnormals (element.h: the residue of
 * e >= 2^-80 and 1 <= s <= 2^24 is a multiple of 2^-130) */
template <int N> LPREF_FN void shares(const float *e, float s, float reciprocal, float *p) {
#if LP_NEAR
#pragma unroll
    for (int k = 0; k < N; ++k) p[k] = lp_mul(e[k], reciprocal);
#else
    bool fine = s >= 1.0f && s <= 16777216.0f;
#pragma unroll
    for (int k = 0; k < N; ++k) fine &= e[k] >= 8.271806125530277e-25f;
    if (fine) {
#pragma unroll
        for (int k = 0; k < N; ++k) p[k] = lp_quotient(e[k], s, reciprocal);
    } else {
#pragma unroll
        for (int k = 0; k < N; ++k) p[k] = lp_div(e[k], s);
    }
#endif
}

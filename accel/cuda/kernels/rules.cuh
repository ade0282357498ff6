/* Update rules of one element: the pages of lpref.ref.optim.rules. Coefficients are rounded on the host as the definition rounds them. */
#include "elementary.h"

struct AdamW {
    float b1, c1, b2, c2, a, r, eps, lr, wd, lrwd;
};

/* delta; m and v become the new moments. order: 0 before, 1 inside, 2 after */
LPREF_FN float adamw_of(float p, float g, float &m, float &v, const AdamW &k, int order) {
    m = lp_add(lp_mul(k.b1, m), lp_mul(k.c1, g));
    v = lp_add(lp_mul(k.b2, v), lp_mul(k.c2, lp_mul(g, g)));
    float s = lp_div(lp_mul(k.a, m), lp_add(lp_mul(lp_sqrt(v), k.r), k.eps)), d;
    if (order == 0) d = lp_add(lp_mul(k.lrwd, p), s);
    else if (order == 1) d = lp_mul(k.lr, lp_add(s, lp_mul(k.wd, p)));
    else d = lp_add(s, lp_mul(k.lrwd, lp_sub(p, s)));
    return lp_neg(d);
}

/* momentum: 0 none, 1 the first step, 2 a running buffer */
struct Sgd {
    float lr, mu, e, wd;
    int decay, nesterov, momentum;
};

/* delta; b becomes the new buffer */
LPREF_FN float sgd_of(float p, float g, float &b, const Sgd &k) {
    float h = k.decay ? lp_add(g, lp_mul(k.wd, p)) : g, u = h;
    if (k.momentum) {
        b = k.momentum == 1 ? h : lp_add(lp_mul(k.mu, b), lp_mul(k.e, h));
        u = k.nesterov ? lp_add(h, lp_mul(k.mu, b)) : b;
    }
    return lp_neg(lp_mul(k.lr, u));
}

struct Lion {
    float lr, b1, c1, b2, c2, wd;
};

/* delta; m becomes the new moment */
LPREF_FN float lion_of(float p, float g, float &m, const Lion &k) {
    float c = lp_add(lp_mul(k.b1, m), lp_mul(k.c1, g)), d = lp_neg(lp_mul(k.lr, lp_add(lp_sign(c), lp_mul(k.wd, p))));
    m = lp_add(lp_mul(k.b2, m), lp_mul(k.c2, g));
    return d;
}

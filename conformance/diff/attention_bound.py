r"""How far two float32 evaluations of softmax attention may be apart, whatever their order: a proved bound.

With u = 2^-24, gamma_n = n u/(1 - n u), scores s = c q k^T over D numbers, p = softmax(s) over S keys, o = p v:

    |s^ - s| <= gamma_{D+2} c |q| |k|^T =: d               D products and sums in any order; c rounded and multiplied
    |fl(s^ - m) - (s^ - m)| <= u |s^ - m|                  m: any number, the same for a row; it cancels in p

so that every exponential is exp(theta) times the true one up to a common factor, |theta| <= t = max_j (d + 3 u (|s - max s| + 2 d)); the 3 is
for online softmax, where a key's exponent is the sum of the differences of running maxima. Relative errors remain: an exponential 4 u (2 ulp) in
the numerator and in the denominator, the sum of S positive terms, a division, S products and sums with v, and where running sums are rescaled
at each key an exponential and a product more, in both: 12 S + 16 factors (1 + delta) at most. Hence

    |o^ - o| <= (exp(2 t) (1 + gamma_{12 S + 16}) - 1) p |v| + S 2^-125 max |v|

where the last term is for exponentials, probabilities and products that underflow. Two evaluations, the definition one of them, are at most twice
that apart. Exponentials of more than 2 ulp, and inputs of less than float32, are not covered.
Source: Higham, Accuracy and Stability of Numerical Algorithms, 2002, lemma 3.1 and section 3.5; the rest is elementary.
"""

from __future__ import annotations

import numpy as np

from lpref.ref.attention.dense import causal_mask, default_scale
from lpref.ref.linalg.bounds import U32, gamma


def attention_bound(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool, scale: float | None = None) -> np.ndarray:
    """q [B, Hq, T, D], k and v [B, Hkv, S, D], finite -> the bound for every element of o [B, Hq, T, D], float64."""
    group = q.shape[1] // k.shape[1]
    wide = [np.repeat(x.astype(np.float64), group, axis=1) if x is not q else x.astype(np.float64) for x in (q, k, v)]
    c = abs(default_scale(q, scale))
    depth, keys = q.shape[-1], k.shape[2]
    s = c * (wide[0] @ wide[1].swapaxes(-1, -2)) * np.sign(default_scale(q, scale))
    if causal:
        s = np.where(causal_mask(q.shape[2], keys), s, -np.inf)
    below = s - np.max(s, axis=-1, keepdims=True)
    seen = np.isfinite(below)
    d = gamma(depth + 2) * c * (np.abs(wide[0]) @ np.abs(wide[1]).swapaxes(-1, -2))
    t = np.max(np.where(seen, d + 3 * U32 * (np.abs(np.where(seen, below, 0.0)) + 2 * d), 0.0), axis=-1, keepdims=True)
    e = np.exp(below)
    sizes = (e / e.sum(-1, keepdims=True)) @ np.abs(wide[2])
    relative = np.expm1(2 * t) * (1 + gamma(12 * keys + 16)) + gamma(12 * keys + 16)
    # float64 computed all this with errors below 2^-40 of it; 2^-20 more covers them
    bound: np.ndarray = 2 * (relative * sizes * (1 + 2.0**-20) + keys * 2.0**-125 * np.max(np.abs(wide[2]), axis=2, keepdims=True))
    return bound

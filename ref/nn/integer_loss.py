r"""NITI's gradient of cross entropy in integers: no exponential, no division but one of integers.

Logits are v 2^e with integers v [N, C]. All divisions truncate::

    e > -7:    s = v 47274 / 2^15             log2(exp(v)): 47274 / 2^15 is 1.4427
               s = s 2^e   (e < 0: s / 2^-e)
               s = max(s - (max_c s - 10), 0)
               g = 2^s - 1                    ten octaves below the largest count as nothing
    else:      g = 2^(1 - 2e) + v 2^(1 - e) + v^2           2^(1 - 2e) (1 + x + x^2 / 2) with x = v 2^e
    g   = g 2^11 / sum_c g
    g[target] -= sum_c g                      softmax less one-hot, in units of 2^-11

The published code then shifts g right by 4 bits with stochastic rounding; `shifted` does, with given words: away from zero where the dropped bits are
above the word's low 4.

Source: wangmaolin/niti ti_loss.py TiLoss, ti_torch.py StoShift. Source level: read.
Pitfalls: 2^s - 1 makes the probabilities of logits at the cut exactly zero; the sum in the last line is the sum of the truncated g, so the gradient
adds up to zero exactly.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lpref.ref.errors import NonFiniteError


def integer_cross_entropy(v: NDArray, exponent: int, targets: NDArray) -> NDArray[np.int64]:
    """The gradient [N, C] by the logits, in units of 2^-11, before its shift.

    >>> integer_cross_entropy(np.array([[10, 0]]), 0, np.array([0])).tolist()
    [[0, 0]]
    """
    s = v.astype(np.int64)
    if exponent > -7:
        s = truncated(s * 47274, 1 << 15)
        s = s << exponent if exponent >= 0 else truncated(s, 1 << -exponent)
        s = np.maximum(s - (np.max(s, axis=1, keepdims=True) - 10), 0)
        g = (np.int64(1) << s) - 1
    else:
        g = (1 << (1 - 2 * exponent)) + s * (1 << (1 - exponent)) + s * s
    g = truncated(g * 2**11, np.sum(g, axis=1, keepdims=True))  # exact: integers
    rows = np.arange(len(targets))
    g[rows, targets] -= np.sum(g, axis=1)  # exact: integers
    return g


def integer_gradient(logits: NDArray, targets: NDArray, words: NDArray) -> NDArray[np.float32]:
    """The gradient of the mean over rows by float logits [N, C], in float32: logits as int8 with one exponent of two (largest magnitude rounded up to
    a power 2^b, v = logits / 2^(b - 7) half away from zero, clipped to +-127), the integers of `shifted` in units of 2^-7, over N.

    >>> integer_gradient(np.float32([[0, 4]]), np.array([1]), np.zeros((1, 2), np.uint32)).tolist()
    [[0.03125, -0.03125]]

    Zero logits are even probabilities. Errors: NonFiniteError for logits that are not finite.
    """
    top = float(np.max(np.abs(logits), initial=0.0))
    if not math.isfinite(top):
        raise NonFiniteError("logits are not finite", where="integer_gradient", remedy="lower the learning rate")
    mantissa, exponent = math.frexp(top)
    b = 0 if top == 0 else exponent - (mantissa == 0.5)
    scaled = np.ldexp(logits.astype(np.float64), 7 - b)  # exact: a power of two
    v = np.clip(np.trunc(scaled + np.copysign(0.5, scaled)), -127, 127).astype(np.int64)
    g = shifted(integer_cross_entropy(v, b - 7, targets), words)
    return (g * 2.0**-7).astype(np.float32) / np.float32(len(targets))


def shifted(g: NDArray, words: NDArray, bits: int = 4) -> NDArray[np.int64]:
    """g / 2^bits, away from zero where the dropped bits exceed the low `bits` of the word.

    >>> shifted(np.array([17, -40]), np.array([0, 9])).tolist()
    [2, -2]
    """
    magnitude = np.abs(g)
    up = (magnitude & ((1 << bits) - 1)) > (np.asarray(words).astype(np.int64) & ((1 << bits) - 1))
    return np.clip(np.sign(g) * ((magnitude >> bits) + up), -127, 127)


def truncated(a: NDArray, b: NDArray | int) -> NDArray[np.int64]:
    """Integer division towards zero."""
    return np.sign(a) * (np.abs(a) // b)

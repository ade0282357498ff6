"""The order-2 byte model: what a table of the two preceding bytes already knows about a text. The bar that a trained model must clear."""

from __future__ import annotations

import numpy as np

from lpref.ref import reduce


def order2_bits_per_byte(train: np.ndarray, valid: np.ndarray) -> float:
    r"""Bits per byte of a trigram model on `valid`, counted on `train` (both uint8).

    $p(c \mid ab) = \frac{n_{abc} + \beta\, p(c \mid b)}{n_{ab} + \beta}$ with
    $p(c \mid b) = \frac{n_{bc} + \alpha}{n_b + 256 \alpha}$, $\alpha = 0.01$, $\beta = 1$: every probability is positive, and the
    256 of a context add to 1.

    >>> text = np.frombuffer(b"ab" * 50, np.uint8)
    >>> order2_bits_per_byte(text, text) < 0.1
    True
    """
    alpha, beta = 0.01, 1.0
    each = train[: train.size - 2].astype(np.int64)
    for i in (1, 2):
        each <<= 8
        each |= train[i : train.size - 2 + i]
    n_abc = np.bincount(each, minlength=1 << 24)
    n_ab, n_bc = n_abc.reshape(-1, 256).sum(1), n_abc.reshape(256, -1).sum(0)
    n_b = n_bc.reshape(256, 256).sum(1)
    x, y, z = (valid[i : valid.size - 2 + i].astype(np.int64) for i in range(3))
    back = (n_bc[(y << 8) | z] + alpha) / (n_b[y] + 256 * alpha)
    p = (n_abc[(x << 16) | (y << 8) | z] + beta * back) / (n_ab[(x << 8) | y] + beta)
    return float(-reduce.tree_mean(np.log2(p)))  # float64; np.log2 is only reported, nothing depends on its last bit

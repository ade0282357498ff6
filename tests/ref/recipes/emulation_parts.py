"""Recipes whose layer is more than six operands, once more from their pages: results, saved projections, fades, widths and layers by name.

Nothing here uses lpref's formats, scaling or quantizers; words and signs come from the addresses of `emulation`.
"""

from __future__ import annotations

import numpy as np

from lpref.ref import random

from . import emulation, emulation_float, emulation_qat
from .emulation import SEED, SITE, STEP, F, words


def s2fp8(x: np.ndarray) -> np.ndarray:
    """y = sgn(x) 2^(alpha L + beta) in E5M2, x^ = 2^((log2|y| - beta) / alpha); float32 steps, logarithms rounded from float64."""
    live = x != 0
    logs = np.log2(np.where(live, np.abs(x), 1).astype(np.float64)).astype(F)
    mu = F(emulation_qat.tree(logs.reshape(-1)) / F(live.sum()))
    alpha = F(15) / (logs[live].max() - mu)
    beta = -(alpha * mu)
    y = np.where(live, np.copysign(np.exp2((alpha * logs + beta).astype(np.float64)).astype(F), x), x)
    y = emulation_float.cast(y, "e5m2")
    kept = y != 0
    back = np.exp2((np.log2(np.where(kept, np.abs(y), 1)) - float(beta)) / float(alpha))
    return np.where(kept, np.copysign(back, y), y).astype(F)


def in_order(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A B^T in float32, the products added one after another."""
    total = np.zeros((a.shape[0], b.shape[0]), F)
    for k in range(a.shape[1]):
        total = total + a[:, k, None] * b[None, :, k]
    return total


def projected(x: np.ndarray, ratio: int = 8) -> np.ndarray:
    """EXACT: X R R^T, X R kept in two bits, a row a group, scale and minimum in bfloat16."""
    rank = x.shape[1] // ratio
    signs = random.signs(random.WordAddress(SEED, STEP, f"{SITE}/save/x/projection/signs"), x.shape[1] * rank).reshape(-1, rank)
    root = F(1 / np.sqrt(rank))
    small = in_order(x, signs.T) * root
    kept = emulation_float.minmax(small, 2, rank, words("save/x/rounding", small.shape, 8), eps=0.0).astype(F)
    return in_order(kept, signs) * root


def faded(x, w, dy, share: float):
    """(1 - lambda) v + lambda v~ of b1.58's v~ in float32 while lambda is below 1, the values of forward again backward."""
    xq, wq = emulation_qat.rows(x, emulation_qat.token), emulation_qat.ternary(w)
    if share < 1:
        old, new = F(1 - share), F(share)
        xq, wq = ((v * old + q.astype(F) * new) for v, q in ((x, xq), (w, wq)))
    return emulation_qat.fake(xq, wq, dy)


def widths(x, w, dy, bits: int):
    """Double Rounding at b bits: x on 2^b - 1 steps from its least value or zero; W_h of 8 bits, and of that W_l.

    Also the masks of dX and dW: strictly inside the codes of b bits.
    """
    low, high, top = F(min(x.min(), 0)), F(max(x.max(), 0)), 2**bits - 1
    s = (high - low) * F(1 / top)
    u = (x - low) / s
    values = (np.clip(np.rint(u), 0, top) * float(s)).astype(F) + low
    step, down = emulation_qat.first_step(w, 127), 2.0 ** (8 - bits)
    stored = np.clip(np.rint(w / step), -128, 127).astype(np.float64)
    lowest, largest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    wq = np.clip(np.rint(stored / down), lowest, largest) * float(step) * down
    v = w / (step * F(down))
    return emulation_qat.fake(values.astype(np.float64), wq, dy), ((u > 0) & (u < top), (v > lowest) & (v < largest))


def drawn_width(site: str, pass_: int) -> int:
    """HASB without traces: 8, 6, 4 or 2 bits in proportion to the bits, by 16 bits of a word of the layer."""
    word = int(random.WordAddress(SEED, STEP, f"{site}/hasb@{pass_}").bits(1, 16)[0])
    return next(b for b, below in ((8, 8), (6, 14), (4, 18), (2, 20)) if word * 20 < below * 2**16)


def tiles(x: np.ndarray) -> np.ndarray:
    """FPSAttention: E4M3 under amax / 448 of 64 tokens and 32 channels, the last tiles smaller."""
    return emulation.by_block(x, 64, 32, lambda t, _: emulation.te_tensor(t, "e4m3"))

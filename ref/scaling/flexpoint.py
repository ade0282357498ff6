r"""Flexpoint flexN+5 with Autoflex: N-bit integers and one scale per tensor that is predicted, never measured first, $\hat x = i \kappa$.

Quantizing uses the scale of the state::

    s = kappa;  u = x / kappa (exact);  i = clamp(round(u), -(2^(N-1) - 1), 2^(N-1) - 1)

Autoflex, once after every write (the step's observations merged), with the deque f of at most `window` past maxima::

    Gamma = max|i|                                  (after clamping)
    if Gamma >= 2^(N-1) - 1:  f <- ();  Gamma <- 2 Gamma            overflow
    f     <- (f ..., Gamma kappa), the oldest dropped beyond `window`
    max, std of f: float64; the mean by the defined sum, population standard deviation
    chi   = alpha (max + beta std + gamma kappa)
    kappa <- 2^(ceil(log2 chi) - N + 1), kappa in [2^-31, 1]: five bits of exponent

So a slowly growing sequence never overflows, and a jump clips once and is followed one step late. State: ``{"scale": kappa, "history": float32
[window], "length": n}``, the n valid entries first, oldest first. `settled` repeats write and update on one tensor until kappa stands still:
the initialization.

Zero tensor: Gamma = 0 enters the history. NaN or infinity: NaN is an error for integers (the overflow policy), infinity saturates, and overflows.
Gradient: tensors of the backward pass have the format too, each its own history.

Source: arXiv 1711.02213 sec. 3.1-3.5, algorithms 1 and 2 (N = 16, window 16, alpha 2, beta 3, gamma 100; "based on the maximum and standard
deviation of values stored in the deque").
Source level: read, in a machine's transcription whose algorithm 2 is damaged: the ceiling follows from fig. 3 (kappa doubles where Gamma reaches
2^14), 2 Gamma and alpha's place from "add one bit" and "multiplicative". Which standard deviation is not said; kappa = 2^-e, e = 0 .. 31, is the
range that fig. 2 shows for flex16+5. Its algorithm 1 jumps to the exponent of one tensor, by trial too; `settled` ends at algorithm 2's.
Pitfalls: the exponent is that of the *next* write: what is stored now was scaled by the past (delayed scaling's ancestor); gamma kappa keeps chi
positive for a tensor of zeros; a history that survives an overflow would predict too small a scale again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import reduce
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales, stored

EXPONENTS = (-31, 0)
"""log2 of kappa: 2^-e with e of five bits."""


def flexpoint_scales(kappa: np.float32, grid: tuple[int, int]) -> BlockScales:
    """The one scale kappa on the grid."""
    s = np.full(grid, kappa, np.float32)
    return BlockScales(stored(s, "float32"), s, s, "divide")


def initial(scale: Scale) -> dict[str, Any]:
    """kappa = 1 and an empty history."""
    return {"scale": np.float32(1), "history": np.zeros(scale.window, np.float32), "length": np.int32(0)}


def predicted(past: NDArray[np.float32], kappa: float, bits: int, scale: Scale) -> np.float32:
    """The next kappa from the deque `past` (at least one entry).

    >>> float(predicted(np.float32([1.0, 1.0]), 2.0**-14, 16, Scale("flexpoint", history="delayed")))
    0.0001220703125
    """
    f = past.astype(np.float64)
    mean = float(reduce.tree_sum(f)) / f.size
    spread = float(np.sqrt(reduce.tree_sum((f - mean) * (f - mean)) / f.size))
    chi = scale.alpha * (float(f.max()) + scale.beta * spread + scale.gamma * kappa)
    half, exponent = np.frexp(chi)
    e = int(exponent) - int(half == 0.5) - bits + 1
    return np.float32(2.0 ** min(max(e, EXPONENTS[0]), EXPONENTS[1]))


def update(scale: Scale, bits: int, state: Mapping[str, Any], top: int) -> dict[str, Any]:
    """The state after a write whose largest mantissa magnitude was `top`."""
    kappa, length = float(state["scale"]), int(state["length"])
    past = np.asarray(state["history"], np.float32)[:length]
    if top >= 2 ** (bits - 1) - 1:
        past, top = past[:0], 2 * top
    past = np.append(past, np.float32(top * kappa))[-scale.window :]
    history = np.zeros(scale.window, np.float32)
    history[: past.size] = past
    return {**state, "scale": predicted(past, kappa, bits, scale), "history": history, "length": np.int32(past.size)}

r"""TransformerEngine's FP8 scale: the *encode* scale $S = t / \mathrm{amax}$ is primary, $q = \mathrm{cast}(x \cdot S)$, and $1/S$ is stored.

Current scaling, every intermediate, float32, in this order::

    a = max(amax, eps)
    S = t / a
    S = S / 2^margin                exact
    S = FLT_MAX where S is infinite
    pow2 down: S = 2^floor(log2 S)  (mantissa bits cleared)
    S = 1 where amax is 0, infinite or NaN
    scale_inv = 1 / S               what is stored and multiplies the codes
    u = x * S

Delayed scaling casts with the S of the *state* and records amax; `update` below is the end of the step. With blocks (1, 128) and
(128, 128), ``pow2: down``, this is Float8BlockScaling.

Zero tensor: S = 1. NaN keeps its NaN code, infinity saturates (S = 1), the rest of such a tensor is cast unscaled. Power-of-two scales
never overflow; otherwise amax lands on t up to one rounding and the cast saturates.
Gradient: straight through, none through amax.

Source: NVIDIA/TransformerEngine common/recipe/recipe_common.cuh (amax in {0, inf, nan} -> 1), tests/pytorch/references/
quantize_scale_calc.py, common/recipe/delayed_scaling.cu.
Source level: read.
Deviations and defaults: TransformerEngine's Python test reference has S = 0 for an infinite amax and the largest number of x's dtype (not of float32)
where S is infinite; its kernels, and this page, do not. The window of delayed scaling is 1024 with the largest of it (its class's default;
recipes in use also have 16); eps is 0.
Pitfalls: x * S is not x / scale_inv; 2^floor(log2 S) by a floating-point logarithm is off by one where the cleared mantissa is not; a recomputed
forward must use the first pass's scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import FLT_MAX, BlockScales, power_of_two, stored


def te_scales(amax: NDArray[np.float32], target: float, scale: Scale) -> BlockScales:
    """Current scaling of blocks with these `amax`.

    >>> te_scales(np.float32([[448, 0, np.inf, 3]]), 448.0, Scale("te", apply="mul_inverse", pow2="down")).factor.tolist()
    [[1.0, 1.0, 1.0, 128.0]]
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        a = np.maximum(amax, np.float32(scale.eps))
        s: NDArray = np.float32(target) / a / np.float32(2.0**scale.margin)
        s = np.where(np.isinf(s), FLT_MAX, s)
        if scale.pow2 != "none":
            s = power_of_two(s, scale.pow2)
        return from_encode_scale(np.where((a == 0) | ~np.isfinite(a), np.float32(1), s).astype(np.float32), scale.format)


def from_encode_scale(encode_scale: NDArray[np.float32], format_name: str = "float32") -> BlockScales:
    """Scales of a given encode scale S: decode by fl32(1 / S), elements multiplied with S."""
    inverse = (np.float32(1) / encode_scale).astype(np.float32)
    return BlockScales(stored(inverse, format_name), inverse, encode_scale, "multiply")


def update(scale: Scale, target: float, encode_scale: np.float32, history: NDArray[np.float32], amax: np.float32) -> tuple[np.float32, NDArray]:
    """End of a step of delayed scaling: (S, history[L]) and the step's merged amax -> the next (S, history).

    1. history[0] <- amax. 2. `max`: m = the largest of all L values; `most_recent`: m = history[0].
    3. roll: new[i] = old[i + 1], new[L - 1] = old[0], new[0] = 0; skipped where amax is 0, so an unused tensor does not age.
    4. S = t / m / 2^margin where m is finite and positive, else S stays; infinite becomes FLT_MAX.
    A NaN amax is no observation (the kernel's fmaxf drops it): nothing rolls, S follows from the history.

    >>> S, h = update(Scale("te", apply="mul_inverse", history="delayed"), 448.0, np.float32(1), np.zeros(3, np.float32), np.float32(7))
    >>> float(S), h.tolist()
    (64.0, [0.0, 0.0, 7.0])
    """
    seen = np.float32(0) if np.isnan(amax) else np.float32(amax)
    history = history.copy()
    history[0] = seen
    largest = history[0] if scale.algo == "most_recent" else np.max(history)
    if seen > 0:
        history = np.concatenate([history[1:], history[:1]])
        history[0] = 0
    if np.isfinite(largest) and largest > 0:
        with np.errstate(over="ignore"):
            encode_scale = np.float32(target) / largest / np.float32(2.0**scale.margin)
        encode_scale = FLT_MAX if np.isinf(encode_scale) else encode_scale
    return np.float32(encode_scale), history

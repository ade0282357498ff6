"""Rotary position embedding in the half-split form (pairs i, i + D/2).

Source: arXiv:2104.09864 eq. 34; pairing as in huggingface/transformers models/llama/modeling_llama.py `rotate_half`
(the paper's own code pairs 2i, 2i + 1: the same up to a permutation of the head dimension).
"""

from __future__ import annotations

import numpy as np

from lpref.ref.elementary import cos as _cos
from lpref.ref.elementary import pow as _pow
from lpref.ref.elementary import sin as _sin
from lpref.ref.errors import ShapeError


def rope_tables(T: int, D: int, base: float = 10000.0, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """cos, sin [T, D/2] of the angles t · base^(−2i/D), computed in float64, rounded once to `dtype`.

    >>> cos, sin = rope_tables(2, 2)
    >>> cos[0].tolist(), sin[0].tolist()
    ([1.0], [0.0])
    """
    if D % 2:
        raise ShapeError(f"head dimension {D} is odd", where="rope_tables")
    exponents = -2.0 * np.arange(D // 2, dtype=np.float64) / D
    frequency = _pow(np.full(D // 2, base, np.float64), exponents)
    angle = np.arange(T, dtype=np.float64)[:, None] * frequency
    return _cos(angle).astype(dtype), _sin(angle).astype(dtype)


def rope(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """x [B, H, T, D], cos and sin [T, D/2]: y1 = x1·cos − x2·sin, y2 = x2·cos + x1·sin (products first, then one add)."""
    check("rope", x, cos, sin)
    x1, x2 = _halves(x)
    return np.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1)


def rope_backward(dy: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """The inverse rotation: dx1 = dy1·cos + dy2·sin, dx2 = dy2·cos − dy1·sin."""
    check("rope_backward", dy, cos, sin)
    d1, d2 = _halves(dy)
    return np.concatenate([d1 * cos + d2 * sin, d2 * cos - d1 * sin], axis=-1)


def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


def check(op: str, x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> None:
    """x [B, H, T, D] of even D; cos and sin [T, D/2]."""
    if x.ndim != 4 or x.shape[3] % 2 or cos.shape != (x.shape[2], x.shape[3] // 2) or sin.shape != cos.shape:
        raise ShapeError(f"x is {x.shape}, cos {cos.shape}, sin {sin.shape}; needed [B, H, T, D], [T, D/2] twice", where=op)

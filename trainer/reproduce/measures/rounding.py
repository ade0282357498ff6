"""What a quantizer does to a tensor: the relative error, and how much it shrinks it."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel import quantize
from lpref.ref.random import WordAddress
from lpref.ref.rounding import is_stochastic
from lpref.specs import quantizer
from lpref.trainer.reproduce.measures.tensors import tensor


def quantized(x: Any, q: Any, seed: int, *, k_axis: int = -1, site: str = "measure") -> Any:
    """The values of x under a quantizer (name or mapping), float32; stochastic rounding draws the words of (seed, site)."""
    made = quantizer(q)
    words = WordAddress(seed, 0, f"{site}/rounding") if is_stochastic(made.rounding) else None
    return quantize(x, made, words=words, k_axis=k_axis, backend="cpu").dequantize(np.float32)


def relative_error(seed: int, quantizer: Any, distribution: str, rows: int = 256, columns: int = 1024) -> float:
    """mean (Q(x) - x)^2 / mean x^2."""
    x = tensor(seed, distribution, rows, columns)
    q = quantized(x, quantizer, seed).astype(np.float64)
    return float(np.mean((q - x) ** 2) / np.mean(np.float64(x) ** 2))


def shrinkage(seed: int, quantizer: Any, distribution: str = "gaussian", rows: int = 2048, columns: int = 1024) -> float:
    """<Q(x), x> / <x, x> - 1: 0 for a rounding whose mean is x, below where it saturates or rounds towards 0."""
    x = tensor(seed, distribution, rows, columns)
    q = quantized(x, quantizer, seed).astype(np.float64)
    return float(np.mean(q * x) / np.mean(np.float64(x) ** 2) - 1)

"""Tensors of a known distribution, from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.ref.errors import UnknownNameError

DISTRIBUTIONS = ("gaussian", "uniform", "heavy", "outlier_channels", "outlier_tokens")


def tensor(seed: int, distribution: str, rows: int, columns: int, stream: int = 0) -> Any:
    """float32 [rows, columns].

    gaussian          standard normal
    uniform           in [-1, 1)
    heavy             Student's t with 3 degrees of freedom: infinite fourth moment
    outlier_channels  standard normal, one column in 64 times 50
    outlier_tokens    standard normal, rows times exp(normal): tokens of different size
    """
    draw = np.random.default_rng([seed, stream])
    if distribution not in DISTRIBUTIONS:
        raise UnknownNameError("distribution", distribution, DISTRIBUTIONS)
    if distribution == "uniform":
        return draw.uniform(-1, 1, (rows, columns)).astype(np.float32)
    if distribution == "heavy":
        return draw.standard_t(3, (rows, columns)).astype(np.float32)
    x = draw.standard_normal((rows, columns))
    if distribution == "outlier_channels":
        x[:, :: max(columns // max(columns // 64, 1), 1)] *= 50
    if distribution == "outlier_tokens":
        x *= np.exp(draw.standard_normal((rows, 1)))
    return x.astype(np.float32)

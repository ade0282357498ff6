r"""Factors by name: what an operation multiplies its output or its gradients with, computed from its sizes.

Unit scaling gives the forward and the backward pass factors of their own, so that tensors keep variance 1. With R rows, F features (the last
axis), T tokens of a sample, D the width of a head, V classes, and `interpolate(alpha, low, high)` = $high^{alpha}\,low^{1-alpha}$:

    unit_activation      interpolate(1/2, 2, sqrt(2)) for silu(g) u, interpolate(1/(1 + 1/4), 2, sqrt(2 / (1 - 1/pi))) for gelu, silu and relu
    unit_attention       output   1 / interpolate(1/5, sqrt(log(T)/T), 1)                scores over sqrt(D); 1/T without causal mask
    unit_loss            gradient V / sqrt(V - 1) * R                                    of logits, where the loss is a mean over R rows
    unit_rows            gradient R^-1/2                                                 of a vector that all rows share
    unit_table           gradient sqrt(entries / R)                                      of a table that R rows are taken from
    unit_skip, unit_branch        1 / sqrt(1 + tau^2), tau / sqrt(1 + tau^2)             of a residual sum with the tau of `transformer_tau`

tau of the n-th residual branch, n = 0 .. N - 1, of a transformer that alternates between attention and MLP: 1 / sqrt(N / 2 + n), so that
embedding, attention layers and MLP layers contribute equally to the last sum.

Source: graphcore-research/unit-scaling unit_scaling/functional.py and core/functional.py (transformer_residual_scaling_rule), commit a7b5b3c;
arXiv 2303.11257, 2407.17465. Source level: read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from lpref.ref import elementary
from lpref.ref.errors import UnknownNameError

Sizes = Mapping[str, float]
"""rows, features, and where there are any tokens, causal, entries, gated, branch, branches."""


def interpolate(alpha: float, low: float, high: float) -> float:
    """The number at `alpha` of the way from `low` to `high`, in logarithms.

    >>> interpolate(0.5, 1.0, 4.0)
    2.0
    """
    return float(elementary.exp(np.float64(alpha * log(high) + (1 - alpha) * log(low))))


def log(x: float) -> float:
    """The natural logarithm, with the same bits everywhere."""
    return float(elementary.log(np.float64(x)))


def transformer_tau(branch: float, branches: float) -> float:
    """tau of a residual branch, counted from 0.

    >>> transformer_tau(0, 8)
    0.5
    """
    return 1.0 / math.sqrt(branches / 2 + branch)


def _attention(sizes: Sizes) -> float:
    tokens = sizes["tokens"]
    if tokens <= 1:
        return 1.0
    low = math.sqrt((log(tokens) if sizes["causal"] else 1.0) / tokens)
    return 1.0 / interpolate(1 / 5, low, 1.0)


GATED, CURVED = (1 / 2, 2.0, math.sqrt(2.0)), (1 / 1.25, 2.0, math.sqrt(2 / (1 - 1 / math.pi)))


def _tau(sizes: Sizes) -> float:
    return transformer_tau(sizes["branch"], sizes["branches"])


FACTORS: dict[str, Callable[[Sizes], float]] = {
    "unit_activation": lambda s: interpolate(*(GATED if s.get("gated") else CURVED)),
    "unit_attention": _attention,
    "unit_loss": lambda s: s["features"] / math.sqrt(s["features"] - 1) * s["rows"],
    "unit_rows": lambda s: 1 / math.sqrt(s["rows"]),
    "unit_table": lambda s: math.sqrt(s["entries"] / s["rows"]),
    "unit_skip": lambda s: 1 / math.sqrt(1 + _tau(s) ** 2),
    "unit_branch": lambda s: _tau(s) / math.sqrt(1 + _tau(s) ** 2),
}
"""Name -> the factor of the sizes."""


def factor(value: float | str, sizes: Sizes) -> float:
    """A factor that is a number, or that is computed.

    >>> factor("unit_rows", {"rows": 4}), factor(0.5, {})
    (0.5, 0.5)
    """
    if not isinstance(value, str):
        return value
    if value not in FACTORS:
        raise UnknownNameError("factor", value, FACTORS)
    return FACTORS[value](sizes)

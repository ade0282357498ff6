r"""Top-1 routing of a transformer's tokens to experts, and its load balance.

Tokens of an expert are gathered, go through its layers together, and are put back in their places; an expert without tokens does nothing. The choice
has no derivative, the probability that the output is multiplied with has one: the router learns through it.

.. math:: \text{balance} = E \sum_e f_e P_e, \qquad f_e \text{ the share of tokens of expert } e, \quad P_e = \text{mean } p_e

summed over the layers: 1 a layer where both are even, its least value for f = P.

Source: Switch Transformers, arXiv:2101.03961, eq. 1, 2, 4 to 6. Source level: memory.
Pitfalls: token counts differ from step to step, so an expert's random words begin anew in each micro-batch (its rows are not those of the batch).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.autodiff.tensor import make


def routed(model: Any, name: str, h: Tensor, ctx: Any) -> tuple[Tensor, Tensor]:
    """(the chosen expert's output of every token [M, D], its probability [M, 1]); the model remembers p and the choice."""
    count, arrays = model.cfg.experts, (lambda x: x) if model.backend is None else model.backend.arrays.host
    scores = model.linear(f"{name}.router", h, ctx)
    p = F.softmax(scores)
    chosen = np.argmax(arrays(scores.data), axis=1)
    mask = np.zeros(p.shape, np.float32)
    mask[np.arange(len(chosen)), chosen] = 1
    rows = [np.flatnonzero(chosen == e) for e in range(count)]
    parts = [model.one_mlp(f"{name}.expert.{e}", F.embedding(h, own), ctx) for e, own in enumerate(rows) if own.size]
    back = np.empty(len(chosen), np.int64)
    back[np.concatenate(rows)] = np.arange(len(chosen))
    model.routes.append((p, np.array([own.size for own in rows])))
    gate = F.sum(p * make(model.array(mask), model.backend), axis=-1, keepdims=True)
    return F.embedding(F.concat(parts) if len(parts) > 1 else parts[0], back), gate


def balance(model: Any) -> Tensor | None:
    """The load balance of the last forward pass; None without routers."""
    total = None
    for p, tokens in model.routes:
        share = (tokens / np.float32(tokens.sum())).astype(np.float32) * np.float32(len(tokens))  # exact: counts
        term = F.sum(F.mean(p, axis=0) * make(model.array(share), model.backend))
        total = term if total is None else total + term
    return total

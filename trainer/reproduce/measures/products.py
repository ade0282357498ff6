"""What quantized operands and short accumulators do to matrix products: relative errors against float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lpref.accel import backend
from lpref.ref.linalg import Accumulate, HighPrecision, gemm
from lpref.ref.recipes import Context, linear_forward
from lpref.specs import recipe as recipe_of
from lpref.trainer.reproduce.measures.rounding import quantized
from lpref.trainer.reproduce.measures.tensors import tensor


def accumulation_error(seed: int, terms: int, chunk: int | None, format: str = "e6m9_ieee", outputs: int = 8) -> float:
    """|sum - exact| / exact, the mean of `outputs` dot products of uniform numbers in [0, 1) with ones.

    Sums of `chunk` products, then of these sums, both in `format`; chunk null: one sum over all.
    """
    values = np.random.default_rng(seed).random((outputs, terms), np.float32)
    model = replace(Accumulate("sequential", product="exact"), format=format, outer=format, chunk=chunk)
    found = gemm(HighPrecision(values, 1), HighPrecision(np.ones((1, terms), np.float32), 1), model)[:, 0]
    exact = np.sum(values, axis=1, dtype=np.float64)
    return float(np.mean(np.abs(found - exact) / exact))


def product_error(
    seed: int, quantizer: Any, distribution: str, weight: Any = None, rows: int = 256, columns: int = 256, depth: int = 1024
) -> float:
    """||Q(X) Q(W)^T - X W^T|| / ||X W^T|| (Frobenius); X of the distribution, W normal under `weight` (null: as X)."""
    x, w = tensor(seed, distribution, rows, depth), tensor(seed, "gaussian", columns, depth, stream=1)
    xq, wq = quantized(x, quantizer, seed), quantized(w, quantizer if weight is None else weight, seed, site="weight")
    return _distance(xq, wq, x, w)


def forward_error(seed: int, recipe: Any, distribution: str, rows: int = 256, outputs: int = 256, inputs: int = 512) -> float:
    """The same of a linear layer's forward product under a recipe."""
    x, w = tensor(seed, distribution, rows, inputs), tensor(seed, "gaussian", outputs, inputs, stream=1)
    ctx = Context(seed, 0, 0, observed={}).at("layer")
    found, _ = linear_forward(x, w, recipe_of(recipe).linear, ctx, backend("cpu", "exact"))
    exact = x.astype(np.float64) @ w.astype(np.float64).T
    return float(np.linalg.norm(np.asarray(found, np.float64) - exact) / np.linalg.norm(exact))


def weight_gradient_error(seed: int, quantizer: Any, tokens: int, outputs: int = 64, inputs: int = 64) -> float:
    """The same of dW = dY^T X, contracted over the tokens; dY of tokens of different size."""
    dy = np.ascontiguousarray(tensor(seed, "outlier_tokens", tokens, outputs).T)
    x = np.ascontiguousarray(tensor(seed, "gaussian", tokens, inputs, stream=1).T)
    return _distance(quantized(dy, quantizer, seed), quantized(x, quantizer, seed, site="x"), dy, x)


def _distance(aq: Any, bq: Any, a: Any, b: Any) -> float:
    exact, found = (p.astype(np.float64) @ q.astype(np.float64).T for p, q in ((a, b), (aq, bq)))
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))

"""Softmax cross-entropy over rows, the mean over all rows (no label is ignored)."""

from __future__ import annotations

import numpy as np

from lpref.ref.elementary import exp, log
from lpref.ref.errors import DataError, ShapeError
from lpref.ref.reduce import tree_mean, tree_sum


def softmax_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""loss = mean_i ( log Σ_j exp(z_ij) − z_i,target ), z = logits − row maximum.

    logits [N, V] float, targets [N] integers in [0, V) -> loss (0-d array of the dtype of logits), probs [N, V].
    Order: ``z = logits − max``, ``e = exp(z)``, ``s = tree_sum(e)``, ``probs = e / s``, ``loss = tree_sum(log(s) − z[target]) / N``.
    Special values: a NaN, a +inf, or nothing but −inf in a row makes its loss and its probabilities NaN; −inf beside finite
    values is probability +0. Errors: DataError for a target out of range, ShapeError for N = 0 (a mean of nothing).

    >>> loss, probs = softmax_cross_entropy(np.float32([[0, 0]]), np.array([1]))
    >>> float(loss), probs.tolist()
    (0.6931471824645996, [[0.5, 0.5]])
    """
    check_targets("softmax_cross_entropy", logits, targets)
    z = logits - np.max(logits, axis=1, keepdims=True)
    e = exp(z)
    s = tree_sum(e, axis=-1)
    rows = np.arange(len(targets))
    return np.asarray(tree_mean(log(s) - z[rows, targets], axis=0)), e / s[:, None]


def softmax_cross_entropy_backward(dloss: np.ndarray | float, probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    r"""dlogits [N, V] = (probs − onehot) · (dloss / N): the difference first, then one product with the rounded quotient."""
    check_targets("softmax_cross_entropy_backward", probs, targets)
    real = probs.dtype.type
    d = probs.copy()
    d[np.arange(len(targets)), targets] -= real(1)
    return d * (real(dloss) / real(len(targets)))


def check_targets(op: str, logits: np.ndarray, targets: np.ndarray) -> None:
    """Shapes [N, V], [N], N > 0, integer targets in [0, V)."""
    if logits.ndim != 2 or targets.shape != logits.shape[:1] or len(targets) == 0:
        raise ShapeError(f"logits are {logits.shape}, targets {targets.shape}; needed [N, V], [N], N > 0", where=op)
    if targets.dtype.kind not in "iu":
        raise DataError(f"targets are {targets.dtype}, not integers", where=op)
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= logits.shape[1]:
        raise DataError(f"targets span [{low}, {high}], classes are 0…{logits.shape[1] - 1}", where=op,
                        remedy="check the vocabulary size of the model against the data")

"""Softmax cross-entropy: the page of `lpref.ref.nn.loss`, one pass a row, with its bits."""

from __future__ import annotations

import numpy as np
from numba import njit

from lpref.accel.cpu.elementary import exp64, log64
from lpref.accel.cpu.rows import KERNEL, ROWS, host, kept_row_sum, row_max, tasks
from lpref.accel.cpu.threads import divide
from lpref.ref.nn.loss import check_targets
from lpref.ref.reduce import tree_mean


def softmax_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(loss, probs): `lpref.ref.nn.softmax_cross_entropy`."""
    check_targets("softmax_cross_entropy", logits, targets)
    (logits,) = host("softmax_cross_entropy", logits)
    probs, losses = np.empty_like(logits), np.empty(len(logits), np.float32)
    divide(_cross_entropy, tasks(len(logits)), logits, targets.astype(np.int64, copy=False), probs, losses)
    return np.asarray(tree_mean(losses)), probs


def softmax_cross_entropy_backward(dloss: np.ndarray | float, probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """dlogits: `lpref.ref.nn.softmax_cross_entropy_backward`."""
    check_targets("softmax_cross_entropy_backward", probs, targets)
    (probs,) = host("softmax_cross_entropy_backward", probs)
    dlogits = np.empty_like(probs)
    scale = np.float32(dloss) / np.float32(len(targets))
    divide(_cross_entropy_backward, tasks(len(probs)), probs, targets.astype(np.int64, copy=False), scale, dlogits)
    return dlogits


@njit(**KERNEL)
def _cross_entropy(start, stop, logits, targets, probs, losses):  # type: ignore[no-untyped-def]
    N, V = logits.shape
    e, t = np.empty(V, np.float32), np.empty(V, np.float32)
    for i in range(start * ROWS, min(N, stop * ROWS)):
        top = row_max(logits, i, V)
        for j in range(V):
            e[j] = np.float32(exp64(np.float64(logits[i, j] - top)))
        s = kept_row_sum(e, 0, V, t)
        for j in range(V):
            probs[i, j] = e[j] / s
        losses[i] = np.float32(log64(np.float64(s))) - (logits[i, targets[i]] - top)


@njit(**KERNEL)
def _cross_entropy_backward(start, stop, probs, targets, scale, dlogits):  # type: ignore[no-untyped-def]
    N, V = probs.shape
    for i in range(start * ROWS, min(N, stop * ROWS)):
        for j in range(V):
            dlogits[i, j] = probs[i, j] * scale
        k = targets[i]
        dlogits[i, k] = (probs[i, k] - np.float32(1)) * scale

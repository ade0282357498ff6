"""Softmax cross-entropy of CuPy arrays: the page of `lpref.ref.nn.loss`, a team of threads a row, with its bits.

Targets may lie on the host, where checking them waits for nothing, or on the device, where it waits for their range.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device
from lpref.accel.cuda.reduce import row_sums
from lpref.ref.nn.loss import check_targets


def softmax_cross_entropy(logits: Any, targets: Any) -> tuple[Any, Any]:
    """(loss, probs): `lpref.ref.nn.softmax_cross_entropy`; the loss stays on the device, 0-d."""
    check_targets("softmax_cross_entropy", logits, targets)
    (logits,) = arrays.floats("softmax_cross_entropy", logits)
    (rows, n), cp = logits.shape, device.cupy()
    probs, losses = cp.empty(logits.shape, np.float32), cp.empty((1, rows), np.float32)
    arrays.rows("loss", "cross_entropy", rows, n, logits, arrays.integers(targets), rows, n, probs, losses)
    return row_sums(losses, rows).reshape(()), probs


def softmax_cross_entropy_backward(dloss: Any, probs: Any, targets: Any) -> Any:
    """dlogits: `lpref.ref.nn.softmax_cross_entropy_backward`; dloss: a number, or one on the device."""
    check_targets("softmax_cross_entropy_backward", probs, targets)
    (probs,) = arrays.floats("softmax_cross_entropy_backward", probs)
    rows, n = probs.shape
    dlogits, count = device.cupy().empty(probs.shape, np.float32), np.float32(rows)
    if device.on_device(dloss):
        (pointer,), number = arrays.floats("softmax_cross_entropy_backward", dloss.reshape(())), np.float32(0)
    else:
        pointer, number = 0, np.float32(dloss)
    args = (probs, arrays.integers(targets), rows, n, pointer, number, count, dlogits)
    device.function("loss", "cross_entropy_backward", arrays.ONE)(*device.plane(rows, n), args)
    return dlogits

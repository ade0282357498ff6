"""Softmax cross-entropy: the mean negative log-likelihood of integer targets."""

from __future__ import annotations

from typing import Any

from lpref.autodiff import plain as F
from lpref.autodiff.fused import Fused, formats, kept_in
from lpref.autodiff.primitives import integers, space
from lpref.autodiff.tensor import Tensor, mode, value_dtype
from lpref.ref.errors import ShapeError


def forward(B: Any, logits: Any, targets: Any, **kept: Any) -> tuple[Any, Any]:
    """The backend's loss on rows, mean over rows; a scalar."""
    loss, saved = B.softmax_cross_entropy(logits.reshape((-1, logits.shape[-1])), targets.reshape(-1))
    return space(logits).asarray(loss, dtype=value_dtype(logits, B)).reshape(()), saved


def backward(B: Any, dloss: Any, saved: Any, xs: tuple, wants: list[bool], targets: Any, alone: bool = False, **kept: str) -> tuple[Any, ...]:
    """dlogits = (softmax − onehot) · dloss / N; where the backend does that, written over logits that nothing will read again."""
    over = {"overwrite": True} if alone and mode.releasing and B.arrays.overwrites else {}
    return (B.softmax_cross_entropy_backward(dloss, saved, targets.reshape(-1), **kept_in(kept, "back"), **over).reshape(xs[0].shape),)


def composite(logits: Tensor, targets: Any, **kept: Any) -> Tensor:
    """−mean over rows of log_softmax(logits)[target]."""
    z = F.reshape(logits, (-1, logits.shape[-1]))
    xp = space(logits.data)
    ids = z.backend.arrays.make(targets.reshape(-1, 1))
    picked = z.backend.equal(xp.arange(z.shape[1], dtype=ids.dtype), ids).astype(z.dtype)
    return -(F.sum(F.log_softmax(z) * picked) / z.shape[0])


CROSS_ENTROPY = Fused("softmax_cross_entropy", forward, backward, composite, "nothing")


def softmax_cross_entropy(logits: Tensor, targets: Any, under: Any = None, back: str = "float32", alone: bool = False) -> Tensor:
    """−(1/N) Σ log softmax(logits)[n, targets[n]]; logits [..., V], targets [...] integers in [0, V). A scalar.

    back: the format in which the gradient of the logits is kept, for a reader that rounds to it anyway. alone: whether nothing but this loss reads
    the logits, not the op that made them either: a backward that releases the graph may leave their gradient in their memory.

    Raises DTypeError for targets that are not integers, ShapeError when the shapes do not match.
    """
    targets = targets.data if isinstance(targets, Tensor) else targets
    integers("softmax_cross_entropy", targets)
    if tuple(targets.shape) != logits.shape[:-1]:
        raise ShapeError(f"targets of shape {tuple(targets.shape)} for logits of shape {logits.shape}",
                         where="autodiff.softmax_cross_entropy", remedy="targets have the logits' shape without the last axis")  # fmt: skip
    return CROSS_ENTROPY(logits, targets=targets, under=under, **formats("float32", back), **({"alone": True} if alone and under is None else {}))

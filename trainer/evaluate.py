"""Evaluation on held-out data: a fixed set of windows (text) or all images, in the run's own recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lpref.trainer.data.batches import Batch, valid_batches
from lpref.trainer.data.types import Data, TokenData

EVAL_PASS = 1 << 20  # evaluation forwards are passes of their own: their words are never those of training


def evaluate(model: Any, data: Data, batches: Sequence[Batch], context: Any) -> dict[str, float]:
    """{loss, bits_per_byte | bits_per_token} or {loss, accuracy}, means over all predictions; `context(pass)` gives a Context."""
    from lpref.autodiff import no_grad

    loss = correct = count = 0.0
    with no_grad():
        for i, batch in enumerate(batches):
            ctx = context(EVAL_PASS + i)
            if isinstance(data, TokenData):
                loss += float(model.loss(batch, ctx).item()) * batch.tokens
            else:
                logits = model.logits(batch.inputs, ctx)
                scores = model.backend.arrays.host(logits.data)
                loss += _cross_entropy(scores, batch.targets)
                correct += int(np.count_nonzero(np.argmax(scores, axis=-1) == batch.targets))
            count += batch.tokens
    out = {"loss": loss / count}
    if isinstance(data, TokenData):
        out["bits_per_byte" if data.byte_level else "bits_per_token"] = loss / count / math.log(2)
    else:
        out["accuracy"] = correct / count
    return out


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Sum of the negative log-likelihoods, in float64; a reported figure, no gradient depends on it."""
    z = logits.astype(np.float64)
    z = z - np.max(z, axis=-1, keepdims=True)
    return float(np.sum(np.log(np.sum(np.exp(z), axis=-1)) - z[np.arange(len(labels)), labels]))


def evaluate_run(path: Path, *, data: str | None = None, windows: int | None = None, backend: str | None = None) -> dict[str, Any]:
    """The figures of a run's newest checkpoint on its own held-out data, or on another set; backend: see `restore`."""
    from lpref.trainer.construction import check_data
    from lpref.trainer.data import load_data
    from lpref.trainer.restore import restore

    loaded = restore(path, backend)
    spec = loaded.spec
    found = load_data(spec.data.name if data is None else data_name(data))
    check_data(spec, found)
    batches = valid_batches(found, loaded.length, windows or spec.data.valid_windows, spec.train.batch)
    figures = evaluate(loaded.model, found, batches, loaded.context)
    return {"run": str(path), "step": loaded.step, "data": found.name, "data_sha256": found.sha256, **figures}


def data_name(text: str) -> str:
    """A data set's name, or the path of a text file spelled without its prefix."""
    return f"text:{text}" if ":" not in text and Path(text).is_file() else text

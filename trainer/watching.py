"""Statistics of the tensors of every linear layer, by one more forward and backward pass that looks: the step itself is not touched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.ref.analysis import tensor_statistics
from lpref.trainer.data.batches import Batch
from lpref.trainer.step import TrainState, gradients

Record = dict[str, dict[str, dict[str, float]]]


def tensor_record(prepared: Any, state: TrainState, batch: Batch, before: Mapping[str, Any] | None = None) -> Record:
    """{site: {x, w, dy: `tensor_statistics`, and drift}} of the model's weights on one micro-batch.

    dy is the gradient of the layer's output, loss scale taken out of amax and rms. drift: log2(amax / the amax of the record `before`).
    """
    found: Record = {}
    host, scale = prepared.backend.arrays.host, state.loss_scale.scale

    def see(site: str, what: str, array: Any) -> None:
        figures = tensor_statistics(np.asarray(host(array)))
        if what == "dy":
            figures |= {name: figures[name] / scale for name in ("amax", "rms")}
        found.setdefault(site, {})[what] = figures | _drift(figures["amax"], (before or {}).get(site, {}).get(what))

    model = prepared.rebuild(prepared.backend)
    model.watch = see
    gradients(model, [batch], prepared.context_of(state, collect=False), scale)
    return found


def _drift(amax: float, before: Mapping[str, float] | None) -> dict[str, float]:
    last = before["amax"] if before else 0.0
    return {"drift": math.log2(amax / last)} if last > 0 and amax > 0 and math.isfinite(amax / last) else {}

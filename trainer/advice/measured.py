"""What a step of a recipe keeps and loses: bytes of the arrays on the tape, and each weight gradient against float32's.

Both on the reference backend, whose quantized tensors are packed to the bits that they store.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lpref.autodiff.fused.linear import LINEAR
from lpref.ref.quantize import QTensor
from lpref.ref.recipes import Context, Recipe
from lpref.ref.recipes.saved import Kept
from lpref.trainer.data.batches import Batch

HIGH_PRECISION = Recipe(name="float32")


def kept_bytes(loss: Any) -> int:
    """Bytes that the linear layers below `loss` keep for their backward pass, parameters not counted."""
    total, seen, stack = 0, set(), [loss.node]
    while stack:
        node = stack.pop()
        if node is None or node.number in seen:
            continue
        seen.add(node.number)
        stack += node.parents
        if node.op is LINEAR:  # in high precision: x itself
            total += _bytes(node.inputs[0].data)
        if isinstance(node.saved, Kept):
            save = node.params[0].save
            total += sum(_bytes(entry) for name, entry in node.saved.entries.items() if save[name].what != "reference")
    return total


def _bytes(entry: Any) -> int:
    """Of an array, a quantized tensor, or a record of such."""
    if isinstance(entry, (np.ndarray, QTensor)):
        return int(entry.nbytes)
    if dataclasses.is_dataclass(entry):
        return sum(_bytes(getattr(entry, field.name)) for field in dataclasses.fields(entry))
    if isinstance(entry, (Mapping, tuple, list)):
        return sum(map(_bytes, entry.values() if isinstance(entry, Mapping) else entry))
    return 0


def weight_gradients(model: Any, batch: Batch, context: Context) -> tuple[dict[str, Any], int]:
    """({weight of a linear site: its gradient, float64}, bytes kept) of one batch."""
    for tensor in model.params.values():
        tensor.grad = None
    loss = model.loss(batch, context)
    kept = kept_bytes(loss)
    loss.backward()
    names = {site.parameter for site in model.sites.values()}
    host = model.backend.arrays.host
    return {name: host(g).astype(np.float64) for name, g in model.grads().items() if name in names}, kept


def gradient_errors(found: Mapping[str, Any], exact: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """{weight: {cosine, snr_db}} of gradients against exact ones; snr = |exact|^2 / |found - exact|^2.

    >>> gradient_errors({"w": np.array([3.0, 0.0])}, {"w": np.array([3.0, 3.0])})["w"]["snr_db"].__round__(2)
    3.01
    """
    errors = {}
    for name, g in exact.items():
        f = found[name]
        noise, signal, size = (float(np.sum(v * v)) for v in (f - g, g, f))
        cosine = float(np.sum(f * g)) / math.sqrt(size * signal) if size * signal else math.nan
        errors[name] = {"cosine": cosine, "snr_db": 10 * math.log10(signal / noise) if noise and signal else math.inf}
    return errors


def measured(prepared: Any, batch: Batch) -> dict[str, Any]:
    """Gradient errors by weight and their means, and the bytes kept, of one batch with the model's present weights.

    prepared: a run on the reference backend. The weights, the words and the quantizer states are the same in both passes.
    """
    model, recipes = prepared.model, prepared.model.recipes
    seed, states = prepared.spec.train.seed, prepared.rules.quantizers.start()
    context = Context(seed, 0, 0, state=states, observed={})
    found, kept = weight_gradients(model, batch, context)
    model.recipes = HIGH_PRECISION.bind(model.sites.values())
    exact, _ = weight_gradients(model, batch, replace(context, observed={}))
    model.recipes = recipes
    layers = gradient_errors(found, exact)
    finite = [e["snr_db"] for e in layers.values() if math.isfinite(e["snr_db"])]
    return {
        "activations": float(kept),
        "cosine": float(np.mean([e["cosine"] for e in layers.values()])),
        "snr_db": float(np.mean(finite)) if finite else math.inf,
        "layers": layers,
    }

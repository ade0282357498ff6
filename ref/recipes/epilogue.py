"""From the accumulator of a GEMM to its output: the epilogue in order, then one rounding to the output format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.ref import elementary
from lpref.ref.errors import SpecError
from lpref.ref.recipes.gemm import Epilogue
from lpref.ref.recipes.gradient import LocalGradient
from lpref.ref.recipes.layer import Layer
from lpref.ref.recipes.products import combined, rounds


def finish(
    layer: Layer, gemm: str, y: Any, k: int, entries: Mapping[str, Any], dparams: dict[str, Any] | None = None, bias: Any = None
) -> Any:
    """The epilogue in order, the bias, then the output format; `k` is the length of the contracted axis.

   A gradient rule is applied at its mask, and gives the gradients of what it learns there."""
    for step in layer.recipe.gemm(gemm).epilogue:
        if step.kind == "mask":
            local: LocalGradient = entries[step.mask]
            y, learned = local.pull(y, layer.ops)
            if dparams is not None:
                dparams.update(learned)
        elif step.kind == "combine":
            y = combined(y, len(layer.recipe.gemm(gemm).a.quantizers()), layer.ops)
        else:
            y = _epilogue(layer, step, gemm, y, k)
    output = layer.recipe.gemm(gemm).output
    if rounds(layer.recipe, gemm):  # with its bias
        return y
    if bias is not None:
        y = layer.ops.add(y, bias if output == "float32" else layer.ops.cast(bias, output))
    return y if output == "float32" else layer.ops.cast(y, output)


def _epilogue(layer: Layer, step: Epilogue, gemm: str, y: Any, k: int) -> Any:
    """A scale, a quantizer, or the inverse of a transform."""
    if step.quantizer is not None:
        return layer.ops.qdq(y, step.quantizer, words=layer.words(f"{gemm}.output", "", y, step.quantizer))
    if step.kind == "scale":
        length = {"k": k, "a": y.shape[0], "b": y.shape[1]}[step.size]
        power = float(elementary.pow(np.float64(length), np.float64(step.power))) if step.power else 1.0
        return layer.ops.mul(y, y.dtype.type(step.factor * power))
    if step.transform is None:
        raise SpecError([f"{gemm}.epilogue: {step.kind!r} has no transform"])
    axis = 0 if step.side == "a" else 1
    fit, signs = layer.fitted(step.transform, gemm, y.shape[axis])
    return layer.ops.hadamard_inverse(y, fit.size, axis=axis, signs=signs)

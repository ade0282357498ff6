"""`Parts`: an operand that is a sum of operands, and how a tensor is split into them (`Split`).

Complex tensors are real arrays whose real and imaginary parts stand side by side, so that heads and blocks of whole pairs stay complex:

    X [M, K], dY [M, N]    element j of a row is  x[2 j] + i x[2 j + 1]
    W [N, K / 2]           row n of the complex weight is  w[2 n] + i w[2 n + 1]

Random words: part p of the slot ``gemm.a`` rounds with the words of ``site/gemm/a/p/rounding``, element i as in the slot's tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lpref.ref.arrays import namespace
from lpref.ref.quantize import Quantizer, quantize
from lpref.ref.recipes.gemm import TENSORS, Split


@dataclass(frozen=True)
class Parts:
    """A split operand.

    of       name of a part -> operand
    kind     of the split
    factor   the number that the parts stand multiplied by (residual splits with a target), a scalar array; None: 1
    pairs    complex: the axis of the tensor along which real and imaginary parts alternate
    """

    of: Mapping[str, Any]
    kind: str = ""
    factor: Any = None
    pairs: int = 1

    def contracted_along(self, k_axis: int) -> Parts:
        """The same parts for a contraction along `k_axis`."""
        return replace(self, of={name: replace(part, k_axis=k_axis) for name, part in self.of.items()})

    def tensor(self, dtype: Any, ops: Any) -> Any:
        """The tensor that the parts stand for: their sum in order over the factor, or the pairs of a complex tensor."""
        values = [part.dequantize(dtype) for part in self.of.values()]
        if self.kind == "complex":
            return interleaved(values, self.pairs)
        if self.kind == "samples":
            return total([ops.mul(v, v.dtype.type(1 / len(values))) for v in values], ops)
        return total(values, ops) if self.factor is None else ops.div(total(values, ops), self.factor)


def tensor_of_operand(operand: Any, dtype: Any, ops: Any) -> Any:
    """The values of an operand, split or not."""
    return operand.tensor(dtype, ops) if isinstance(operand, Parts) else operand.dequantize(dtype)


def total(values: list[Any], ops: Any) -> Any:
    """((v_1 + v_2) + v_3) + ..., each addition rounded."""
    found = values[0]
    for value in values[1:]:
        found = ops.add(found, value)
    return found


def interleaved(values: list[Any], axis: int) -> Any:
    """Two arrays [R, C] as one with their rows (axis 0) or columns (axis 1) alternating."""
    rows, columns = values[0].shape
    shape = (2 * rows, columns) if axis == 0 else (rows, 2 * columns)
    return namespace(values[0]).stack(values, axis=axis + 1).reshape(shape)


def split_operand(layer: Any, path: str, x: Any) -> Parts:
    """The parts of `x`, which is the slot's tensor after its transforms."""
    split: Split = layer.recipe.slot(path).split
    made = SPLITS[split.kind](layer, path, x, split)
    return made if isinstance(made, Parts) else Parts(made, split.kind)


def _residual(layer: Any, path: str, x: Any, split: Split) -> Parts:
    """p_i = Q_i(what is left); with a target, of x times fl32(target / amax). A zero tensor has the factor 1."""
    ops, factor = layer.ops, None
    if split.target is not None:
        amax = float(layer.ops.arrays.host(ops.amax(x.reshape(-1))))
        factor = x.dtype.type(split.target / amax if amax > 0 else 1.0)
        x = ops.mul(x, factor)
    made: dict[str, Any] = {}
    for name, q in layer.recipe.slot(path).quantizers().items():
        made[name] = layer.quantized(path, x, q, name)
        x = ops.sub(x, made[name].dequantize(x.dtype)) if len(made) < len(split.parts) else x
    return Parts(made, split.kind, factor)


def _fallback(layer: Any, path: str, x: Any, split: Split) -> dict[str, Any]:
    """Q_1(x), and Q_2 of the remainder of the blocks whose amax is above the threshold."""
    ops = layer.ops
    (first, q), (second, finer) = layer.recipe.slot(path).quantizers().items()
    coarse = layer.quantized(path, x, q, first)
    left = ops.sub(x, coarse.dequantize(x.dtype))
    key = f"{layer.ctx.key(path)}/threshold"
    theta = np.float32(layer.ctx.state.get(key, {}).get("threshold", split.threshold))
    amax = _block_amax(ops.arrays.host(x), q.blocks.on(tuple(x.shape), layer.k_axis(path)))
    before = layer.ctx.observed.get(key, {"blocks": 0, "fallen": 0})
    fallen = int(np.count_nonzero(amax > theta))
    layer.ctx.observed[key] = {"blocks": before["blocks"] + amax.size, "fallen": before["fallen"] + fallen}
    beyond = ops.arrays.make(_spread(amax > theta, q.blocks.on(tuple(x.shape), layer.k_axis(path)), x.shape))
    return {first: coarse, second: layer.quantized(path, ops.where(beyond, left, x.dtype.type(0)), finer, second)}


def _block_amax(x: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """The largest magnitude of each block."""
    strips = np.maximum.reduceat(np.abs(x), np.arange(0, x.shape[0], block[0]), axis=0)
    found: np.ndarray = np.maximum.reduceat(strips, np.arange(0, x.shape[1], block[1]), axis=1)
    return found


def _spread(grid: np.ndarray, block: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """A value of each block at each of its elements."""
    return np.repeat(np.repeat(grid, block[0], axis=0)[: shape[0]], block[1], axis=1)[:, : shape[1]]


def _outliers(layer: Any, path: str, x: Any, split: Split) -> dict[str, Any]:
    """Q_1 of the clamped tensor, Q_2 of what the clamp took away."""
    ops = layer.ops
    (first, q), (second, other) = layer.recipe.slot(path).quantizers().items()
    ends = ops.order_statistics(x, _ranks(x.size, split.keep))
    clamped = ops.maximum(ops.minimum(x, ends[1:]), ends[:1])
    return {first: layer.quantized(path, clamped, q, first), second: layer.quantized(path, ops.sub(x, clamped), other, second)}


def _ranks(n: int, keep: float) -> tuple[int, int]:
    """ceil((1 - keep)(n - 1)) and floor(keep (n - 1)): ranks counted from the smallest."""
    high = math.floor(keep * (n - 1))
    return n - 1 - high, high


def _samples(layer: Any, path: str, x: Any, split: Split) -> dict[str, Any]:
    return {name: layer.quantized(path, x, q, name) for name, q in layer.recipe.slot(path).quantizers().items()}


def _complex(layer: Any, path: str, x: Any, split: Split) -> Parts:
    """Real and imaginary part. A quantizer of complex numbers (rule quartic) takes both at once."""
    axis = 0 if TENSORS[path] == "w" else 1
    halves = [x[0::2], x[1::2]] if axis == 0 else [x[:, 0::2], x[:, 1::2]]
    given = layer.recipe.slot(path).quantizers()
    if any(q is not None and q.scale.rule == "quartic" for q in given.values()):
        halves = _quartic(layer, halves, next(iter(given.values())))
        given = dict.fromkeys(given)
    made = {name: layer.quantized(path, half, q, name) for (name, q), half in zip(given.items(), halves, strict=True)}
    return Parts(made, split.kind, pairs=axis)


def _quartic(layer: Any, halves: list[Any], q: Quantizer) -> list[Any]:
    """The values of the complex code book, as two real arrays; exactly one of two parts is not zero."""
    arrays = layer.ops.arrays
    real, imaginary = (arrays.host(half) for half in halves)
    both = np.empty(real.shape, np.complex64)
    both.real, both.imag = real, imaginary
    values = quantize(both, q).dequantize(np.complex64)
    return [arrays.make(np.ascontiguousarray(part)) for part in (values.real, values.imag)]


SPLITS: dict[str, Any] = {"residual": _residual, "fallback": _fallback, "outliers": _outliers, "samples": _samples, "complex": _complex}

"""The product of a GEMM whose operands may be split, stacked or sampled.

    whole operands      a b^T
    split operands      sum over `terms` of factor x (part of a)(part of b)^T, each product in the GEMM's accumulation, scaled where the factor is
                        not 1 and added in float32 in the order of the list; parts of the result (`output`) stand side by side afterwards
    stacked parts       one product: the parts are more rows of a. Along k (wgrad) that adds them; along the other axis (dgrad) the result has a
                        stack of rows for every part, which `combine` in the epilogue adds
    sampled rows        the kept rows of `lpref.ref.recipes.sampling`, times their weights, in float32; along the other axis the rows that were
                        not kept are 0 in the result

The product of two operands whose result nothing but the rounding to the output format follows rounds it itself (`rounds`): a backend may then make it
in that format. A residual split with a target leaves its factor on the operand; the product is divided by it at the end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lpref.ref.arrays import namespace
from lpref.ref.quantize import QTensor
from lpref.ref.recipes.gemm import GemmSpec, Term
from lpref.ref.recipes.parts import Parts, interleaved, tensor_of_operand
from lpref.ref.recipes.recipe import LinearRecipe
from lpref.ref.recipes.sampling import Rows, chosen, row_scores

WHOLE = (Term(),)


def is_whole(spec: GemmSpec) -> bool:
    """Whether the GEMM is one product of two operands."""
    return spec.a.split is None and spec.b.split is None and spec.sampling is None and not spec.terms


def rounds(recipe: LinearRecipe, gemm: str) -> bool:
    """Whether the product is rounded to its output format as it is made: one product, no epilogue, and nobody reads its accumulator."""
    spec = recipe.gemm(gemm)
    return is_whole(spec) and not spec.epilogue and spec.output != "float32" and (gemm != "wgrad" or recipe.fprop.b.expression is None)


def arguments(recipe: LinearRecipe, gemm: str, a: Any, b: Any, bias: Any = None) -> tuple[Any, ...]:
    """The arguments of the backend's `gemm` for a product of two operands; with the bias where it `rounds`."""
    spec = recipe.gemm(gemm)
    if not rounds(recipe, gemm):
        return a, b, spec.accumulate
    return (a, b, spec.accumulate, spec.output) if bias is None else (a, b, spec.accumulate, spec.output, bias)


def product(layer: Any, gemm: str, a: Any, b: Any, bias: Any = None) -> Any:
    """The accumulator of the GEMM: float32 [other_a, other_b], or a stack of them where `combine` follows; where it `rounds`, with the bias and in
    its output format."""
    spec, ops = layer.recipe.gemm(gemm), layer.ops
    if is_whole(spec):
        return ops.gemm(*arguments(layer.recipe, gemm, a, b, bias))
    left, right = _parts(a), _parts(b)
    if spec.sampling is not None or (spec.a.split is not None and spec.a.split.stacked):
        y = _stacked(layer, gemm, left, b)
    else:
        y = _summed(layer, spec, left, right, 0 if gemm == "wgrad" else 1)
    for side in (left, right):
        y = y if side.factor is None else ops.div(y, side.factor)
    return y


def _parts(operand: Any) -> Parts:
    return operand if isinstance(operand, Parts) else Parts({"": operand})


def _summed(layer: Any, spec: GemmSpec, a: Parts, b: Parts, axis: int) -> Any:
    """The sum of the terms, by part of the result; two parts of a complex result alternate along `axis`."""
    ops = layer.ops
    found: dict[str, Any] = {}
    for term in spec.terms or WHOLE:
        y = ops.gemm(a.of[term.a], b.of[term.b], spec.accumulate)
        y = y if term.factor == 1 else ops.mul(y, y.dtype.type(term.factor))
        found[term.output] = y if term.output not in found else ops.add(found[term.output], y)
    return next(iter(found.values())) if len(found) == 1 else interleaved(list(found.values()), axis)


def _stacked(layer: Any, gemm: str, a: Parts, b: Any) -> Any:
    """One product of the rows of all parts of a, or of those that are kept."""
    spec, ops = layer.recipe.gemm(gemm), layer.ops
    values = {name: part.dequantize(np.float32) for name, part in a.of.items()}
    along_k = gemm == "wgrad"
    right: Any = tensor_of_operand(b, np.float32, ops) if along_k or isinstance(b, Parts) else None
    rows = _rows(layer, gemm, values, right)
    weighed = [_weighed(values[name], kept, ops) for name, kept in rows.items()]
    left = ops.operand(namespace(weighed[0]).concatenate(weighed), None, k_axis=0 if along_k else 1)
    if along_k:
        index = ops.arrays.make(np.concatenate([kept.index for kept in rows.values()]))
        return ops.gemm(left, ops.operand(right[index], None, k_axis=0), spec.accumulate)
    y = ops.gemm(left, b if right is None else ops.operand(right, None, k_axis=0), spec.accumulate)
    return _spread(y, list(rows.values()), next(iter(values.values())).shape[0], ops)


def _rows(layer: Any, gemm: str, values: dict[str, Any], right: Any) -> dict[str, Rows]:
    """Part -> the rows of it that take part: all of them without sampling."""
    sampling, ops = layer.recipe.gemm(gemm).sampling, layer.ops
    if sampling is None:
        return {name: Rows(np.arange(v.shape[0])) for name, v in values.items()}
    ones = np.ones(next(iter(values.values())).shape[0])
    other = row_scores(right, sampling.score, ops) if "b" in sampling.norms else ones
    scores = {name: (row_scores(v, sampling.score, ops) if "a" in sampling.norms else ones) * other for name, v in values.items()}
    return chosen(sampling, scores, layer, f"{gemm}.a")


def _weighed(values: Any, rows: Rows, ops: Any) -> Any:
    kept = values[ops.arrays.make(rows.index)]
    return kept if rows.weight is None else ops.mul(kept, ops.arrays.make(rows.weight[:, None]))


def _spread(y: Any, rows: list[Rows], count: int, ops: Any) -> Any:
    """The rows of y at their places in a stack of `count` rows for each part, 0 elsewhere."""
    index = np.concatenate([kept.index + number * count for number, kept in enumerate(rows)])
    if index.size == len(rows) * count:
        return y
    whole = namespace(y).zeros((len(rows) * count, y.shape[1]), y.dtype)
    whole[ops.arrays.make(index)] = y
    return whole


def combined(y: Any, parts: int, ops: Any) -> Any:
    """The sum of the `parts` stacks of rows of y, in order."""
    count = y.shape[0] // parts
    found = y[:count]
    for number in range(1, parts):
        found = ops.add(found, y[number * count : (number + 1) * count])
    return found


def transposed(operand: Any, k_axis: int) -> Any:
    """The same codes, contracted along `k_axis`."""
    return operand.contracted_along(k_axis) if isinstance(operand, (Parts, QTensor)) else replace(operand, k_axis=k_axis)

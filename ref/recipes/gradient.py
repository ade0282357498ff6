r"""Gradient rules: what takes the place of the derivative of a quantizer $\hat v = s\,\mathrm{round}(\mathrm{clip}(v / s, Q_n, Q_p))$.

For an upstream gradient $g = \partial L / \partial \hat v$:

    ste           dv = g                                            everywhere
    clipped_ste   dv = g   where Qn <= v / s <= Qp,  else 0;   with ``params.bounds: exclusive``, <
    lsq           dv = g   where Qn <  v / s <  Qp,  else 0
                  ds = c * sum g phi,   phi = Qn               where v / s <= Qn
                                              Qp               where v / s >= Qp
                                              round(v/s) - v/s between
                  c  = 1 / sqrt(n Qp);  n = the weight's elements, or an activation's features (its columns)

s is the block's scale times the tensor scale. LSQ: Esser et al., arXiv 1902.08153; hustzxd/LSQuantization
lsq.py. First step s = 2 mean|v| / sqrt(Qp). ``gradient.params.count: numel`` takes n over all elements of an activation, batch included,
as the public implementations do. The sum over elements is the one of `lpref.ref.reduce`, products rounded to float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.ref.arrays import namespace
from lpref.ref.formats import IntFormat
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.gemm import TENSORS

__all__ = ["Mask", "element_range", "gradient_scale", "initial_step", "mask_of", "step_derivative"]


@dataclass(frozen=True)
class Mask:
    """Where the gradient passes; for LSQ also what the step's gradient needs: its parameter's name, phi and c."""

    inside: Any
    name: str = ""
    phi: Any = None
    factor: Any = None

    def step_gradient(self, upstream: Any, ops: Any) -> Any:
        """ds = c * sum(upstream * phi), a scalar of upstream's dtype."""
        return ops.mul(ops.tree_sum(ops.mul(upstream, self.phi).reshape(-1)), upstream.dtype.type(self.factor))


def element_range(q: Quantizer) -> tuple[float, float]:
    """Qn, Qp: the smallest and largest element value that the quantizer uses.

    >>> element_range(Quantizer("int4", narrow=False)), element_range(Quantizer("e2m1"))
    ((-8.0, 7.0), (-6.0, 6.0))
    """
    form = format_named(q.format)
    if not form.signed:
        return 0.0, float(form.max)
    wide = isinstance(form, IntFormat) and not q.narrow
    return -float(form.max) - (1.0 if wide else 0.0), float(form.max)


def gradient_scale(q: Quantizer, tensor: str, shape: tuple[int, ...]) -> float:
    """c = 1 / sqrt(n Qp)."""
    features = tensor == "x" and q.gradient.params.get("count", "features") == "features"
    n = shape[-1] if features else math.prod(shape)
    return 1.0 / math.sqrt(n * element_range(q)[1])


def initial_step(v: Any, q: Quantizer, ops: Any) -> Any:
    """The first step, 2 mean|v| / sqrt(Qp), float32; at least the smallest normal number, so that it stays positive."""
    mean = ops.div(ops.tree_sum(ops.abs(v).reshape(-1)), v.dtype.type(v.size))
    first = ops.mul(mean, v.dtype.type(2.0 / math.sqrt(element_range(q)[1])))
    return ops.maximum(first, v.dtype.type(np.finfo(np.float32).tiny))


def step_derivative(ratio: Any, lowest: Any, largest: Any, ops: Any) -> Any:
    """phi of the ratio v / s; the bounds are scalars of its dtype."""
    inner = ops.sub(ops.rint(ratio), ratio)
    return ops.where(ops.greater_equal(lowest, ratio), lowest, ops.where(ops.greater_equal(ratio, largest), largest, inner))


def mask_of(layer: Any, path: str, tensor: Any, operand: Any) -> Mask:
    """The mask of the forward slot `path`, in the basis of that slot; `operand` is what it was quantized to."""
    q: Quantizer = layer.recipe.slot(path).quantizer
    ops = layer.ops
    plain = ops.operand(tensor, None, k_axis=1, transforms=layer.transforms(path, tensor.shape))
    v = plain.dequantize(tensor.dtype)
    lowest, largest = (v.dtype.type(bound) for bound in element_range(q))
    s = _scale(operand, v, ops)
    if q.gradient.kind != "lsq":
        beyond = ops.greater if q.gradient.params.get("bounds") == "exclusive" else ops.greater_equal
        return Mask(beyond(v, ops.mul(s, lowest)) & beyond(ops.mul(s, largest), v))
    ratio = ops.div(v, s)
    factor = gradient_scale(q, TENSORS[path], tensor.shape)
    phi = step_derivative(ratio, lowest, largest, ops)
    return Mask(ops.greater(ratio, lowest) & ops.greater(largest, ratio), f"{TENSORS[path]}_step", phi, factor)


def _scale(operand: Any, v: Any, ops: Any) -> Any:
    """Block scale times tensor scale, spread over the elements, in v's dtype."""
    scales = ops.mul(operand.scale_values().astype(v.dtype), operand.tensor_scale.astype(v.dtype))
    if scales.shape == (1, 1):
        return scales
    rows, columns = operand.block
    repeat = namespace(v).repeat
    return repeat(repeat(scales, rows, axis=0)[: v.shape[0]], columns, axis=1)[:, : v.shape[1]]

r"""Memory and bit operations by formula, from the recipe and the shapes alone.

A quantizer stores :math:`b` bits an element and the bits of its scale format a block, one float32 more where it has a tensor scale.
A product of M x N x K multiplications of a- by b-bit operands costs :math:`M N K\, b_a b_b` bit operations (the measure of mixed-precision
searches, arXiv 2005.07093); a sum of GEMMs costs each of its terms, row sampling does not reduce it. High precision is float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lpref.ref.optim.weights import Weights
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.qtensor import code_bits, matrix_shape
from lpref.ref.recipes import LinearRecipe
from lpref.ref.recipes.gemm import GEMMS
from lpref.ref.recipes.sources import code_axis, code_quantizer, effective, saved_tensor

FLOAT32 = 32


def tensor_bits(q: Any, shape: tuple[int, int], axis: int) -> int:
    """Stored bits of a [rows, columns] tensor under a quantizer whose blocks lie along `axis`; None: float32."""
    rows, columns = shape
    if q is None:
        return rows * columns * FLOAT32
    bits = rows * columns * code_bits(q.format)
    if not isinstance(q, Quantizer) or q.scale.rule == "none":
        return bits
    high, wide = q.blocks.grid(shape, axis)
    return bits + high * wide * code_bits(q.scale.format or "float32") + (FLOAT32 if q.scale.rule == "nvfp4" else 0)


def saved_bits(linear: LinearRecipe, rows: int, n: int, k: int) -> int:
    """Bits that a linear layer keeps of x [rows, k] for its backward pass, and of w [n, k] beside the parameter itself."""
    total = 0
    for name, saved in linear.save.items():
        tensor = saved_tensor(name, saved)
        shape = (n, k) if tensor == "w" else (rows, k)
        if saved.what == "hp":
            total += tensor_bits(None, shape, 1)
        elif saved.what == "codes":
            q = saved.quantizer or code_quantizer(linear, name)
            total += tensor_bits(q, shape, 0 if code_axis(linear, name) in "MN" else 1)
        elif saved.what == "mask":
            total += shape[0] * shape[1]
        elif saved.what == "projection":
            total += tensor_bits(saved.quantizer, (shape[0], -(-shape[1] // saved.ratio)), 1)
    return total


def weight_bits(model: Any, name: str, weights: Weights) -> int:
    """Bits in which a parameter is kept between steps."""
    size = model.params[name].size
    linear = any(site.parameter == name for site in model.sites.values())
    if weights.stored is None or not (linear or weights.of == "all"):
        return size * FLOAT32
    return tensor_bits(weights.stored, matrix_shape(tuple(model.params[name].shape)), 1)


def operand_bits(linear: LinearRecipe, path: str) -> int:
    """Bits of an element that the GEMM multiplies at `path`."""
    q = effective(linear, path)
    return FLOAT32 if q is None else code_bits(q.format)


def bit_operations(linear: LinearRecipe, rows: int, n: int, k: int) -> int:
    """Bit operations of a layer's three products."""
    each = [max(1, len(linear.gemm(g).terms)) * operand_bits(linear, f"{g}.a") * operand_bits(linear, f"{g}.b") for g in GEMMS]
    return rows * n * k * sum(each)


def figures(model: Any, weights: Weights, optimizer_state: Mapping[str, Any], batch: int) -> dict[str, float]:
    """Bytes of weights, activations, optimizer and gradients; bit operations relative to bfloat16 in every layer's three products."""
    sites: Iterable[Any] = model.sites.values()
    layers = [(site, (model.recipes or {}).get(site.name, LinearRecipe())) for site in sites]
    sizes = [(linear, batch * site.rows, site.n, site.k) for site, linear in layers]
    bits16 = sum(3 * rows * n * k * 16 * 16 for _, rows, n, k in sizes)
    return {
        "weights": sum(weight_bits(model, name, weights) for name in model.params) / 8,
        "activations": sum(saved_bits(*size) for size in sizes) / 8,
        "optimizer": float(sum(int(a.nbytes) for a in optimizer_state.values())),
        "gradients": model.num_params() * FLOAT32 / 8,
        "bit operations": sum(bit_operations(*size) for size in sizes) / max(bits16, 1),
    }

"""`ReferenceBackend`: every op is its own definition in `lpref.ref`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial, wraps
from typing import Any

import numpy as np

from lpref.accel.again import AGAIN, making_again
from lpref.ref import attention, elementary, formats, linalg, nn, optim, reduce
from lpref.ref.backend import Backend, Bits, Kernel
from lpref.ref.errors import ShapeError
from lpref.ref.quantize import QTensor, Quantizer, quantize, stats


def cast(x: np.ndarray, format_name: str) -> np.ndarray:
    """x rounded to nearest even in the named format, in x's dtype; beyond the range: infinity where the format has one, else its largest."""
    form = formats.format(format_name)
    return form.round(x, overflow="to_infinity" if form.has_inf else "saturate")


def qdq(x: np.ndarray, quantizer: Quantizer, **options: Any) -> np.ndarray:
    """Quantize, then dequantize with one rounding to x's dtype. `options` are those of `quantize`."""
    return quantize(x, quantizer, **options).dequantize(x.dtype)


def operand(
    x: np.ndarray,
    quantizer: Quantizer | None = None,
    *,
    k_axis: int,
    transforms: Sequence[tuple[Any, np.ndarray | None]] = (),
    words: Any = None,
    state: Any = None,
    collect: bool = False,
) -> QTensor | linalg.HighPrecision:
    """What `gemm` takes: x [R, C] after its `transforms` in order, then quantized (None: kept in high precision).

    k_axis is the contraction axis (0 or 1). transforms: (Transform, signs or None) pairs; Transform.axis "k" is the contraction
    axis, "other" the other one. collect adds the error statistics of the quantization to ``operand.observed``.
    """
    check_operand(x, k_axis)
    x = transformed(x, k_axis, transforms)
    if quantizer is None:
        return linalg.HighPrecision(x, k_axis)
    codes = quantize(x, quantizer, state=state, words=words, k_axis=k_axis)
    return replace(codes, observed={**codes.observed, **stats(x, codes)}) if collect else codes


def check_operand(x: Any, k_axis: int) -> None:
    """ShapeError for what is no operand of `gemm`."""
    if x.ndim != 2 or k_axis not in (0, 1):
        raise ShapeError(f"x is {x.shape}, k_axis {k_axis}; needed [R, C] and 0 or 1", where="operand")


def in_format(product: Callable[..., Any], cast: Callable[..., Any], add: Callable[..., Any] = np.add) -> Callable[..., Any]:
    """gemm(a, b, accumulate, output, bias): `product` of the first three, plus the bias [N] of its columns, rounded to the format `output` by `cast`,
    once, where that is not float32. The bias is rounded to that format first, as matrix units read it."""

    def gemm(a: Any, b: Any, accumulate: Any = None, output: str = "float32", bias: Any = None) -> Any:
        y = product(a, b, accumulate)
        if bias is not None:
            y = add(y, bias if output == "float32" else cast(bias, output))
        return y if output == "float32" else cast(y, output)

    return gemm


STORED = (
    "rmsnorm", "layernorm", "add_rmsnorm", "add_layernorm",
    "gelu", "gelu_backward", "swiglu_packed", "swiglu_packed_backward", "attention_packed_backward",
    "softmax_cross_entropy_backward", "cast",
)  # fmt: skip
"""Ops with an option `store`: the format, float32 or bfloat16, in which the result (of several the first) is kept, rounded to nearest even.

Who asks for it knows that all readers round the result to that format themselves, so that no bit of theirs changes."""


def storing(op: Callable[..., Any], cast: Callable[..., Any]) -> Callable[..., Any]:
    """The op with the option `store`."""

    @wraps(op)
    def call(*args: Any, store: str = "float32", **options: Any) -> Any:
        y = op(*args, **options)
        if store == "float32":
            return y
        return (cast(y[0], store), *y[1:]) if isinstance(y, tuple) else cast(y, store)

    return call


COPIED = ("rmsnorm_backward", "layernorm_backward", "add_rmsnorm_backward", "add_layernorm_backward")
"""Ops with an option `copy`: the format, float32 or bfloat16, of a copy of the first result, rounded to nearest even, which comes last where it
is not float32; for one more reader of that result, who rounds it."""


def copying(op: Callable[..., Any], cast: Callable[..., Any]) -> Callable[..., Any]:
    """The op, which gives several results, with the option `copy`."""

    @wraps(op)
    def call(*args: Any, copy: str = "float32", **options: Any) -> Any:
        found = op(*args, **options)
        return found if copy == "float32" else (*found, cast(found[0], copy))

    return call


def one_by_one(gemm: Callable[..., Any]) -> Callable[..., list[Any]]:
    """gemms(products): `gemm` of the arguments of each, products that do not need one another, which a backend may make side by side."""
    return lambda products: [gemm(*product) for product in products]


def transformed(x: np.ndarray, k_axis: int, transforms: Sequence[tuple[Any, np.ndarray | None]], hadamard: Any = None) -> np.ndarray:
    """x after every transform in order."""
    hadamard = linalg.hadamard if hadamard is None else hadamard
    for transform, signs in transforms:
        axis = k_axis if transform.axis == "k" else 1 - k_axis
        x = hadamard(x, transform.size, axis=axis, signs=signs)
    return x


@cache
def reference_ops(numerics: str) -> Mapping[str, Callable[..., Any]]:
    """op -> definition. Only matrix products, and attention by them, depend on the grade (N7)."""
    gemm = in_format(partial(linalg.gemm, numerics=numerics), cast)
    table: dict[str, Callable[..., Any]] = {
        # quantized linear algebra
        "operand": operand,
        "gemm": gemm,
        "gemms": one_by_one(gemm),
        "matmul": partial(linalg.matmul, numerics=numerics),
        "hadamard": linalg.hadamard,
        "hadamard_inverse": linalg.hadamard_inverse,
        "cast": cast,
        "quantize": quantize,
        "qdq": qdq,
        # sums and elementwise
        "tree_sum": reduce.tree_sum,
        "tree_mean": reduce.tree_mean,
        "amax": reduce.amax,
        "order_statistics": reduce.order_statistics,
        "exp": elementary.exp,
        "exp2": elementary.exp2,
        "log": elementary.log,
        "log2": elementary.log2,
        "pow": elementary.pow,
        "sin": elementary.sin,
        "cos": elementary.cos,
        "tanh": elementary.tanh,
        "sigmoid": elementary.sigmoid,
        "erf": elementary.erf,
        "rsqrt": elementary.rsqrt,
        "sqrt": np.sqrt,
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "neg": np.negative,
        "abs": np.abs,
        "maximum": np.maximum,
        "minimum": np.minimum,
        "where": np.where,
        "greater": np.greater,
        "greater_equal": np.greater_equal,
        "equal": np.equal,
        "rint": np.rint,
        # layers
        "rmsnorm": nn.rmsnorm,
        "rmsnorm_backward": nn.rmsnorm_backward,
        "layernorm": nn.layernorm,
        "layernorm_backward": nn.layernorm_backward,
        "add_rmsnorm": nn.add_rmsnorm,
        "add_rmsnorm_backward": nn.add_rmsnorm_backward,
        "add_layernorm": nn.add_layernorm,
        "add_layernorm_backward": nn.add_layernorm_backward,
        "relu": nn.relu,
        "relu_backward": nn.relu_backward,
        "silu": nn.silu,
        "silu_backward": nn.silu_backward,
        "gelu": nn.gelu,
        "gelu_backward": nn.gelu_backward,
        "swiglu": nn.swiglu,
        "swiglu_backward": nn.swiglu_backward,
        "swiglu_packed": nn.swiglu_packed,
        "swiglu_packed_backward": nn.swiglu_packed_backward,
        "softmax_cross_entropy": nn.softmax_cross_entropy,
        "softmax_cross_entropy_backward": nn.softmax_cross_entropy_backward,
        "embedding": nn.embedding,
        "embedding_backward": nn.embedding_backward,
        "rope": nn.rope,
        "rope_backward": nn.rope_backward,
        "im2col": nn.im2col,
        "col2im": nn.col2im,
        "attention": partial(attention.attention, numerics=numerics),
        "attention_backward": partial(attention.attention_backward, numerics=numerics),
        "attention_packed": partial(attention.attention_packed, numerics=numerics),
        "attention_packed_backward": partial(attention.attention_packed_backward, numerics=numerics),
        # optimizer
        "adamw_update": optim.adamw_update,
        "sgd_update": optim.sgd_update,
        "lion_update": optim.lion_update,
        "global_norm": optim.global_norm,
        "all_finite": optim.all_finite,
    }
    table |= {op: storing(table[op], cast) for op in STORED} | {op: copying(table[op], cast) for op in COPIED}
    return table | {op: making_again(table[op], result, cast) for op, result in AGAIN.items()}


class ReferenceBackend(Backend):
    """NumPy, from `lpref.ref`. Grade "exact" by default."""

    def __init__(self, numerics: str = "exact") -> None:
        super().__init__("reference", numerics, [Kernel(op, f, f, Bits()) for op, f in reference_ops(numerics).items()])

"""The CPU backend: Numba kernels and NumPy; NumPy's BLAS for products of grade fast without AVX-512."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from lpref.accel.contracts import GEMM_BOUND, MATMUL_BOUND
from lpref.accel.cpu import cache

cache.use()  # before any kernel is defined

from lpref.accel.again import AGAIN, making_again
from lpref.accel.cpu import (
    activation,
    attention,
    attention_packed,
    cast,
    elementwise,
    embedding,
    hadamard,
    image,
    loss,
    memory,
    momentum,
    norm,
    operand,
    optim,
    product,
    qdq,
    quantize,
    reduce,
    rope,
)
from lpref.accel.cpu.gemm import gemm
from lpref.accel.reference import COPIED, STORED, copying, in_format, one_by_one, reference_ops, storing
from lpref.ref.attention import bounds
from lpref.ref.backend import Backend, Bits, Bound, Contract, Kernel, Law
from lpref.ref.linalg.bounds import in_store, of_each

GEMMS_BOUND = Bound(GEMM_BOUND.theorem, of_each(GEMM_BOUND.bound))
ATTENTION_BOUNDS: dict[str, Callable[..., Any]] = {
    "attention": bounds.attention_bound,
    "attention_backward": bounds.attention_backward_bound,
    "attention_packed": bounds.attention_packed_bound,
    "attention_packed_backward": bounds.attention_packed_backward_bound,
}
ATTENTION_THEOREM = "lpref.ref.attention.bounds: rounding errors of both grades, Higham 2002, section 3.1"
VALUES = Law(
    "the values of the definition's codes, the scale rounded into them at most once where that is not exact",
    lambda expected, actual, args, kwargs: operand.same_values(expected, actual),
)

# What has a kernel; every other op of the reference backend is NumPy already and is taken from there as it is.
KERNELS: dict[str, Callable[..., Any]] = {
    "quantize": quantize.quantize,
    "qdq": qdq.qdq,
    "cast": cast.rounded,
    "hadamard": hadamard.hadamard,
    "hadamard_inverse": hadamard.hadamard_inverse,
    "tree_sum": reduce.tree_sum,
    "tree_mean": reduce.tree_mean,
    "exp": elementwise.exp,
    "exp2": elementwise.exp2,
    "log": elementwise.log,
    "log2": elementwise.log2,
    "pow": elementwise.pow,
    "sin": elementwise.sin,
    "cos": elementwise.cos,
    "tanh": elementwise.tanh,
    "sigmoid": elementwise.sigmoid,
    "erf": elementwise.erf,
    "rsqrt": elementwise.rsqrt,
    "rmsnorm": norm.rmsnorm,
    "rmsnorm_backward": norm.rmsnorm_backward,
    "layernorm": norm.layernorm,
    "layernorm_backward": norm.layernorm_backward,
    "add_rmsnorm": norm.add_rmsnorm,
    "add_rmsnorm_backward": norm.add_rmsnorm_backward,
    "add_layernorm": norm.add_layernorm,
    "add_layernorm_backward": norm.add_layernorm_backward,
    "relu": activation.relu,
    "relu_backward": activation.relu_backward,
    "silu": activation.silu,
    "silu_backward": activation.silu_backward,
    "gelu": activation.gelu,
    "gelu_backward": activation.gelu_backward,
    "swiglu": activation.swiglu,
    "swiglu_backward": activation.swiglu_backward,
    "swiglu_packed": activation.swiglu_packed,
    "swiglu_packed_backward": activation.swiglu_packed_backward,
    "softmax_cross_entropy": loss.softmax_cross_entropy,
    "softmax_cross_entropy_backward": loss.softmax_cross_entropy_backward,
    "embedding_backward": embedding.embedding_backward,
    "rope": rope.rope,
    "rope_backward": rope.rope_backward,
    "im2col": image.im2col,
    "col2im": image.col2im,
    "attention": attention.attention,
    "attention_backward": attention.attention_backward,
    "attention_packed": attention_packed.attention_packed,
    "attention_packed_backward": attention_packed.attention_packed_backward,
    "adamw_update": optim.adamw_update,
    "sgd_update": momentum.sgd_update,
    "lion_update": momentum.lion_update,
    "global_norm": optim.global_norm,
}
KERNELS |= {op: storing(KERNELS[op], cast.rounded) for op in STORED} | {op: copying(KERNELS[op], cast.rounded) for op in COPIED}
KERNELS |= {op: making_again(KERNELS[op], result, cast.rounded) for op, result in AGAIN.items()}
GEMM, GEMM_FAST = (in_format(product, cast.rounded) for product in (gemm, operand.gemm_fast))


def stored(op: str, contract: Contract) -> Contract:
    """The contract of an op, with the option `store` where it has that."""
    return in_store(contract) if op in STORED else contract


class CpuBackend(Backend):
    """Fast functions on the host. Grade "fast" fuses and reorders inside matrix products and attention; all else has the same bits in both grades."""

    def __init__(self, numerics: str = "fast") -> None:
        memory.keep_freed()
        definitions = reference_ops("exact")
        products: dict[str, tuple[Callable[..., Any], Contract]] = {
            "operand": (operand.operand, Bits()),
            "gemm": (GEMM, Bits()),
            "gemms": (one_by_one(GEMM), Bits()),
            "matmul": (product.matmul, Bits()),
        }
        if numerics == "fast":
            products = {
                "operand": (operand.operand_fast, VALUES),
                "gemm": (GEMM_FAST, GEMM_BOUND),
                "gemms": (one_by_one(GEMM_FAST), GEMMS_BOUND),
                "matmul": (product.matmul_fast, MATMUL_BOUND),
                **{op: (partial(KERNELS[op], fused=True), stored(op, Bound(ATTENTION_THEOREM, bound))) for op, bound in ATTENTION_BOUNDS.items()},
            }
        table = {op: (KERNELS.get(op, definition), Bits()) for op, definition in definitions.items()} | products
        super().__init__("cpu", numerics, [Kernel(op, f, definitions[op], contract) for op, (f, contract) in table.items()])

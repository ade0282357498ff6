"""The CUDA backend: CuPy arrays, kernels compiled by NVRTC. Grade exact has the bits of every other backend.

Importing this page needs neither CuPy nor a GPU; calling an op needs both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from lpref.accel.contracts import GEMM_BOUND, MATMUL_BOUND
from lpref.accel.cuda import (
    activation,
    arrays,
    attention,
    attention_packed,
    blas,
    device,
    elementwise,
    embedding,
    feed,
    flash,
    gemm,
    hadamard,
    image,
    lines,
    loss,
    norm,
    operand,
    optim,
    product,
    reduce,
    rope,
)
from lpref.accel.cuda.qtensor import CudaQTensor
from lpref.accel.cuda.quantize import quantize
from lpref.accel.reference import STORED, in_format, one_by_one, reference_ops, storing
from lpref.ref.attention import fused
from lpref.ref.backend import Arrays, Backend, Bits, Bound, Contract, Kernel
from lpref.ref.linalg import native_bound
from lpref.ref.linalg.bounds import in_output, in_store, of_each
from lpref.ref.nn import bounds as pointwise

PRODUCT_BOUND = Bound(f"{GEMM_BOUND.theorem}; of FP8 codes lpref.ref.linalg.native_bound", in_output(native_bound))
PRODUCTS_BOUND = Bound(PRODUCT_BOUND.theorem, of_each(PRODUCT_BOUND.bound))
GEMM = in_format(gemm.gemm, operand.rounded, elementwise.add)
NATIVE = {
    "operand", "quantize", "gemm", "gemms", "add", "sub", "mul", "rmsnorm", "rmsnorm_backward", "layernorm", "layernorm_backward",
    "add_rmsnorm", "add_rmsnorm_backward", "add_layernorm", "add_layernorm_backward",
    "attention", "attention_backward", "attention_packed", "attention_packed_backward", "relu", "relu_backward", "silu", "silu_backward",
    "gelu", "gelu_backward", "swiglu", "swiglu_backward", "swiglu_packed", "swiglu_packed_backward",
    "softmax_cross_entropy", "softmax_cross_entropy_backward", "tree_sum", "tree_mean", "cast",
}  # fmt: skip
"""Ops that read arrays of bfloat16 themselves; the others get float32 of them (`arrays.widened`)."""
STORE = {
    "rmsnorm", "layernorm", "add_rmsnorm", "add_layernorm", "gelu", "gelu_backward", "swiglu_packed", "swiglu_packed_backward",
    "attention_packed_backward", "softmax_cross_entropy_backward", "cast",
}  # fmt: skip
"""Ops of `lpref.accel.reference.STORED` whose kernels write bfloat16 themselves; of the others a kernel rounds the result."""
KERNELS: dict[str, Callable[..., Any]] = {
    "operand": operand.operand,
    "gemm": GEMM,
    "gemms": one_by_one(GEMM),
    "matmul": product.matmul,
    "cast": operand.rounded,
    "quantize": quantize,
    "qdq": operand.qdq,
    "hadamard": hadamard.hadamard,
    "hadamard_inverse": hadamard.hadamard_inverse,
    "tree_sum": reduce.tree_sum,
    "tree_mean": reduce.tree_mean,
    "amax": reduce.amax,
    "order_statistics": reduce.order_statistics,
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
    "sqrt": elementwise.sqrt,
    "add": elementwise.add,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
    "div": elementwise.div,
    "neg": elementwise.neg,
    "abs": elementwise.abs,
    "maximum": elementwise.maximum,
    "minimum": elementwise.minimum,
    "where": elementwise.where,
    "greater": elementwise.greater,
    "greater_equal": elementwise.greater_equal,
    "equal": elementwise.equal,
    "rint": elementwise.rint,
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
    "embedding": embedding.embedding,
    "embedding_backward": embedding.embedding_backward,
    "rope": rope.rope,
    "rope_backward": rope.rope_backward,
    "attention": attention.attention,
    "attention_backward": attention.attention_backward,
    "attention_packed": attention_packed.attention_packed,
    "attention_packed_backward": attention_packed.attention_packed_backward,
    "im2col": image.im2col,
    "col2im": image.col2im,
    "adamw_update": optim.adamw_update,
    "sgd_update": optim.sgd_update,
    "lion_update": optim.lion_update,
    "global_norm": optim.global_norm,
    "all_finite": optim.all_finite,
}
KERNELS |= {op: storing(KERNELS[op], arrays.cast_for_storage) for op in STORED if op not in STORE}
KERNELS |= {op: arrays.widened(f) for op, f in KERNELS.items() if op not in NATIVE}

FUSED_THEOREM = "lpref.ref.attention.fused: bfloat16 terms on matrix units, online softmax, saved logarithms"
FUSED: dict[str, tuple[Callable[..., Any], Contract]] = {
    "attention": (partial(attention.attention, fused=True), Bound(FUSED_THEOREM, fused.forward_bound, fused.restated)),
    "attention_backward": (partial(attention.attention_backward, fused=True), Bound(FUSED_THEOREM, fused.backward_bound)),
    "attention_packed": (
        partial(attention_packed.attention_packed, fused=True), Bound(FUSED_THEOREM, fused.packed_forward_bound, fused.packed_restated),
    ),
    "attention_packed_backward": (
        partial(attention_packed.attention_packed_backward, fused=True), Bound(FUSED_THEOREM, fused.packed_backward_bound),
    ),
}  # fmt: skip
"""Attention of grade fast."""
NEAR_THEOREM = "lpref.ref.nn.bounds: units for 2^x and 1 / x in float32"
NEAR: dict[str, tuple[Callable[..., Any], Contract]] = {
    op: (partial(KERNELS[op], near=True), Bound(NEAR_THEOREM, getattr(pointwise, f"{op}_bound")))
    for op in ("silu", "silu_backward", "gelu", "gelu_backward", "swiglu", "swiglu_backward", "swiglu_packed", "swiglu_packed_backward",
               "softmax_cross_entropy")
}  # fmt: skip
"""Activations and the loss of grade fast."""
FAST: dict[str, tuple[Callable[..., Any], Contract]] = {
    "operand": (partial(operand.operand, numbers=True), Bits()), "gemm": (blas.gemm, PRODUCT_BOUND),
    "gemms": (one_by_one(blas.gemm), PRODUCTS_BOUND), "matmul": (blas.matmul, MATMUL_BOUND), **FUSED, **NEAR,
}  # fmt: skip
"""What grade fast has of its own."""
FAST |= {
    op: (FAST[op][0] if op in STORE else storing(FAST[op][0], arrays.cast_for_storage), in_store(FAST[op][1])) for op in STORED if op in FAST
}
FAST |= {op: (arrays.widened(f), contract) for op, (f, contract) in FAST.items() if op not in NATIVE}


def to_device(x: Any) -> Any:
    """A NumPy array or number as a CuPy array; CuPy arrays as they are."""
    return x if device.on_device(x) else feed.upload(feed.same, x)


def to_host(x: Any) -> Any:
    """A CuPy array, quantized tensor or probabilities in NumPy, bfloat16 as float32; waits for the device. Everything else as it is."""
    if isinstance(x, (CudaQTensor, loss.Softmax, flash.Kept)):
        return x.host()
    if arrays.is_sixteen(x):
        return (device.cupy().asnumpy(x.view(np.uint16)).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return device.cupy().asnumpy(x) if device.on_device(x) else x


def memory() -> int:
    """Bytes of the device's memory."""
    return int(device.cupy().cuda.Device().mem_info[1])


AGAIN = 16 << 20
"""Bytes of a result that its backward makes again: below, the write costs more than the memory is worth."""
ARRAYS = Arrays(to_device, to_host, CudaQTensor, memory, True, arrays.wide, operand.operands, lines.BRANCH, True, AGAIN)
"""Of grade exact; grade fast makes numbers beside the codes."""


class CudaBackend(Backend):
    """Functions of CuPy arrays. Grade "fast" multiplies matrices by cuBLASLt, fuses attention and takes exponentials in float32; all else has the
    bits of grade exact."""

    def __init__(self, numerics: str = "fast") -> None:
        definitions = reference_ops("exact")
        table: dict[str, tuple[Callable[..., Any], Contract]] = {op: (f, Bits()) for op, f in KERNELS.items()}
        held = ARRAYS
        if numerics == "fast":
            table |= FAST
            held = replace(ARRAYS, operands=partial(operand.operands, numbers=True), both=True, unmade=True)
        super().__init__("cuda", numerics, [Kernel(op, f, definitions[op], contract) for op, (f, contract) in table.items()], held)

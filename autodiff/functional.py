"""The functions of tensors: `from lpref.autodiff import functional as F`. Plain ones, and fused ones whose backward is written by hand."""

from __future__ import annotations

from lpref.autodiff.fused.activation import gelu, relu, silu, swiglu, swiglu_packed
from lpref.autodiff.fused.attention import attention, attention_packed
from lpref.autodiff.fused.linear import conv2d, linear
from lpref.autodiff.fused.loss import softmax_cross_entropy
from lpref.autodiff.fused.norm import layernorm, rmsnorm
from lpref.autodiff.fused.operation import embedding, product, residual_add, residual_split
from lpref.autodiff.fused.residual import add_layernorm, add_rmsnorm
from lpref.autodiff.plain import (
    abs,
    add,
    broadcast_to,
    concat,
    cos,
    div,
    erf,
    exp,
    expand_dims,
    getitem,
    log,
    log_softmax,
    matmul,
    max,
    maximum,
    mean,
    mul,
    neg,
    pad,
    power,
    reshape,
    rope,
    rsqrt,
    sigmoid,
    sin,
    softmax,
    sqrt,
    squeeze,
    stack,
    stop_gradient,
    sub,
    sum,
    tanh,
    transpose,
    where,
    zeros_like,
)  # fmt: skip

__all__ = [
    "abs", "add", "add_layernorm", "add_rmsnorm", "attention", "attention_packed", "broadcast_to", "concat", "conv2d", "cos", "div", "embedding",
    "erf", "exp", "expand_dims", "gelu", "getitem", "layernorm", "linear", "log", "log_softmax", "matmul", "max", "maximum", "mean", "mul", "neg",
    "pad", "power", "product", "relu", "reshape", "residual_add", "residual_split", "rmsnorm", "rope", "rsqrt", "sigmoid", "silu", "sin",
    "softmax", "softmax_cross_entropy", "sqrt", "squeeze", "stack", "stop_gradient", "sub", "sum", "swiglu", "swiglu_packed", "tanh", "transpose",
    "where", "zeros_like",
]  # fmt: skip

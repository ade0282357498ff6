"""Layers that are not matrix products: norms, activations, loss, embedding, rotary embedding, im2col."""

from lpref.ref.nn.activation import (
    gelu,
    gelu_backward,
    relu,
    relu_backward,
    silu,
    silu_backward,
    swiglu,
    swiglu_backward,
    swiglu_packed,
    swiglu_packed_backward,
)
from lpref.ref.nn.conv import col2im, im2col
from lpref.ref.nn.embedding import embedding, embedding_backward
from lpref.ref.nn.loss import softmax_cross_entropy, softmax_cross_entropy_backward
from lpref.ref.nn.norm import (
    add_layernorm,
    add_layernorm_backward,
    add_rmsnorm,
    add_rmsnorm_backward,
    layernorm,
    layernorm_backward,
    rmsnorm,
    rmsnorm_backward,
)
from lpref.ref.nn.rope import rope, rope_backward, rope_tables

__all__ = [
    "add_layernorm", "add_layernorm_backward", "add_rmsnorm", "add_rmsnorm_backward",
    "col2im", "embedding", "embedding_backward", "gelu", "gelu_backward", "im2col", "layernorm", "layernorm_backward", "relu",
    "relu_backward", "rmsnorm", "rmsnorm_backward", "rope", "rope_backward", "rope_tables", "silu", "silu_backward",
    "softmax_cross_entropy", "softmax_cross_entropy_backward", "swiglu", "swiglu_backward", "swiglu_packed", "swiglu_packed_backward",
]  # fmt: skip

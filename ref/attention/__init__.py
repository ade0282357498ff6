"""Attention: one dense oracle, and its form on packed projections."""

from lpref.ref.attention.dense import attention, attention_backward
from lpref.ref.attention.packed import attention_packed, attention_packed_backward

__all__ = ["attention", "attention_backward", "attention_packed", "attention_packed_backward"]

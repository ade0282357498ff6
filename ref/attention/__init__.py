"""Attention: one dense oracle."""

from lpref.ref.attention.dense import attention, attention_backward

__all__ = ["attention", "attention_backward"]

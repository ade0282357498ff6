"""Cases of attention for the fused kernels, backward from logarithms: see `kernel_cases`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from kernel_draw import Draw

from lpref.ref.attention import attention, attention_backward, attention_packed, attention_packed_backward
from lpref.ref.attention.dense import log_sums
from lpref.ref.attention.packed import split
from lpref.ref.nn.rope import rope_tables

SHAPES = [
    (1, 2, 1, 33, 40, 24, 24), (1, 1, 1, 1, 1, 1, 1), (0, 2, 1, 3, 3, 4, 4), (2, 4, 2, 17, 17, 5, 3), (1, 2, 2, 8, 70, 16, 32),
    (1, 1, 1, 130, 130, 32, 32),
]  # fmt: skip
"""B, Hq, Hkv, T, S, D, E"""
PACKED = [(2, 4, 2, 17, 8), (1, 2, 1, 65, 16), (1, 3, 1, 20, 32)]
"""B, H, G, T, D"""
OPERANDS = ("float32", "bfloat16")


def dense_heads(draw: Draw, backward: bool, shapes: Any = SHAPES) -> Iterator[tuple]:
    """Rows that are not contiguous, factors that cancel and that do not, one key that takes all, both operand types."""
    for i, (B, H, G, T, S, D, E) in enumerate(shapes):
        for causal in (True, False) if T <= S else (False,):
            q, k, v = draw(B, T, H, D).transpose(0, 2, 1, 3), draw(B, G, S, D), draw(B, G, S, E)
            do, scale = draw(B, T, H, E).transpose(0, 2, 1, 3), (0.3, -0.7, 4.0)[i % 3]
            yield _case(do, q, k, v, causal, scale, OPERANDS[i % 2], backward)
            yield _case(do, q, k, v, causal, None, OPERANDS[(i % 2) ^ (T > 100)], backward)
    q, k, v, do = draw(1, 1, 9, 16), draw(1, 1, 9, 16), draw(1, 1, 9, 16), draw(1, 1, 9, 16)
    for size in (1e-30, 1e-19, 1e18):
        yield _case(do, q * np.float32(size), k, v, True, 1.0, "float32", backward)
        yield _case(do * np.float32(size), q, k, v * np.float32(size), True, 1.0, "float32", backward)


def packed_heads(draw: Draw, backward: bool, shapes: Any = PACKED) -> Iterator[tuple]:
    """With and without rotation, by the kernels or beside them."""
    for i, (B, H, G, T, D) in enumerate(shapes):
        for rotary in (None, rope_tables(T, D)):
            qkv, do, operands, causal = draw(B * T, (H + 2 * G) * D), draw(B * T, H * D), OPERANDS[i % 2], i % 3 != 2
            options = (B, H, G, rotary, causal, None, operands)
            if backward:
                saved = log_sums(*split("", qkv, B, H, G, rotary)[:2], causal).astype(np.float32)
                yield (do, qkv, attention_packed(qkv, *options)[0], saved, *options)
            else:
                yield (qkv, *options)


def _case(do: Any, q: Any, k: Any, v: Any, causal: bool, scale: float | None, operands: str, backward: bool) -> tuple:
    with np.errstate(all="ignore"):
        if not backward:
            return q, k, v, causal, scale, operands
        return do, q, k, v, attention(q, k, v, causal, scale)[0], log_sums(q, k, causal, scale).astype(np.float32), causal, scale, operands


CASES: dict[str, Any] = {
    "attention": lambda draw: dense_heads(draw, False), "attention_backward": lambda draw: dense_heads(draw, True),
    "attention_packed": lambda draw: packed_heads(draw, False), "attention_packed_backward": lambda draw: packed_heads(draw, True),
}  # fmt: skip
DEFINITIONS = {f.__name__: f for f in (attention, attention_backward, attention_packed, attention_packed_backward)}

"""Packed attention is dense attention on other addresses: the same bits, head by head."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.attention import attention, attention_backward, attention_packed, attention_packed_backward
from lpref.ref.errors import ShapeError
from lpref.ref.nn import rope, rope_backward, rope_tables

B, H, G, T, D = 2, 4, 2, 5, 6


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def head(x: np.ndarray, b: int, h: int) -> np.ndarray:
    """Head h of batch b: [1, 1, T, D]."""
    return np.ascontiguousarray(x[b * T : (b + 1) * T, h * D : (h + 1) * D])[None, None]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rotated", [True, False])
def test_every_head_is_dense_attention(causal, rotated) -> None:
    qkv, do = draw(B * T, (H + 2 * G) * D), draw(B * T, H * D, seed=1)
    tables = rope_tables(T, D) if rotated else None
    turn, back = (lambda x: rope(x, *tables), lambda x: rope_backward(x, *tables)) if rotated else (lambda x: x, lambda x: x)
    o, probs = attention_packed(qkv, B, H, G, tables, causal, 0.4)
    d = attention_packed_backward(do, qkv, o, probs, B, H, G, tables, causal, 0.4)
    for b in range(B):
        for g in range(G):
            k, v = turn(head(qkv, b, H + g)), head(qkv, b, H + G + g)
            dk, dv = None, None
            for h in range(2 * g, 2 * g + 2):
                q = turn(head(qkv, b, h))
                one, p = attention(q, k, v, causal, 0.4)
                np.testing.assert_array_equal(head(o, b, h), one)
                np.testing.assert_array_equal(probs[b, h], p[0, 0])
                dq, more_k, more_v = attention_backward(head(do, b, h), q, k, v, one, p, causal, 0.4)
                np.testing.assert_array_equal(head(d, b, h), back(dq))
                dk, dv = (more_k, more_v) if dk is None else (dk + more_k, dv + more_v)
            np.testing.assert_array_equal(head(d, b, H + g), back(dk))
            np.testing.assert_array_equal(head(d, b, H + G + g), dv)


def test_the_default_scale_is_one_over_the_root_of_the_head_width() -> None:
    qkv = draw(B * T, (H + 2 * G) * D)
    np.testing.assert_array_equal(attention_packed(qkv, B, H, G)[0], attention_packed(qkv, B, H, G, scale=D**-0.5)[0])


@pytest.mark.parametrize(
    ("shape", "options"),
    [((10, 47), (2, 4, 2)), ((9, 48), (2, 4, 2)), ((10, 48), (2, 3, 2)), ((10, 48), (0, 4, 2)), ((0, 48), (2, 4, 2)),
     ((10, 48), (2, 4, 2, rope_tables(4, 6))), ((10, 40), (2, 4, 2, rope_tables(5, 4)))],
)  # fmt: skip
def test_shapes_that_do_not_fit(shape, options) -> None:
    with pytest.raises(ShapeError):
        attention_packed(np.ones(shape, np.float32), *options)


def test_a_gradient_of_another_shape() -> None:
    qkv = draw(B * T, (H + 2 * G) * D)
    with pytest.raises(ShapeError, match="do is"):
        attention_packed_backward(draw(B * T, D), qkv, *attention_packed(qkv, B, H, G), B, H, G)

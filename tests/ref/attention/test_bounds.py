"""The bound of attention: other orders and online softmax keep it, mistakes do not; and the comparison that uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from lpref.conformance.diff.others import compare_attention, noise
from lpref.conformance.targets.base import AttentionCase, Case
from lpref.conformance.targets.client import Session
from lpref.ref.attention.bounds import attention_bound
from lpref.ref.attention.dense import attention

f32 = np.float32


def online(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool = True, scale: float | None = None) -> np.ndarray:
    """Softmax with a running maximum, a key at a time, from the last key on, in float32."""
    group, T = q.shape[1] // k.shape[1], q.shape[2]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    c = f32(1 / np.sqrt(q.shape[-1]) if scale is None else scale)
    top = np.full((*q.shape[:3], 1), -np.inf, f32)
    total, out = np.zeros_like(top), np.zeros((*q.shape[:3], v.shape[-1]), f32)
    for j in reversed(range(k.shape[2])):
        s = (q[..., ::-1] * k[:, :, j : j + 1, ::-1]).sum(-1, keepdims=True, dtype=f32) * c
        s = np.where((np.arange(T) >= j - (k.shape[2] - T))[:, None] | (not causal), s, f32(-np.inf))
        new = np.maximum(top, s)
        safe = np.where(np.isfinite(new), new, f32(0))
        old, e = np.exp(np.where(np.isfinite(top), top - safe, f32(-np.inf))), np.exp(s - safe)
        total, out, top = total * old + e, out * old + e * v[:, :, j : j + 1], new
    return (out / total).astype(f32)


def drawn(heads: int, length: int, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    q, k, v = (noise(60 + i, (2, heads if i == 0 else 1, length, 16), 2) for i in range(3))
    return (q * size).astype(f32), (k * size).astype(f32), v.astype(f32)


@pytest.mark.parametrize("size", [0.1, 1.0, 6.0, 30.0])
@pytest.mark.parametrize("causal", [True, False])
def test_other_orders_keep_the_bound(size: float, causal: bool) -> None:
    q, k, v = drawn(3, 33, size)
    bound, want = attention_bound(None, q, k, v, causal)[0], attention(q, k, v, causal)[0].astype(float)
    exact = attention(*(x.astype(np.float64) for x in (q, k, v)), causal, float(f32(0.25)))[0]
    for other in (online(q, k, v, causal), exact, attention(q, k, v, causal, numerics="fast")[0]):
        assert (np.abs(other - want) <= bound).all()
    if size <= 1:
        assert bound.max() < 1e-3 * np.abs(want).max()  # it says something


@pytest.mark.parametrize("wrong", [
    lambda q, k, v: attention(q, k, v, True, 0.36)[0], lambda q, k, v: attention(q, k, v, False)[0],
    lambda q, k, v: attention(q.astype(np.float16).astype(f32), k, v, True)[0], lambda q, k, v: attention(q, k, v[:, :, ::-1], True)[0],
])  # fmt: skip
def test_mistakes_do_not(wrong: Callable[..., np.ndarray]) -> None:
    q, k, v = drawn(3, 33, 1.0)
    assert (np.abs(wrong(q, k, v).astype(float) - attention(q, k, v, True)[0]) > attention_bound(None, q, k, v, True)[0]).any()


class InProcess(Session):
    def __init__(self, function: Callable[..., np.ndarray]) -> None:
        super().__init__("mine.py:attention")
        self.function = function

    def ask(self, case: Case, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"o": self.function(arrays["q"], arrays["k"], arrays["v"])}


def test_the_comparison_accepts_other_orders_and_nothing_else() -> None:
    with InProcess(online) as session:
        report = compare_attention(session, "", AttentionCase())
    assert report.good
    assert {c.result for c in report.cells} <= {"within the bound"}
    with InProcess(lambda q, k, v: attention(q, k, v, False)[0]) as session:
        assert compare_attention(session, "", AttentionCase()).status == "unexplained"

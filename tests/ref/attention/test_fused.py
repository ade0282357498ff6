"""The bounds of fused attention: bfloat16 terms and cut sums keep them, also the definition from logarithms; mistakes do not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from lpref.ref.attention.dense import attention, attention_backward, log_sums
from lpref.ref.attention.fused import (
    backward_bound,
    forward_bound,
    packed_backward_bound,
    packed_forward_bound,
    packed_restated,
    restated,
)
from lpref.ref.attention.packed import attention_packed, attention_packed_backward, split
from lpref.ref.errors import ShapeError, UnknownNameError
from lpref.ref.formats import format as named
from lpref.ref.nn.rope import rope_tables

f32, real = np.float32, np.float64
BF16 = named("bfloat16")


def rounded(x: np.ndarray) -> np.ndarray:
    return BF16.round(x.astype(f32)).astype(real)


def cut(x: np.ndarray) -> np.ndarray:
    """Toward zero, to 21 bits: worse than a matrix unit."""
    m, e = np.frexp(x)
    return np.ldexp(np.trunc(m * 2.0**21), e - 21)


def unit(a: np.ndarray, b: np.ndarray, terms: int) -> np.ndarray:
    """a b in `terms` products of bfloat16 numbers, 16 of the sum at a time, cut after each."""
    a, b = (np.asarray(x, f32) for x in (a, b))
    h, g = rounded(a), rounded(b)
    pairs = [(h, g), (rounded(a - h), g), (h, rounded(b - g))][: terms if terms == 3 else 1]
    total = np.zeros((*a.shape[:-1], b.shape[-1]))
    for k in range(0, a.shape[-1], 16):
        for left, right in pairs:
            total = cut(total + left[..., k : k + 16] @ right[..., k : k + 16, :])
    return total.astype(f32)


def fused(q, k, v, do, causal, scale, terms, product: Callable[..., np.ndarray] | None = None) -> tuple:
    """(o, logarithms, dq, dk, dv) of one head a key head in float32, products by `unit`."""
    times = partial(unit, terms=terms) if product is None else product
    c = f32(scale * np.log2(np.e))
    s = times(q * c, k.swapaxes(-1, -2))
    seen = np.arange(k.shape[2])[None] <= np.arange(q.shape[2])[:, None] + k.shape[2] - q.shape[2] if causal else True
    s = np.where(seen, s, f32(-np.inf))
    top = s.max(-1, keepdims=True)
    e = np.exp2(s - top)
    total = e.sum(-1, keepdims=True, dtype=f32)
    o, logs = times(e, v) / total, (top + np.log2(total))[..., 0]
    p = np.exp2(s - logs[..., None])
    ds = p * (times(do, v.swapaxes(-1, -2)) - (do * o).sum(-1, keepdims=True, dtype=f32))
    turned = ds.swapaxes(-1, -2), p.swapaxes(-1, -2)
    return o, logs, times(ds, k) * f32(scale), times(turned[0], q * c) * f32(scale / c), times(turned[1], do)


def drawn(T: int, S: int, D: int, size: float) -> tuple[np.ndarray, ...]:
    source = np.random.default_rng(T + S)
    q, k, v, do = (source.standard_normal((2, 1, n, D)).astype(f32) for n in (T, S, S, T))
    return q * f32(size), k, v, do


def inside(made: tuple, want: tuple, bounds: tuple) -> list[bool]:
    return [bool((np.abs(m.astype(real) - w) <= b).all()) for m, w, b in zip(made, want, bounds, strict=True)]


@pytest.mark.parametrize("operands", ["float32", "bfloat16"])
@pytest.mark.parametrize(("T", "S", "D", "size"), [(1, 1, 3, 1.0), (33, 33, 16, 0.1), (20, 40, 48, 1.0), (64, 64, 32, 8.0)])
@pytest.mark.parametrize("causal", [True, False])
def test_terms_and_cut_sums_keep_the_bounds(operands: str, T: int, S: int, D: int, size: float, causal: bool) -> None:
    q, k, v, do = drawn(T, S, D, size)
    scale, terms = 0.25, 3 if operands == "float32" else 1
    o, logs, *grads = fused(q, k, v, do, causal, scale, terms)
    wide = [x.astype(real) for x in (q, k, v, do)]
    want = restated(attention(*wide[:3], causal, scale), (o, logs), *wide[:3], causal, scale)
    bounds = forward_bound(want, q, k, v, causal, scale, operands)
    assert inside((o, logs), want, bounds) == [True] * 2
    args = (q, k, v, o, logs, causal, scale)
    want = attention_backward(wide[3], *wide[:3], o.astype(real), logs.astype(real), causal, scale)
    bounds = backward_bound(None, do, *args, operands)
    assert inside(tuple(grads), want, bounds) == [True] * 3
    assert inside(attention_backward(do, *args), want, bounds) == [True] * 3, "the definition, in float32"
    if size <= 1 and T > 1:
        assert all(b.max() < (1e-2 if terms == 3 else 2) * np.abs(w).max() for b, w in zip(bounds, want, strict=True)), "it says something"


def test_mistakes_do_not() -> None:
    q, k, v, do = drawn(20, 40, 48, 1.0)
    want = attention(q, k, v, True, 0.25)
    o, logs, *_ = fused(q, k, v, do, True, 0.25, 3)
    coarse = fused(q, k, v, do, True, 0.25, 1)
    bounds = forward_bound(restated(want, (o, logs), q, k, v, True, 0.25), q, k, v, True, 0.25)
    assert inside((o, logs), restated(want, (o, logs), q, k, v, True, 0.25), bounds) == [True, True]
    for wrong in (fused(q, k, v, do, False, 0.25, 3), fused(q, k, v, do, True, 0.26, 3), fused(q, k, v[:, :, ::-1], do, True, 0.25, 3)):
        assert inside(wrong[:2], restated(want, (o, logs), q, k, v, True, 0.25), bounds)[0] is False
    args = (do, q, k, v, o, logs, True, 0.25)
    want = attention_backward(*args)
    assert inside(coarse[2:], want, backward_bound(None, *args)) == [False] * 3
    assert not inside((want[0] * f32(1.02), want[1], want[2]), want, backward_bound(None, *args))[0]


@pytest.mark.parametrize("rotated", [True, False])
def test_packed_is_the_same_by_other_addresses(rotated: bool) -> None:
    B, H, G, T, D = 2, 2, 2, 9, 6
    qkv = np.random.default_rng(3).standard_normal((B * T, (H + 2 * G) * D)).astype(f32)
    do, options = qkv[:, : H * D][::-1], (B, H, G, rope_tables(T, D) if rotated else None, True, 0.3)
    q, k, v = split("", qkv, *options[:4])
    o, logs, *_ = fused(q, k, v, np.zeros_like(q), True, 0.3, 3)
    o = o.transpose(0, 2, 1, 3).reshape(B * T, H * D)
    want = packed_restated(attention_packed(qkv, *options), (o, logs), qkv, *options)
    assert inside((o, logs), want, packed_forward_bound(want, qkv, *options)) == [True, True]
    probs = attention_packed(qkv, *options)[1]
    want = attention_packed_backward(do, qkv, o, probs, *options)
    from_logs = attention_packed_backward(do, qkv, o, logs, *options)
    assert (np.abs(from_logs - want) <= packed_backward_bound(want, do, qkv, o, logs, *options)).all()


def test_saved_probabilities_keep_their_own_bound() -> None:
    q, k, v, do = drawn(5, 5, 4, 1.0)
    o, probs = attention(q, k, v)
    assert restated((o, probs), (o, probs), q, k, v)[1] is probs
    assert (forward_bound((o, probs), q, k, v)[1] < 1e-4).all()
    assert all((b < 1e-3).all() for b in backward_bound(None, do, q, k, v, o, probs))


def test_logarithms() -> None:
    q, k, v, _ = drawn(6, 7, 4, 2.0)
    s = np.where(np.arange(7)[None] <= np.arange(6)[:, None] + 1, 0.5 * (q.astype(real) @ k.swapaxes(-1, -2).astype(real)), -np.inf)
    np.testing.assert_allclose(log_sums(q, k), np.log2(np.exp(s).sum(-1)), rtol=1e-13)
    probs = attention(q, k, v)[1]
    np.testing.assert_allclose(probs, np.exp2(s * np.log2(np.e) - log_sums(q, k)[..., None]), atol=1e-6)


def test_errors() -> None:
    q, k, v, do = drawn(3, 3, 4, 1.0)
    o, probs = attention(q, k, v)
    with pytest.raises(UnknownNameError, match="bfloat17"):
        attention(q, k, v, operands="bfloat17")
    with pytest.raises(UnknownNameError, match="most"):
        attention(q, k, v, keep="most")
    with pytest.raises(ShapeError, match="saved"):
        attention_backward(do, q, k, v, o, probs[..., :2])

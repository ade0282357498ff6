"""Dense attention of CuPy arrays: the page of `lpref.ref.attention.dense` with its bits, or, `fused`, of grade fast (`flash`).

In grade exact every product is the exact one (`product`), on heads where they lie; between them one kernel takes the rows of scores to
probabilities (which are kept anyway, so the scores need no memory of their own), and backward one takes dp to ds. Causality leaves out tiles
of scores above the diagonal, and of the other products what multiplies a masked probability, wherever that is +-0 added to a sum
(kernels/product.cu): the greatest magnitudes decide, measured on the device, nothing waits for them. Grade fast takes this way where the
fused kernels have none: for heads wider than `flash.WIDEST`, and for probabilities that the caller wants or has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, feed, flash
from lpref.accel.cuda.measure import reach
from lpref.accel.cuda.product import WHOLE, Causal, Strided, product
from lpref.ref.attention.dense import check_heads, check_permissions, check_saved, default_scale

WARPS = 4
"""Rows of a block of threads."""


def attention(
    q: Any, k: Any, v: Any, causal: bool = True, scale: float | None = None, operands: str = "float32", keep: str = "least",
    *, fused: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """(o, probs): `lpref.ref.attention.attention`; `fused`: (o, logarithms of the sums), of grade fast."""
    check_heads("attention", q, k, v, causal)
    check_permissions("attention", operands, keep)
    fused = fused and keep == "least" and flash.serves(q, v)
    q, k, v = sources("attention", fused, q, k, v)
    o = device.cupy().empty(q.shape[:3] + v.shape[3:], np.float32)
    if fused:
        return o, flash.forward(q, k, v, o, causal, default_scale(q, scale), None, flash.TERMS[operands])
    return o, forward(q, k, v, o, causal, default_scale(q, scale), v)


def attention_backward(
    do: Any, q: Any, k: Any, v: Any, o: Any, saved: Any, causal: bool = True, scale: float | None = None, operands: str = "float32",
    *, fused: bool = False,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """(dq, dk, dv): `lpref.ref.attention.attention_backward` of saved probabilities; `fused`: or of logarithms, of grade fast."""
    op = "attention_backward"
    check_heads(op, q, k, v, causal)
    check_permissions(op, operands)
    check_saved(op, do, q, k, v, saved, logarithms=fused and flash.serves(q, v))
    arrays.shaped(op, do.shape, o=o)
    (do,), (q, k, v), (o, saved) = sources(op, saved.ndim == 3, do), sources(op, saved.ndim == 3, q, k, v), sources(op, False, o, saved)
    dq, dk, dv = (device.cupy().empty(x.shape, np.float32) for x in (q, k, v))
    if saved.ndim == 3:
        flash.backward(do, q, k, v, o, saved, causal, default_scale(q, scale), None, flash.TERMS[operands], (dq, dk, dv))
    else:
        backward(do, q, k, v, saved, causal, default_scale(q, scale), (dq, dk, dv))
    return dq, dk, dv


def sources(op: str, narrow: bool, *given: Any) -> list[Any]:
    """The arrays as the kernels read them: float32, or, where `narrow`, all as they are if all are bfloat16. Raises: BackendError."""
    if narrow and all(arrays.is_sixteen(x) for x in given):
        return list(given)
    made = [arrays.wide(x) for x in given]
    arrays.check(op, *made)
    return made


def forward(q: Any, k: Any, v: Any, o: Any, causal: bool, scale: float, reached: Any) -> Any:
    """The probabilities; the result goes to o [B, H, T, E], whose last axis is contiguous. reached: an array that holds all of v."""
    cp, (B, H, T, D), (G, S), E = device.cupy(), q.shape, k.shape[1:3], v.shape[3]
    probs, group = cp.empty((B, H, T, S), np.float32), H // G
    if not probs.size:
        return probs
    until = Causal(2, S - T, _may([reached], -1, scale)) if causal else WHOLE
    product(probs, _steps(probs), _side(q), _side(k, group), (T, S, D), B, H, Causal(1, S - T) if causal else WHOLE)
    run = device.function("attention", "softmax", (("LP_SLOTS", _slots(S)),))
    run((-(-B * H * T // WARPS),), (32 * WARPS,), (probs, B * H * T, *(np.int32(n) for n in (T, S, causal)), np.float32(scale)))
    product(o, _steps(o), _side(probs), _side(v, group, turned=True), (T, E, S), B, H, until)
    return probs


def backward(
    do: Any, q: Any, k: Any, v: Any, probs: Any, causal: bool, scale: float, out: tuple[Any, Any, Any],
) -> None:  # fmt: skip
    """Gradients to out = dq, dk, dv, of the shapes of q, k, v, whose last axes are contiguous."""
    cp, (B, H, T, D), (G, S), E = device.cupy(), q.shape, k.shape[1:3], v.shape[3]
    (dq, dk, dv), group, probs = out, H // G, cp.ascontiguousarray(probs)
    if not dq.size:
        return
    may = _may([do, q, k, v, probs], E, scale) if causal else _never()
    above, until, since = (Causal(part, S - T, may) if causal else WHOLE for part in (1, 2, 3))  # of products over scores, keys, queries
    ds = cp.empty(probs.shape, np.float32)
    product(ds, _steps(ds), _side(do), _side(v, group), (T, S, E), B, H, above)
    run = device.function("attention", "score_gradient", (("LP_SLOTS", _slots(S)),))
    run((-(-B * H * T // WARPS),), (32 * WARPS,), (ds, probs, B * H * T, np.int32(T), np.int32(S), may, np.float32(scale)))
    product(dq, _steps(dq), _side(ds), _side(k, group, turned=True), (T, D, S), B, H, until)
    for d, left, right, wide in ((dv, probs, do, E), (dk, ds, q, D)):
        target = d if group == 1 else cp.empty((B, H, S, wide), np.float32)
        product(target, _steps(target), _side(left, turned=True), _side(right, turned=True), (S, wide, T), B, H, since)
        if group > 1:
            _gather(target, group, d)


def _gather(parts: Any, group: int, d: Any) -> None:
    """d [B, G, S, D] <- parts [B, G group, S, D], the heads of a group added in ascending order."""
    cp, (B, G, S, D) = device.cupy(), d.shape
    out = d if d.flags.c_contiguous else cp.empty(d.shape, np.float32)
    run = device.function("attention", "gather", (("LP_SLOTS", 1),))
    run((device.blocks_for(out.size),), (device.THREADS,), (parts, B * G, np.int32(group), S * D, out))
    if out is not d:
        d[...] = out


def _side(x: Any, group: int = 1, turned: bool = False) -> Strided:
    """x [B, heads, outer, k] as a side of products, or turned: [B, heads, k, outer]."""
    batch, head, outer, inner = (s // 4 for s in x.strides)
    return Strided(x, *((inner, outer) if turned else (outer, inner)), batch, head, group)


def _steps(x: Any) -> tuple[int, int, int]:
    """Numbers from one batch, head and row to the next."""
    return tuple(s // 4 for s in x.strides[:3])  # type: ignore[return-value]


def _slots(S: int) -> int:
    """LP_SLOTS for rows of S numbers."""
    return min(32, 1 << (-(-S // 32) - 1).bit_length())


@feed.lasting
def _never() -> Any:
    return device.cupy().zeros(1, np.int32)


def _may(factors: list[Any], E: int, scale: float) -> Any:
    """Whether masked products may be left out, one int32 on the device."""
    cp = device.cupy()
    found, out = cp.zeros(len(factors), np.uint32), cp.empty(1, np.int32)
    for i, array in enumerate(factors):
        reach(cp.ascontiguousarray(array), 0, found[i : i + 1])
    device.function("attention", "may_skip", (("LP_SLOTS", 1),))((1,), (1,), (found, np.int32(E), np.float32(scale), out))
    return out

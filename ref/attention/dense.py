"""The attention oracle: dense softmax attention, forward and backward, with grouped key/value heads.

Every score is formed and every probability kept: [B, Hq, T, S] is saved for the backward. At the sizes of a reference that is
cheap, and it spares the second Q Kᵀ and the second exp (a float64 sequence, N4) that saving (max, sum) would cost.

Source: arXiv:1706.03762 eq. 1; grouped heads arXiv:2305.13245. Source level: secondary.
"""

from __future__ import annotations

import numpy as np

from lpref.ref.elementary import exp
from lpref.ref.errors import ShapeError
from lpref.ref.linalg import matmul
from lpref.ref.reduce import tree_sum


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool = True, scale: float | None = None, *, numerics: str = "exact"
) -> tuple[np.ndarray, np.ndarray]:
    r"""o = softmax(scale · q kᵀ + mask) v.

    q [B, Hq, T, D], k and v [B, Hkv, S, D], Hq a multiple of Hkv: query head h reads key head h // (Hq / Hkv).
    scale: default 1/√D, rounded to the dtype. causal: query i sees keys j ≤ i + (S − T) (the queries are the last T positions),
    S ≥ T, so no row is fully masked. -> o [B, Hq, T, D], probs [B, Hq, T, S] (+0 where masked).

    Order: ``s = matmul(q, kᵀ) · scale``, masked s = −inf, ``e = exp(s − max)``, ``probs = e / tree_sum(e)``, ``o = matmul(probs, v)``.
    NaN or infinity in k or v reaches every query of its head, also those that it is masked for (probability 0 times inf is NaN).
    """
    group = check_heads("attention", q, k, v, causal)
    real = q.dtype.type
    keys, values = _repeat(k, group), _repeat(v, group)
    s = matmul(q, keys.swapaxes(-1, -2), numerics=numerics) * real(default_scale(q, scale))
    if causal:
        s = np.where(causal_mask(q.shape[2], k.shape[2]), s, real(-np.inf))
    e = exp(s - np.max(s, axis=-1, keepdims=True))
    probs = e / tree_sum(e, axis=-1, keepdims=True)
    return matmul(probs, values, numerics=numerics), probs


def attention_backward(
    do: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, o: np.ndarray, probs: np.ndarray,
    causal: bool = True, scale: float | None = None, *, numerics: str = "exact",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    r"""(dq, dk, dv) of `attention`. `o` is not used by this definition (δ comes from the probabilities), others need it.

    Order: ``dv = matmul(probsᵀ, do)``, ``dp = matmul(do, vᵀ)``, ``δ = tree_sum(dp · probs)``,
    ``ds = (probs · (dp − δ)) · scale``, ``dq = matmul(ds, k)``, ``dk = matmul(dsᵀ, q)``.
    Grouped heads: dk and dv are formed per query head and added in ascending head order.
    """
    group = check_heads("attention_backward", q, k, v, causal)
    if do.shape != q.shape[:3] + v.shape[3:] or probs.shape != q.shape[:3] + k.shape[2:3]:
        raise ShapeError(f"do is {do.shape}, probs {probs.shape}, q {q.shape}, k {k.shape}", where="attention_backward")
    keys, values = _repeat(k, group), _repeat(v, group)
    dv = matmul(probs.swapaxes(-1, -2), do, numerics=numerics)
    dp = matmul(do, values.swapaxes(-1, -2), numerics=numerics)
    delta = tree_sum(dp * probs, axis=-1, keepdims=True)
    ds = (probs * (dp - delta)) * q.dtype.type(default_scale(q, scale))
    dq = matmul(ds, keys, numerics=numerics)
    dk = matmul(ds.swapaxes(-1, -2), q, numerics=numerics)
    return dq, _gather(dk, group), _gather(dv, group)


def causal_mask(T: int, S: int) -> np.ndarray:
    """bool [T, S], True where query i (at position i + S − T) sees key j.

    >>> causal_mask(2, 3).astype(int).tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    return np.arange(S)[None, :] <= np.arange(T)[:, None] + (S - T)


def default_scale(q: np.ndarray, scale: float | None) -> float:
    """`scale`, or 1/√D of q [..., D] as a float64."""
    return 1.0 / q.shape[-1] ** 0.5 if scale is None else float(scale)


def check_heads(op: str, q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool) -> int:
    """The number of query heads per key head; ShapeError where shapes or the causal mask do not fit."""
    fits = q.ndim == k.ndim == v.ndim == 4 and q.shape[0] == k.shape[0] and q.shape[3] == k.shape[3] and k.shape[:3] == v.shape[:3]
    if not fits or k.shape[1] == 0 or q.shape[1] % k.shape[1] or 0 in (q.shape[2], k.shape[2], q.shape[3]):
        raise ShapeError(f"q is {q.shape}, k {k.shape}, v {v.shape}; needed [B, Hq, T, D], [B, Hkv, S, D] twice, Hkv dividing Hq", where=op)
    if causal and k.shape[2] < q.shape[2]:
        raise ShapeError(f"{q.shape[2]} queries, {k.shape[2]} keys: the first rows of the causal mask would be empty", where=op)
    return q.shape[1] // k.shape[1]


def _repeat(x: np.ndarray, group: int) -> np.ndarray:
    return x if group == 1 else np.repeat(x, group, axis=1)


def _gather(d: np.ndarray, group: int) -> np.ndarray:
    if group == 1:
        return d
    B, H, S, D = d.shape
    heads = d.reshape(B, H // group, group, S, D)
    total = heads[:, :, 0].copy()
    for g in range(1, group):
        total += heads[:, :, g]
    return total

"""The attention oracle: dense softmax attention, forward and backward, with grouped key/value heads.

Every score is formed and every probability kept: [B, Hq, T, S] is saved for the backward. At the sizes of a reference that is
cheap, and it spares the second Q Kᵀ and the second exp (a float64 sequence, N4) that saving (max, sum) would cost. A backend of grade fast
may save less: the logarithms of the sums, `log_sums`, from which its backward, and this one, make the probabilities anew.

Source: arXiv:1706.03762 eq. 1; grouped heads arXiv:2305.13245; saved logarithms arXiv:2307.08691, algorithm 2. Source level: secondary.
"""

from __future__ import annotations

import numpy as np

from lpref.ref.elementary import exp, exp2, log2
from lpref.ref.errors import ShapeError, UnknownNameError
from lpref.ref.linalg import matmul
from lpref.ref.reduce import tree_sum

OPERANDS = ("float32", "bfloat16")
"""What the factors of products may be rounded to."""
KEEP = ("least", "probabilities")
"""What a forward may save."""
LOG2E = 1.4426950408889634


def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool = True, scale: float | None = None, operands: str = "float32",
    keep: str = "least", *, numerics: str = "exact",
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    r"""o = softmax(scale · q kᵀ + mask) v.

    q [B, Hq, T, D], k and v [B, Hkv, S, D], Hq a multiple of Hkv: query head h reads key head h // (Hq / Hkv).
    scale: default 1/√D, rounded to the dtype. causal: query i sees keys j ≤ i + (S − T) (the queries are the last T positions),
    S ≥ T, so no row is fully masked. -> o [B, Hq, T, D], probs [B, Hq, T, S] (+0 where masked).
    operands: a permission, to what a backend of grade fast may round the factors of its products; the definition, and grade exact, rounds none.
    keep: "probabilities" of a caller who wants those, "least" where a backend of grade fast may save what is smaller.

    Order: ``s = matmul(q, kᵀ) · scale``, masked s = −inf, ``e = exp(s − max)``, ``probs = e / tree_sum(e)``, ``o = matmul(probs, v)``.
    NaN or infinity in k or v reaches every query of its head, also those that it is masked for (probability 0 times inf is NaN).
    """
    group = check_heads("attention", q, k, v, causal)
    check_permissions("attention", operands, keep)
    keys, values = _repeat(k, group), _repeat(v, group)
    s = _scores(q, keys, causal, scale, numerics)
    e = exp(s - np.max(s, axis=-1, keepdims=True))
    probs = e / tree_sum(e, axis=-1, keepdims=True)
    return matmul(probs, values, numerics=numerics), probs


def attention_backward(
    do: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, o: np.ndarray, saved: np.ndarray,
    causal: bool = True, scale: float | None = None, operands: str = "float32", *, numerics: str = "exact",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    r"""(dq, dk, dv) of `attention`. `o` is not used by this definition (δ comes from the probabilities), others need it.

    saved: the probabilities, or `log_sums` [B, Hq, T], of which ``probs = exp2(s · log2 e − log_sums)``, +0 where masked.

    Order: ``dv = matmul(probsᵀ, do)``, ``dp = matmul(do, vᵀ)``, ``δ = tree_sum(dp · probs)``,
    ``ds = (probs · (dp − δ)) · scale``, ``dq = matmul(ds, k)``, ``dk = matmul(dsᵀ, q)``.
    Grouped heads: dk and dv are formed per query head and added in ascending head order.
    """
    group = check_heads("attention_backward", q, k, v, causal)
    check_permissions("attention_backward", operands)
    check_saved("attention_backward", do, q, k, v, saved)
    keys, values = _repeat(k, group), _repeat(v, group)
    probs = saved if saved.ndim == 4 else _probabilities(_scores(q, keys, causal, scale, numerics), saved)
    dv = matmul(probs.swapaxes(-1, -2), do, numerics=numerics)
    dp = matmul(do, values.swapaxes(-1, -2), numerics=numerics)
    delta = tree_sum(dp * probs, axis=-1, keepdims=True)
    ds = (probs * (dp - delta)) * q.dtype.type(default_scale(q, scale))
    dq = matmul(ds, keys, numerics=numerics)
    dk = matmul(ds.swapaxes(-1, -2), q, numerics=numerics)
    return dq, _gather(dk, group), _gather(dv, group)


def log_sums(q: np.ndarray, k: np.ndarray, causal: bool = True, scale: float | None = None) -> np.ndarray:
    """log2 Σ_j exp(s_ij) of the scaled scores, [B, Hq, T], in float64: what a forward may save in place of the probabilities."""
    s = _scores(q.astype(np.float64), _repeat(k, q.shape[1] // k.shape[1]).astype(np.float64), causal, scale, "fast")
    top = np.max(s, axis=-1, initial=-np.inf)
    return top * LOG2E + log2(tree_sum(exp(s - top[..., None]), axis=-1))


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


def check_saved(op: str, do: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, saved: np.ndarray, logarithms: bool = True) -> None:
    """ShapeError where do, or what the forward saved, does not fit; logarithms: whether `log_sums` will do."""
    fits = saved.shape == q.shape[:3] + k.shape[2:3] or (logarithms and saved.shape == q.shape[:3])
    if do.shape != q.shape[:3] + v.shape[3:] or not fits:
        wanted = "[B, Hq, T, S] probabilities" + (" or [B, Hq, T] logarithms" if logarithms else "")
        raise ShapeError(f"do is {do.shape}, saved {saved.shape}, q {q.shape}, k {k.shape}; needed {wanted}", where=op)


def check_permissions(op: str, operands: str, keep: str = "least") -> None:
    """UnknownNameError for what operands cannot be rounded to, and for what is not kept."""
    if operands not in OPERANDS:
        raise UnknownNameError(f"operand type of {op}", operands, OPERANDS)
    if keep not in KEEP:
        raise UnknownNameError(f"saved form of {op}", keep, KEEP)


def _scores(q: np.ndarray, keys: np.ndarray, causal: bool, scale: float | None, numerics: str) -> np.ndarray:
    s = matmul(q, keys.swapaxes(-1, -2), numerics=numerics) * q.dtype.type(default_scale(q, scale))
    return np.where(causal_mask(q.shape[2], keys.shape[2]), s, q.dtype.type(-np.inf)) if causal else s


def _probabilities(s: np.ndarray, logs: np.ndarray) -> np.ndarray:
    return exp2(s * s.dtype.type(LOG2E) - logs[..., None])


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

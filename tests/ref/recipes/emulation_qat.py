"""Quantization-aware training once more, from the papers: plain NumPy, float32 where the rule rounds. Nothing of lpref is imported.

Each function returns the exact values (float64) of the six operands, keyed by slot, as `emulation` does. Learned parameters have their first values.
"""

from __future__ import annotations

import numpy as np

F = np.float32


def tree(x: np.ndarray) -> np.float32:
    """The defined sum of a vector: 1024 lanes, then halves."""
    lanes = np.zeros(1024, F)
    for i in range(0, x.size, 1024):
        part = x[i : i + 1024]
        lanes[: part.size] = lanes[: part.size] + part
    while lanes.size > 1:
        lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
    return F(lanes[0])


def mean(x: np.ndarray) -> np.float32:
    return F(tree(x.reshape(-1)) / F(x.size))


def rows(x: np.ndarray, function) -> np.ndarray:
    return np.stack([function(row) for row in x])


def hadamard(x: np.ndarray, n: int) -> np.ndarray:
    """Runs of n of the last axis, strides 1, 2, 4, ..., one multiplication at the end."""
    h = x.reshape(-1, n).astype(F).copy()
    stride = 1
    while stride < n:
        for i in range(n):
            if not i & stride:
                a, b = h[:, i].copy(), h[:, i + stride].copy()
                h[:, i], h[:, i + stride] = a + b, a - b
        stride *= 2
    return (h * F(1 / np.sqrt(n))).reshape(x.shape)


def fake(xq, wq, dy):
    """Both operands quantized forward, and their values multiplied backward."""
    back = xq.astype(F), wq.astype(F)  # dequantized to float32
    return {"fprop.a": xq, "fprop.b": wq, "dgrad.a": dy, "dgrad.b": back[1], "wgrad.a": dy, "wgrad.b": back[0]}


def integers(v: np.ndarray, s, low: float, high: float) -> np.ndarray:
    return np.clip(np.rint(v / F(s)), low, high).astype(np.float64) * float(F(s))


def first_step(v: np.ndarray, qp: float) -> np.float32:
    return mean(np.abs(v)) * F(2 / np.sqrt(qp))


def lsq(x, w, dy):
    return fake(integers(x, first_step(x, 7), -8, 7), integers(w, first_step(w, 7), -8, 7), dy)


def lsq_plus(x, w, dy):
    low, high = F(min(x.min(), 0)), F(max(x.max(), 0))
    s = (high - low) * F(1 / 15)
    codes = np.clip(np.rint((x - low) / s), 0, 15)
    values = (codes * float(s)).astype(F) + low
    return fake(values.astype(np.float64), integers(w, first_step(w, 7), -8, 7), dy)


def pact_sawb(x, w, dy):
    level = np.sqrt(mean(w * w)) * F(12.035) + mean(np.abs(w)) * F(-12.03)
    return fake(integers(x, F(10) / F(15), 0, 15), integers(w, level / F(7), -7, 7), dy)


def dsq(x, w, dy):
    return fake(*(integers(t, np.abs(t).max() / F(7), -7, 7) for t in (x, w)), dy)


def midrise(row: np.ndarray, a: float, top: int) -> np.ndarray:
    """Odd integers under s = (a RMS + 1e-8) / top; ties away from none of the drawn values."""
    s = (np.sqrt(mean(row * row)) * F(a) + F(1e-8)) / F(top)
    u = (row / s).astype(np.float64)
    odd = 2 * np.floor(u / 2) + 1
    return np.clip(odd, -top, top) * float(s)


def quest(a: float, top: int):
    def emulate(x, w, dy):
        return fake(*(rows(hadamard(t, 128), lambda r: midrise(r, a, top)) for t in (x, w)), dy)

    return emulate


def token(row: np.ndarray) -> np.ndarray:
    scale = F(127) / max(np.abs(row).max(), F(1e-5))
    return np.clip(np.rint(row * scale), -127, 127).astype(np.float64) * float(F(1) / scale)


def bitnet(x, w, dy):
    signs = np.where(w - mean(w) >= 0, 1.0, -1.0)
    return fake(token(x.reshape(-1)).reshape(x.shape), signs * float(mean(np.abs(w))), dy)


def ternary(w):
    s = max(mean(np.abs(w)), F(1e-5))
    return np.clip(np.rint(w * (F(1) / s)), -1, 1).astype(np.float64) * float(s)


def bfloat16(x: np.ndarray) -> np.ndarray:
    bits = x.view(np.uint32).astype(np.uint64)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).astype(np.uint32).view(F)


def trilm(x, w, dy):
    xb, db, t = bfloat16(x), bfloat16(dy), ternary(w)
    return {"fprop.a": xb, "fprop.b": t, "dgrad.a": db, "dgrad.b": t.astype(F), "wgrad.a": db, "wgrad.b": xb}


def edge(t: np.ndarray) -> np.ndarray:
    return integers(t, np.abs(t).max() / F(7.5), -7, 7)


def aqt(x, w, dy):
    xq, wq = edge(x), rows(w, edge)
    return {"fprop.a": xq, "fprop.b": wq, "dgrad.a": dy, "dgrad.b": wq, "wgrad.a": dy, "wgrad.b": xq}


def continual_qat(x, w, dy):
    xq, t = rows(x, token), ternary(w)
    return {"fprop.a": xq, "fprop.b": t, "dgrad.a": dy, "dgrad.b": t, "wgrad.a": dy, "wgrad.b": xq}


def compute_optimal_qat(x, w, dy):
    wq = rows(w, lambda r: integers(r, np.abs(r).max() / F(7), -7, 7))
    return {"fprop.a": x, "fprop.b": wq, "dgrad.a": dy, "dgrad.b": wq, "wgrad.a": dy, "wgrad.b": x}


EMULATIONS = {
    "lsq": lsq, "ewgs": lsq, "lsq_plus": lsq_plus, "pact_sawb": pact_sawb, "dsq": dsq, "quest": quest(2.513930578568423, 15),
    "quest_w1a1": quest(0.7978845587140913, 1), "bitnet": bitnet, "trilm": trilm, "aqt": aqt, "continual_qat": continual_qat,
    "compute_optimal_qat": compute_optimal_qat,
}  # fmt: skip


def two_eps(row: np.ndarray, top: int) -> np.ndarray:
    s = F(top) / (np.abs(row).max() + F(1e-6))
    return np.rint(row * s).astype(np.float64) * float(F(1) / (s + F(1e-6)))


def llm_qat(x, w, dy):
    return fake(rows(x, lambda r: two_eps(r, 127)), rows(w, lambda r: two_eps(r, 7)), dy)


def grouped(w: np.ndarray, size: int, function) -> np.ndarray:
    return rows(w, lambda r: np.concatenate([function(r[i : i + size]) for i in range(0, len(r), size)]))


def affine(v: np.ndarray, top: int, least: float, most: float) -> np.ndarray:
    low, high = min(v.min(), F(0)), max(v.max(), F(0))
    s = min(max((high - low) / F(top), F(least)), F(most))
    z = np.clip(np.rint(-low / s), 0, top)
    return (np.clip(np.rint(v / s) + z, 0, top) - z).astype(np.float64) * float(s)


def weights16(x, dy, wq):
    """bfloat16 GEMMs with a quantized weight."""
    xb, db = bfloat16(x), bfloat16(dy)
    return {"fprop.a": xb, "fprop.b": wq, "dgrad.a": db, "dgrad.b": wq.astype(F), "wgrad.a": db, "wgrad.b": xb}


def bitdistiller(x, w, dy):
    return weights16(x, dy, grouped(w, 64, lambda v: affine(v, 3, 3.3333333e-6, np.inf)))


def efficientqat(x, w, dy):
    return weights16(x, dy, grouped(w, 64, lambda v: affine(v, 15, 1e-4, 1e4)))


def l4q(x, w, dy):
    """B is zero at first, so is b; s clips nothing."""

    def one(v):
        s = max(min(v.min(), F(0)) * F(-1 / 8), max(v.max(), F(0)) * F(1 / 7))
        return (np.clip(np.rint(v / s), -8, 7).astype(np.float64) * float(s)).astype(F).astype(np.float64)  # to which b = 0 is added

    return weights16(x, dy, grouped(w, 128, one))


def apiq(x, w, dy):
    def one(v):
        s = tree(np.abs(v)) / F(v.size) * F(2)
        return np.clip(np.rint(v / s), -2, 1).astype(np.float64) * float(s)

    return weights16(x, dy, grouped(w, 64, one))


def double_rounding(x, w, dy):
    """D = 0."""
    low, high = F(min(x.min(), 0)), F(max(x.max(), 0))
    s = (high - low) * F(1 / 255)
    codes = np.clip(np.rint((x - low) / s), 0, 255)
    values = (codes * float(s)).astype(F) + low
    return fake(values.astype(np.float64), integers(w, first_step(w, 127), -128, 127), dy)


EMULATIONS |= {
    "llm_qat": llm_qat, "bitdistiller": bitdistiller, "efficientqat": efficientqat, "l4q": l4q, "apiq_sapr": apiq, "gaqat": lsq,
    "double_rounding": double_rounding,
}  # fmt: skip

"""Sums of GEMMs, binary recipes and their neighbours once more, from the cards: the operands of every product in order, exact values in float64.

Nothing here uses lpref's formats, scaling, quantizers, splits, sampling or mixing; words come from the addresses of `emulation`.
A recipe gives a list of (a, b), as [rows, columns] of the tensors themselves; the last pairs are those of wgrad.
"""

from __future__ import annotations

import math

import numpy as np

from . import emulation, emulation_qat
from .emulation import F, along, by_block, words

LEVELS = {
    "e2m1": [0, 0.5, 1, 1.5, 2, 3, 4, 6],
    "e3m0": [0, 0.25, 0.5, 1, 2, 4, 8, 16],
    "radix4": [0, *(4.0**e for e in range(-3, 4))],
    "radix4_odd": [0, *(2 * 4.0**e for e in range(-3, 4))],
}


def up_or_down(n: np.ndarray, word: np.ndarray | None, bits: int) -> np.ndarray:
    """A magnitude in steps: nearest even, or up where the fraction in r bits plus the word carries."""
    if word is None:
        return np.rint(n)
    return np.floor(n) + (np.floor((n - np.floor(n)) * 2.0**bits) + word >= 2**bits)


def symmetric(x: np.ndarray, bits: int, block, word=None, target: float | None = None) -> np.ndarray:
    """s = fl32(amax / qmax), code = clamp(round(fl32(x / s)))."""
    qmax, r = F(2 ** (bits - 1) - 1), 8 if bits <= 6 else 16

    def one(t, where):
        s = np.abs(t).max() / qmax
        n = np.abs((t / s).astype(np.float64))
        q = np.minimum(up_or_down(n, None if word is None else word[where], r), float(qmax))
        return np.copysign(q, t) * float(s)

    return by_block(x, *block, one)


def minmax(x: np.ndarray, n: int, block, word=None) -> np.ndarray:
    r = 8 if n <= 63 else 16

    def one(t, where):
        low, high = t.min(), t.max()
        s = F(n) / ((high - low) + F(2e-8))
        q = np.clip(up_or_down(((t - low) * s).astype(np.float64), None if word is None else word[where], r), 0, n)
        return (q.astype(F) / s + low).astype(np.float64)

    return by_block(x, *block, one)


def widened(x: np.ndarray, n: int, word=None) -> np.ndarray:
    """One scale, an integer zero point, the range widened to it."""
    lo, hi, n = min(x.min(), F(0)), max(x.max(), F(0)), F(n)
    s = (hi - lo) / n
    z = min(max(np.floor(-lo / s), F(1)), n - F(1))
    s = max(s, -lo / z, hi / (n - z))
    u = (x / s).astype(np.float64)
    q = np.copysign(up_or_down(np.abs(u), word, 16), u) + z
    return (np.clip(q, 0, n) - z) * float(s)


def tree(v: np.ndarray) -> np.ndarray:
    """The defined sum over the last axis (at most 1024 elements): halves are added until one is left."""
    size = 1 << max(v.shape[-1] - 1, 0).bit_length()
    v = np.concatenate([v, np.zeros((*v.shape[:-1], size - v.shape[-1]), v.dtype)], axis=-1)
    while v.shape[-1] > 1:
        v = v[..., : v.shape[-1] // 2] + v[..., v.shape[-1] // 2 :]
    return v[..., 0]


def sign(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, -1.0, 1.0)


def binary_connect_scale(k: int) -> float:
    return 2.0 ** -max(0, round(math.log2(1.5 / math.sqrt(3 / k))))


def on_levels(x: np.ndarray, levels: list[float], s: float, word=None) -> np.ndarray:
    """Magnitudes x / s on a code book: nearest (ties: to the larger), or stochastic between the neighbours."""
    u, grid = np.abs((x / F(s)).astype(np.float64)), np.array(levels, np.float64)
    i = np.clip(np.searchsorted(grid, u, side="right") - 1, 0, len(levels) - 2)
    low, high = grid[i], grid[i + 1]
    share = np.clip((u - low) / (high - low), 0, 1)
    up = share >= 0.5 if word is None else np.floor(share * 256) + word >= 256
    return np.copysign(np.where(up, high, low), x) * s


def statquant_ptq(x, w, dy):
    xq, wq = minmax(x, 255, x.shape), widened(w, 255)
    d, g = (widened(dy, 255, words(f"{gemm}/a/rounding", dy.shape, 16)) for gemm in ("dgrad", "wgrad"))
    return [(xq, wq), (d, wq), (g, xq)]


def by_sample(dy: np.ndarray, n: int) -> list[np.ndarray]:
    """By rows for dgrad, by columns for wgrad."""
    r = 8 if n <= 63 else 16
    blocks = {"dgrad": (1, dy.shape[1]), "wgrad": (dy.shape[0], 1)}
    return [minmax(dy, n, block, words(f"{gemm}/a/rounding", dy.shape, r)) for gemm, block in blocks.items()]


def statquant_psq(x, w, dy):
    (forward, *_), (d, g) = statquant_ptq(x, w, dy), by_sample(dy, 255)
    return [forward, (d, forward[1]), (g, forward[0])]


def householder(ranges: np.ndarray):
    """The published loop: (rows of a group with its leader first, s of the leader, s of the others) for every group."""
    order = sorted(range(len(ranges)), key=lambda i: (-ranges[i], i))
    v, count, small = [float(ranges[i]) for i in order], len(ranges), 0
    while True:
        small += 1
        large = count - small
        if large == 1 or small * v[large - 1] / sum(v[:large]) > 1:
            break
    found, at, taken = [], large, 0.0
    for i in range(large):
        taken += small * v[i] / sum(v[:large])
        end = large + math.floor(taken + 0.5)
        rows, n = [order[i], *order[at:end]], end - at + 1
        h = np.eye(n) - 2 * np.outer(u := (np.ones(n) / math.sqrt(n) - np.eye(n)[0]), u) / (u @ u)
        w1, w2 = v[i] / math.sqrt(n), v[at] * np.abs(h).max() / (n - 1)
        norm = math.sqrt(w1 ** (2 / 3) + w2 ** (2 / 3))
        found.append((rows, w1 ** (-1 / 3) * norm, w2 ** (-1 / 3) * norm))
        at = end
    return found


def halved(lanes: list) -> np.ndarray:
    """The sum of up to 1024 rows: again and again the upper half is added to the lower, which is a power of two."""
    while len(lanes) > 1:
        half = 1 << ((len(lanes) - 1).bit_length() - 1)
        lanes = [one + lanes[half + i] if half + i < len(lanes) else one for i, one in enumerate(lanes[:half])]
    return lanes[0] + F(0)


def reflected(u: np.ndarray, groups) -> np.ndarray:
    out = np.empty_like(u)
    for rows, *_ in groups:
        n, leader = len(rows), rows[0]
        rest = halved([u[row] for row in sorted(rows[1:])] or [np.zeros(u.shape[1], F)])
        root, share = F(1 / math.sqrt(n)), F(1 / (n - math.sqrt(n)))
        out[leader] = (u[leader] + rest) * root
        for row in rows[1:]:
            out[row] = u[row] + (u[leader] * root - rest * share)
    return out


def statquant_bhq(x, w, dy):
    pairs = statquant_psq(x, w, dy)
    groups = householder(dy.max(axis=1).astype(np.float64) - dy.min(axis=1) + 1e-8)
    s, back = np.empty((len(dy), 1), F), np.empty((len(dy), 1), F)
    for rows, first, others in groups:
        s[rows], back[rows] = F(others), F(1 / others)
        s[rows[0]], back[rows[0]] = F(first), F(1 / first)
    mixed = reflected(dy * s, groups)
    q = minmax(mixed, 255, (1, dy.shape[1]), words("dgrad/a/rounding", dy.shape, 16)).astype(F)
    return [pairs[0], (reflected(q, groups) * back, pairs[0][1]), pairs[2]]


def keep(scores: np.ndarray, share: float) -> np.ndarray:
    """p of int4 training: proportional, capped at 1, the rest rescaled; rounded up to 2^-24."""
    budget = share * scores.size
    p = scores * (budget / math.fsum(scores))
    while p.max() > 1:
        small = p < 1
        p = np.minimum(p, 1)
        p[small] *= (budget - (~small).sum()) / math.fsum(p[small])
    return np.minimum(np.ceil(p * 2.0**24) / 2.0**24, 1)


def int4_hq_lss(x, w, dy):
    """Steps of the test: 0.5 for X, 0.05 for W."""
    xq = emulation.lsq_values(along(x, 1, 32), 0.5)
    wq = emulation.lsq_values(along(w, 1, 32), 0.05)
    factor, found = F(127.5 / float(np.abs(dy).max())), []
    z = dy * factor
    hi = (14 * np.clip(np.rint(z / F(14)), -7, 7)).astype(F)
    for gemm in ("dgrad", "wgrad"):
        u = np.clip((z - hi).astype(np.float64), -7, 7)
        lo = np.copysign(up_or_down(np.abs(u), words(f"{gemm}/a/lo/rounding", z.shape, 8), 8), u)
        parts = [hi, lo.astype(F)]
        norm = lambda t: np.sqrt(tree(t * t)).astype(np.float64)  # noqa: E731
        other = norm(xq.astype(F)) if gemm == "wgrad" else 1.0
        p = keep(np.concatenate([norm(part) * other for part in parts]), 0.5).reshape(2, -1)
        word = [words(f"{gemm}/a/{part}/sampling", (len(z),), 32) >> 8 for part in ("hi", "lo")]
        rows = [np.flatnonzero(word[i] < p[i] * 2.0**24) for i in range(2)]
        stack = np.concatenate([parts[i][rows[i]] * (1 / p[i][rows[i]]).astype(F)[:, None] for i in range(2)])
        found.append((stack, wq if gemm == "dgrad" else xq[np.concatenate(rows)]))
    return [(xq, wq), *found]


def hlq(x, w, dy):
    d = symmetric(along(dy, 1, 16), 4, dy.shape, words("dgrad/a/rounding", dy.shape, 8))
    b = symmetric(along(w, 0, 16), 4, w.shape, words("dgrad/b/rounding", w.shape, 8))
    order = sorted(range(16), key=lambda k: sum((k & j).bit_count() % 2 != (k & (j + 1)).bit_count() % 2 for j in range(15)))
    low = [16 * block + k for block in range(len(x) // 16) for k in order[:8]]
    small = [along(t, 0, 16)[low] for t in (dy, x)]
    g = [symmetric(t, 8, t.shape, words(f"wgrad/{s}/rounding", t.shape, 16)) for s, t in zip("ab", small, strict=True)]
    return [(x, w), (d, b), (g[0], g[1])]


def binaryconnect(x, w, dy):
    wb = sign(w) * binary_connect_scale(w.shape[1])
    return [(x, wb), (dy, wb), (dy, x)]


def bnn(x, w, dy):
    wb, xb = sign(w) * binary_connect_scale(w.shape[1]), sign(x)
    return [(xb, wb), (dy, wb), (dy, xb)]


def xnor_net(x, w, dy):
    alpha = tree(np.abs(w)) / F(w.shape[1])
    wb = sign(w) * alpha[:, None].astype(np.float64)
    return [(sign(x), wb), (dy, wb.astype(F)), (dy, sign(x))]


def fqt_1bit(x, w, dy):
    forward, *_ = xnor_net(x, w, dy)
    found = []
    for q, other in zip(by_sample(dy, 15), (forward[1], forward[0]), strict=True):
        amax = np.abs(q).max(axis=1)
        rows = np.flatnonzero(amax >= np.sort(amax)[::-1][len(amax) // 4 - 1])
        found.append((q[rows], other if other is forward[1] else other[rows]))
    return [forward, *found]


def sawb(x: np.ndarray, rms: float, mean: float) -> np.ndarray:
    """INT4, a = rms * root mean square + mean * mean magnitude; one block in row-major order."""
    flat, n = x.reshape(-1), F(x.size)
    lanes = lambda v: tree(add_rows(np.concatenate([v, np.zeros(-len(v) % 1024, F)]).reshape(-1, 1024)))  # noqa: E731
    a = np.sqrt(lanes(flat * flat) / n) * F(rms) + lanes(np.abs(flat)) / n * F(mean)
    s = a / F(7)
    return np.clip(np.rint(x / s), -7, 7).astype(np.float64) * float(s)


def add_rows(rows: np.ndarray) -> np.ndarray:
    found = rows[0]
    for row in rows[1:]:
        found = found + row
    return found


def luq_operand(dy, path: str):
    return on_levels(dy, LEVELS["e3m0"], float(np.abs(dy).max() / F(16)), words(f"{path}/rounding", dy.shape, 8))


def luq(x, w, dy):
    xq, wq = sawb(x, 12.1, -12.2), sawb(w, 12.1, -12.2)
    return [(xq, wq), (luq_operand(dy, "dgrad/a"), wq), (luq_operand(dy, "wgrad/a"), xq)]


def luq_smp2(x, w, dy):
    forward, dgrad, (_, xq) = luq(x, w, dy)
    return [forward, dgrad, *((luq_operand(dy, f"wgrad/a/{part}"), xq) for part in ("first", "second"))]


def ultra_low_4bit(x, w, dy):
    xq, wq = sawb(x, 12.035, -12.03), sawb(w, 12.035, -12.03)
    s = 2.0 ** math.ceil(math.log2(float(np.abs(dy).max() / F(64))))
    return [(xq, wq), (on_levels(dy, LEVELS["radix4"], s), wq), (on_levels(dy, LEVELS["radix4_odd"], s), xq)]


def fp4_by_row(x: np.ndarray) -> np.ndarray:
    def one(t, _):
        s = np.abs(t).max() / F(6)
        return emulation.minifloat(t / s, "e2m1") * float(s)

    return by_block(x, 1, x.shape[1], one)


def fp4_dge_occ(x, w, dy):
    ordered, last = np.sort(x.reshape(-1)), x.size - 1
    high = math.floor(0.99 * last)
    body = np.clip(x, ordered[last - high], ordered[high])
    q, rest, wq = fp4_by_row(body), x - body, fp4_by_row(w)
    return [(q, wq), (rest, wq), (dy, wq.astype(F)), (dy, q.astype(F) + rest)]


def int8_fallback(x, w, dy):
    block = (128, 128)
    main, wq = symmetric(x, 8, block), symmetric(w, 8, block)
    left = x - main.astype(F)
    for rows, columns in emulation.blocks(x, *block):
        if np.abs(x[rows, columns]).max() <= 1:
            left[rows, columns] = 0
    rest = by_block(left, *block, lambda t, _: symmetric(t, 8, t.shape) if t.any() else t.astype(np.float64))
    d, g = (symmetric(dy, 8, block, words(f"{gemm}/a/rounding", dy.shape, 16)) for gemm in ("dgrad", "wgrad"))
    return [(main, wq), (rest, wq), (d, wq), (g, main), (g, rest)]


def value_aware(x, w, dy):
    ordered, last = np.sort(x.reshape(-1)), x.size - 1
    high = math.floor(0.99 * last)
    body = np.clip(x, ordered[last - high], ordered[high])
    return [(x, w), (dy, w), (dy, symmetric(body, 3, x.shape)), (dy, x - body)]


def shiftaddvit(x, w, dy):
    xq = np.floor(x.astype(np.float64) * 65536) / 65536
    a = np.clip(np.abs(w.astype(np.float64)), 2.0**-15, 1)
    wq = np.copysign(2.0 ** np.rint(np.log2(a)), w)
    return [(xq, wq), (dy, wq), (dy, xq.astype(F))]


def quadrants(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows 2 j and 2 j + 1 as a + b i: the unit nearest in phase times the mean |a| or |b| of those that took its axis; both parts."""
    a, b = w[0::2], w[1::2]
    angle = np.arctan2(b.astype(np.float64), a.astype(np.float64))
    turns = np.floor(angle / (np.pi / 2) + 0.5).astype(int) % 4
    parts = []
    for part, members, plus in ((a, turns % 2 == 0, 0), (b, turns % 2 == 1, 1)):
        total = emulation_qat.tree(np.where(members, np.abs(part), F(0)).reshape(-1))
        s = max(total / F(members.sum()), F(1e-5))
        parts.append(np.where(members, np.where(turns == plus, 1.0, -1.0), 0.0) * float(s))
    return parts[0], parts[1]


def by_token(x: np.ndarray) -> np.ndarray:
    def one(t, _):
        scale = F(127) / max(np.abs(t).max(), F(1e-5))
        return np.clip(np.rint(t * scale), -128, 127).astype(np.float64) * float(F(1) / scale)

    return by_block(x, 1, x.shape[1], one)


def ifairy(x, w, dy):
    """y = conj(x) w; dX = conj(dY) w and dW = dY x once more four products each; real parts first."""
    (xr, xi), (gr, gi) = (by_token(x[:, 0::2]), by_token(x[:, 1::2])), (dy[:, 0::2], dy[:, 1::2])
    wr, wi = quadrants(w)
    br, bi = xr.astype(F), xi.astype(F)
    return [
        (xr, wr), (xi, wi), (xr, wi), (xi, wr), (gr, wr), (gi, wi), (gr, wi), (gi, wr), (gr, br), (gi, bi), (gr, bi), (gi, br),
    ]  # fmt: skip


EMULATIONS = {
    "statquant_ptq": statquant_ptq, "statquant_psq": statquant_psq, "statquant_bhq": statquant_bhq, "int4_hq_lss": int4_hq_lss, "hlq": hlq,
    "binaryconnect": binaryconnect, "bnn": bnn, "xnor_net": xnor_net, "fqt_1bit": fqt_1bit, "luq": luq, "luq_smp2": luq_smp2,
    "ultra_low_4bit": ultra_low_4bit, "fp4_dge_occ": fp4_dge_occ, "int8_fallback": int8_fallback, "shiftaddvit": shiftaddvit,
    "value_aware": value_aware, "ifairy": ifairy,
}  # fmt: skip

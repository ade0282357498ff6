"""The fixed-point and integer recipes once more, from their sources: the six operands of each, exact values in float64.

Nothing here uses lpref's formats, scaling or quantizers; words come from the addresses of `emulation`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

_spec = importlib.util.spec_from_file_location("emulation", Path(__file__).with_name("emulation.py"))
emulation = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(emulation)
words, by_block, int8 = emulation.words, emulation.by_block, emulation.int8
F = np.float32


def same(x, w, dy):
    """Every tensor quantized once."""
    return {"fprop.a": x, "fprop.b": w, "dgrad.a": dy, "dgrad.b": w, "wgrad.a": dy, "wgrad.b": x}


def stochastic(v: np.ndarray, word: np.ndarray, r: int = 16) -> np.ndarray:
    """|v| to an integer: up where the fraction's first r bits and the word carry."""
    a = np.abs(v)
    n = np.floor(a)
    return np.copysign(n + (np.floor((a - n) * 2.0**r) + word >= 2**r), v)


def away(v: np.ndarray) -> np.ndarray:
    """Half away from zero."""
    return np.copysign(np.floor(np.abs(v) + 0.5), v)


def fixed(v: np.ndarray, bits: int, fraction: int, word=None) -> np.ndarray:
    """<bits - fraction, fraction> of Gupta et al.: saturate, else round."""
    scaled = v.astype(np.float64) * 2.0**fraction
    n = np.rint(scaled) if word is None else stochastic(scaled, word)
    return np.clip(n, -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) / 2.0**fraction


def gupta(x, w, dy):
    xq, dyq = fixed(x, 16, 12, words("fprop/a/rounding", x.shape, 16)), fixed(dy, 16, 12, words("dgrad/a/rounding", dy.shape, 16))
    return same(xq, fixed(w, 16, 12), dyq)


def dfp(v: np.ndarray, bits: int = 16, word=None) -> np.ndarray:
    """E_s = floor(log2 max) - (P - 2)."""
    step = 2.0 ** (np.frexp(float(np.abs(v).max()))[1] - 1 - (bits - 2))
    n = np.rint(v / step) if word is None else stochastic(v.astype(np.float64) / step, word)
    return np.clip(n, -(2.0 ** (bits - 1) - 1), 2.0 ** (bits - 1) - 1) * step


def dfp_int16(x, w, dy):
    return same(dfp(x), dfp(w), dfp(dy))


def rows8(v: np.ndarray, path: str = "") -> np.ndarray:
    word = words(path, v.shape, 16) if path else None
    return by_block(v, 1, v.shape[1], lambda t, at: dfp(t, 8, None if word is None else word[at]))


def swalp(x, w, dy):
    return same(rows8(x, "fprop/a/rounding"), rows8(w), rows8(dy, "dgrad/a/rounding"))


def shift(m: float) -> float:
    """WAGE: 2^round(log2 m)."""
    return 2.0 ** np.round(np.log2(float(m)))


def wage(x, w, dy):
    """alpha after myInitializer.py: limit = sqrt(3 / fan-in), 2^round(log2(0.75 / limit)), at least 1."""
    alpha = max(2.0 ** round(float(np.log2(0.75 / np.sqrt(3.0 / w.shape[1])))), 1.0)
    wq = np.rint(np.clip(w, -0.5, 0.5) * 2.0) / 2 / alpha
    xq = np.rint(np.clip(x.astype(np.float64), -1 + 2**-7, 1 - 2**-7) * 128) / 128
    e = np.rint(np.clip(dy / shift(np.abs(dy).max()), -1 + 2**-7, 1 - 2**-7).astype(np.float64) * 128) / 128
    return same(xq, wq, e * shift(np.abs(dy).max()))


def niti_tensor(v: np.ndarray) -> np.ndarray:
    """2^(ceil(log2 max) - 7), half away, +-127."""
    step = 2.0 ** (np.ceil(np.log2(float(np.abs(v).max()))) - 7)
    return np.clip(away(v.astype(np.float64) / step), -127, 127) * step


def niti(x, w, dy):
    return same(niti_tensor(x), niti_tensor(w), niti_tensor(dy))


def dqt(x, w, dy):
    def token(t, _):
        s = F(127) / max(np.abs(t).max(), F(1e-5))
        return np.clip(np.rint(t * s), -128, 127).astype(np.float64) * float(F(1) / s)

    xq = by_block(x, 1, x.shape[1], token)
    return {"fprop.a": xq, "fprop.b": w, "dgrad.a": dy, "dgrad.b": w, "wgrad.a": dy, "wgrad.b": xq.astype(F)}


def dorefa(x, w, dy):
    """dorefa.py: fa, fw with one bit (the mean must be exact in float32), grad_fg with its noise as stochastic rounding to r bits."""
    xq = np.clip(np.rint(np.clip(x, 0, 1) / F(1 / 3)), 0, 3).astype(np.float64) * float(F(1 / 3))
    wq = np.where(w >= 0, 1.0, -1.0) * float(F(np.abs(w.astype(np.float64)).mean()))
    word = words("dgrad/a/rounding", dy.shape, 16)

    def sample(t, at):
        m = np.abs(t).max()
        s = F(63) / (m - -m)
        c = ((t - -m) * s).astype(np.float64)
        n = np.clip(np.floor(c) + (np.floor((c - np.floor(c)) * 65536) + word[at] >= 65536), 0, 63)
        return (n.astype(F) / s + -m).astype(np.float64)

    g = by_block(dy, 1, dy.shape[1], sample)
    return same(xq, wq, g) | {"wgrad.a": g.astype(F)}


def half_scale(v: np.ndarray, path: str = "") -> np.ndarray:
    """Jetfire's quantize.py: q from the float32 scale, decoded by the scale in fp16."""
    word = words(path, v.shape, 16) if path else None

    def block(t, at):
        s = np.abs(t).max() / F(127)
        u = (t / s).astype(np.float64)
        q = np.rint(u) if word is None else stochastic(u, word[at])
        return np.clip(q, -127, 127) * float(np.float16(s))

    return by_block(v, 32, 32, block)


def jetfire(x, w, dy):
    return same(half_scale(x), half_scale(w), half_scale(dy, "dgrad/a/rounding"))


def uniform(v: np.ndarray, low, high, word=None) -> np.ndarray:
    """quantize.py of quantized.pytorch: 255 steps from low to high, float32; low is added back."""
    s = F(255) / (F(high) - F(low))
    u = ((v - F(low)) * s).astype(np.float64)
    n = np.rint(u) if word is None else stochastic(u, word)
    return (np.clip(n, 0, 255).astype(F) / s + F(low)).astype(np.float64)


def banner(x, w, dy):
    """X between the means of its rows' extremes (float32 means, exact where the test's are)."""
    low, high = (F(np.asarray(e, np.float64).mean()) for e in (x.min(axis=1), x.max(axis=1)))
    xq, wq = uniform(x, low, high), uniform(w, w.min(), w.max())
    g = uniform(dy, dy.min(), dy.max(), words("dgrad/a/rounding", dy.shape, 16))
    return same(xq, wq, g) | {"wgrad.a": emulation.minifloat(dy, "bfloat16"), "wgrad.b": xq.astype(F)}


def affine(v: np.ndarray, word=None) -> np.ndarray:
    """s = (high - low) / 255 with zero inside, z = round(-low / s), float32."""
    low, high = min(v.min(), F(0)), max(v.max(), F(0))
    s = (high - low) / F(255)
    z = np.rint(-low / s)
    u = (v / s).astype(np.float64)
    return (np.clip((np.rint(u) if word is None else stochastic(u, word)) + z, 0, 255) - z) * float(s)


def in_hindsight(x, w, dy):
    """The first step."""
    return same(affine(x), int8(w, *w.shape), affine(dy, words("dgrad/a/rounding", dy.shape, 16)))


def dynamic_fixed_point(x, w, dy):
    """The first step: s = 2^ceil(log2(max / 511))."""
    def ten(v):
        s = 2.0 ** np.ceil(np.log2(float(F(np.abs(v).max()) / F(511))))
        return np.clip(np.rint(v / s), -511, 511) * s

    return same(ten(x), ten(w), ten(dy))


def wageubn(x, w, dy):
    """Quantize.py fe2: fractions of u below u, integers above, u = Shift(max) / 128."""
    u = shift(np.abs(dy).max()) / 128
    v = dy.astype(np.float64) / u
    flagged = np.where(np.abs(v) < 1, np.rint(v * 128) / 128, np.clip(np.rint(v), -127, 127)) * u
    grid = [np.clip(np.rint(t.astype(np.float64) * 128), -127, 127) / 128 for t in (x, w)]
    return same(*grid, flagged)


def shiftquant(x, w, dy):
    """A channel's scale is the smallest of s, s/2, s/4, s/8 that holds it."""
    def channels(v, axis, path=""):
        top = np.abs(v).max()
        word = words(path, v.shape, 16) if path else None
        out = np.empty(v.shape)
        for j in range(v.shape[axis]):
            at = (slice(None), j) if axis == 1 else (j, slice(None))
            g = max(g for g in range(4) if np.abs(v[at]).max() <= top / F(2.0**g))
            s = (top / F(31)) / F(2.0**g)
            u = (v[at] / s).astype(np.float64)
            out[at] = np.clip(np.rint(u) if word is None else stochastic(u, word[at]), -31, 31) * float(s)
        return out

    def rows(v, axis):
        s = np.abs(v).max(axis=axis, keepdims=True) / F(31)
        return np.rint(v / s).astype(np.float64) * s.astype(np.float64)

    return {
        "fprop.a": channels(x, 1), "fprop.b": rows(w, 1), "dgrad.a": channels(dy, 1, "dgrad/a/rounding"), "dgrad.b": rows(w, 0),
        "wgrad.a": channels(dy, 0, "wgrad/a/rounding"), "wgrad.b": channels(x, 0),
    }  # fmt: skip


def searched(v: np.ndarray, cost) -> np.float32:
    """c / 127 of the 16 shares c of the maximum, the largest first: the first of least cost, to nearest."""
    shares = [(np.abs(v).max() * F(i / 16)) / F(127) for i in range(16, 0, -1)]
    a = v.astype(np.float64)
    return shares[int(np.argmin([cost(a, np.clip(np.rint(v / s), -127, 127).astype(np.float64) * float(s)) for s in shares]))]


def cosine(a: np.ndarray, q: np.ndarray) -> float:
    return 1 - (a * q).sum() / np.sqrt((a * a).sum() * (q * q).sum())


def weighted(a: np.ndarray, q: np.ndarray) -> float:
    return (np.abs(a) * (a - q) ** 2).sum()


def clipped(v: np.ndarray, s: np.float32, word: np.ndarray) -> np.ndarray:
    return np.clip(stochastic((v / s).astype(np.float64), word), -127, 127) * float(s)


def ui8(x, w, dy):
    """The first step: the direction of dY decides."""
    s = searched(dy, cosine)
    return same(int8(x, *x.shape), int8(w, *w.shape), clipped(dy, s, words("dgrad/a/rounding", dy.shape, 16)))


def distribution_adaptive(x, w, dy):
    """The first step: a scale for each column of dY."""
    word = words("dgrad/a/rounding", dy.shape, 16)

    def channel(t, at):
        return clipped(t, searched(t, weighted), word[at])

    g = by_block(dy, dy.shape[0], 1, channel)
    return same(int8(x, *x.shape), int8(w, *w.shape), g) | {"wgrad.a": g.astype(F)}


def sakr(x, w, dy):
    """The first step: 12 bits, r = 2^11 s the power of two that holds the tensor, half away."""
    def twelve(v):
        s = 2.0 ** np.ceil(np.log2(float(F(np.abs(v).max()) / F(2047))))
        return np.clip(away(v.astype(np.float64) / s), -2047, 2047) * s

    return same(twelve(x), twelve(w), twelve(dy))


def sakr_result(dw: np.ndarray) -> np.ndarray:
    """dW in 14 bits."""
    s = 2.0 ** np.ceil(np.log2(float(F(np.abs(dw).max()) / F(8191))))
    return np.clip(away(dw.astype(np.float64) / s), -8191, 8191) * s


def four_bits(v: np.ndarray, path: str = "", clip: float = 1.0) -> np.ndarray:
    """INT4 of a whole tensor, its largest magnitude times `clip` at 7; stochastic with a path."""
    s = np.abs(v).max() / F(7 / clip)
    n = np.abs((v / s).astype(np.float64))
    n = np.rint(n) if not path else stochastic(n, words(f"{path}/rounding", v.shape, 8), 8)
    return np.copysign(np.minimum(n, 7.0), v) * float(s)


def hdqt(x, w, dy):
    """Codes of the forward pass again in the Hadamard domain of the contracted axis."""
    xq, wq = four_bits(x, clip=0.975), four_bits(w, clip=0.975)

    def rotated(v, axis):
        return emulation.along(v.astype(F), axis, v.shape[axis] & -v.shape[axis])

    return {
        "fprop.a": xq, "fprop.b": wq, "dgrad.a": four_bits(rotated(dy, 1), "dgrad/a"), "dgrad.b": four_bits(rotated(wq, 0)),
        "wgrad.a": four_bits(rotated(dy, 0), "wgrad/a"), "wgrad.b": four_bits(rotated(xq, 0), "wgrad/b"),
    }  # fmt: skip


EMULATIONS = {
    "gupta": gupta, "dfp_int16": dfp_int16, "swalp": swalp, "wage": wage, "niti": niti, "dqt": dqt, "dorefa": dorefa, "jetfire": jetfire,
    "banner": banner, "in_hindsight": in_hindsight, "dynamic_fixed_point": dynamic_fixed_point, "wageubn": wageubn, "shiftquant": shiftquant,
    "ui8": ui8, "distribution_adaptive": distribution_adaptive, "sakr": sakr,
    "hdqt": hdqt, "hdqt_acc8": hdqt,
}  # fmt: skip

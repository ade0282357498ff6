"""The recipes of customized formats once more, from their pages: as `emulation`, whose pieces it uses."""

from __future__ import annotations

import numpy as np

from lpref.ref import random
from lpref.ref.formats import format as format_named

from .emulation import SEED, SITE, STEP, F, along, by_block, int8, minifloat, nvfp4_values, words

FLOATS = {"e3m2": (-2, 2, 28.0), "e2m1": (0, 1, 6.0)}


def away(x: np.ndarray, emin: int, trailing: int, largest: float) -> np.ndarray:
    """To nearest, ties away from zero, saturating."""
    a = np.abs(x.astype(np.float64))
    step = np.ldexp(1.0, np.maximum(np.frexp(a)[1] - 1, emin) - trailing)
    return np.copysign(np.minimum(np.floor(a / step + 0.5) * step, largest), x)


def mx(name: str, axis: int):
    """Blocks of 32 along `axis` under 2^(floor(log2 amax) - emax)."""

    def quantized(x: np.ndarray) -> np.ndarray:
        def one(t, _):
            exponent = np.frexp(float(np.abs(t).max()))[1] - 1
            if name == "int8":
                return np.clip(np.floor(np.abs(t.astype(np.float64)) / 2.0**exponent * 64 + 0.5), 0, 127) / 64 * np.sign(t) * 2.0**exponent
            emin, trailing, largest = FLOATS[name]
            scale = 2.0 ** (exponent - int(np.log2(largest)))
            return away(t / scale, emin, trailing, largest) * scale

        return by_block(x, *((1, 32) if axis == 1 else (32, 1)), one)

    return quantized


def microscaling(a: str, w: str, g: str):
    def emulate(x, weight, dy):
        return {
            "fprop.a": mx(a, 1)(x), "fprop.b": mx(w, 1)(weight), "dgrad.a": mx(g, 1)(dy), "dgrad.b": mx(w, 0)(weight),
            "wgrad.a": mx(g, 0)(dy), "wgrad.b": mx(a, 0)(x),
        }  # fmt: skip

    return emulate


def tetra(x: np.ndarray, axis: int, word: np.ndarray | None = None) -> np.ndarray:
    """E2M1 under 2^ceil(log2(fl32(amax / 6)))."""

    def one(t, block):
        half, exponent = np.frexp(np.abs(t).max().astype(F) / F(6))
        scale = 2.0 ** (int(exponent) - int(half == 0.5)) if half else 1.0
        return minifloat(t / scale, "e2m1", None if word is None else word[block]) * scale

    return by_block(x, *((1, 32) if axis == 1 else (32, 1)), one)


def tetrajet(x, w, dy):
    xq, wq = tetra(x, 1), tetra(w, 1)
    drawn = lambda path, t: words(f"{path}/rounding", t.shape, 8)  # noqa: E731
    return {
        "fprop.a": xq, "fprop.b": wq, "dgrad.a": tetra(dy, 1, drawn("dgrad/a", dy)), "dgrad.b": tetra(wq, 0, drawn("dgrad/b", w)),
        "wgrad.a": tetra(dy, 0, drawn("wgrad/a", dy)), "wgrad.b": tetra(xq, 0, drawn("wgrad/b", x)),
    }  # fmt: skip


def whole(x: np.ndarray) -> np.ndarray:
    return int8(x, *x.shape)


def fp8(x: np.ndarray, name: str = "e4m3") -> np.ndarray:
    largest = F({"e4m3": 448, "e3m2": 28}[name])
    scale = largest / np.abs(x).max()
    u = np.clip(x * scale, -largest, largest)
    if name == "e3m2":
        a = np.abs(u.astype(np.float64))
        step = np.ldexp(1.0, np.maximum(np.frexp(a)[1] - 1, -2) - 2)
        return np.copysign(np.rint(a / step) * step, u) * float(F(1) / scale)
    return minifloat(u, name) * float(F(1) / scale)


def size(n: int) -> int:
    return int(np.gcd(n, 128))


def halo_level0(x, w, dy):
    a, b, g = whole(x), whole(w), whole(dy)
    return {"fprop.a": a, "fprop.b": b, "dgrad.a": g, "dgrad.b": b, "wgrad.a": g, "wgrad.b": a}


def halo_level1(x, w, dy):
    g = fp8(dy)
    rotated = [fp8(along(t, 1, size(t.shape[1]))) for t in (x, w)]
    return {"fprop.a": rotated[0], "fprop.b": rotated[1], "dgrad.a": g, "dgrad.b": fp8(w), "wgrad.a": g, "wgrad.b": fp8(x)}


def halo_fp6(x, w, dy):
    q = lambda t: fp8(t, "e3m2")  # noqa: E731
    return {
        "fprop.a": q(along(x, 1, size(x.shape[1]))), "fprop.b": q(along(w, 1, size(w.shape[1]))), "dgrad.a": q(along(dy, 0, size(dy.shape[0]))),
        "dgrad.b": q(w), "wgrad.a": q(dy), "wgrad.b": q(x),
    }  # fmt: skip


def bfp(x: np.ndarray, rows: int, columns: int, m: int, word: np.ndarray | None = None) -> np.ndarray:
    """Step 2^(ceil(log2(fl32(amax + 1e-8))) - m), |i| <= 2^m - 1; stochastic by 16-bit words where there are words."""

    def one(t, block):
        half, exponent = np.frexp(np.abs(t).max().astype(F) + F(1e-8))
        step = 2.0 ** (int(exponent) - int(half == 0.5) - m)
        u = np.clip(t.astype(np.float64) / step, -(2**m - 1), 2**m - 1)
        if word is None:
            return np.rint(u) * step
        bits = 16 if word.max() > 255 else 8
        n = np.floor(np.abs(u))
        return np.copysign(n + (np.floor((np.abs(u) - n) * 2**bits) + word[block] >= 2**bits), u) * step

    return by_block(x, rows, columns, one)


def hbfp(m: int):
    def emulate(x, w, dy):
        a, b, g = (bfp(t, 24, 24, m, words(f"{p}/rounding", t.shape, 16)) for p, t in (("fprop/a", x), ("fprop/b", w), ("dgrad/a", dy)))
        return {"fprop.a": a, "fprop.b": b, "dgrad.a": g, "dgrad.b": b, "wgrad.a": g, "wgrad.b": a}

    return emulate


def accuracy_booster(x, w, dy):
    """Runs of 64 along the last axis, once each; the other product takes the values."""
    x, w, dy = (bfp(t, 1, 64, 3, words(f"{path}/rounding", t.shape, 16)) for path, t in (("fprop/a", x), ("fprop/b", w), ("dgrad/a", dy)))
    return {"fprop.a": x, "fprop.b": w, "dgrad.a": dy, "dgrad.b": w, "wgrad.a": dy, "wgrad.b": x}


def muppet(x, w, dy):
    """One step 2^ceil(log2(amax / 127.5)) a tensor, 16-bit words, once each."""

    def one(path, t):
        mantissa, exponent = np.frexp(F(np.abs(t).max()) / F(127.5))
        step = 2.0 ** (exponent - (mantissa == 0.5))
        u = t.astype(np.float64) / step
        n = np.floor(np.abs(u))
        u = np.copysign(n + (np.floor((np.abs(u) - n) * 2**16) + words(f"{path}/rounding", t.shape, 16) >= 2**16), u)
        return np.clip(u, -128, 127) * step

    x, w, dy = one("fprop/a", x), one("fprop/b", w), one("dgrad/a", dy)
    return {"fprop.a": x, "fprop.b": w, "dgrad.a": dy, "dgrad.b": w, "wgrad.a": dy, "wgrad.b": x}


def affine(t: np.ndarray, rows: int, word: np.ndarray | None = None) -> np.ndarray:
    """s = fl32((hi - lo) / 255) with zero in the range, z = -128 + rint(-lo / s); rows of the tensor, or all of it."""

    def one(b, block):
        lo, hi = min(b.min(), F(0)), max(b.max(), F(0))
        s = F((hi - lo) / F(255))
        z = np.clip(-128 + np.rint(-lo / s), -128, 127)
        u = (b / s).astype(np.float64)
        if word is None:
            u = np.rint(u)
        else:
            n = np.floor(np.abs(u))
            u = np.copysign(n + (np.floor((np.abs(u) - n) * 2**16) + word[block] >= 2**16), u)
        return (np.clip(u + z, -128, 127) - z) * float(s)

    return by_block(t, rows, t.shape[1], one)


def cpt(x, w, dy):
    a, b = affine(x, x.shape[0]), affine(w, 1)
    g = affine(dy, dy.shape[0], words("dgrad/a/rounding", dy.shape, 16))
    return {"fprop.a": a, "fprop.b": b, "dgrad.a": g, "dgrad.b": b.astype(F), "wgrad.a": dy, "wgrad.b": a.astype(F)}


def quartet(x, w, dy):
    """Forward as the published kernel (tests/ref/scaling/test_customized.py); backward from those values, under one sign vector."""
    c = F(2.92247856 / 6)

    def forward(t):
        def one(b, _):
            mean = _sum(b) / F(32)
            variance = _sum(b * b) / F(32) - mean * mean
            scale = 2.0 ** (np.frexp(np.sqrt(max(variance, F(0))) * F(0.48707976) + F(1e-8))[1] - 1)
            return minifloat(b / scale, "e2m1") * scale

        assert abs(float(c) - 0.48707976) < 1e-6
        return by_block(along(t, 1, 32), 1, 32, one)

    def backward(t, axis, path):
        rotated = along(t.astype(F), axis, 32, random.signs(random.WordAddress(SEED, STEP, f"{SITE}/backward/transform/signs"), 32))
        word = words(f"{path}/rounding", t.shape, 8)

        def one(b, block):
            scale = 2.0 ** (np.frexp(float(np.abs(b).max()))[1] - 3)
            return minifloat(b.astype(np.float64) / scale * 0.75, "e2m1", word[block]) * scale * float(F(1) / F(0.75))

        return by_block(rotated, *((1, 32) if axis == 1 else (32, 1)), one)

    a, b = forward(x), forward(w)
    return {
        "fprop.a": a, "fprop.b": b, "dgrad.a": backward(dy, 1, "dgrad/a"), "dgrad.b": backward(b, 0, "dgrad/b"),
        "wgrad.a": backward(dy, 0, "wgrad/a"), "wgrad.b": backward(a, 0, "wgrad/b"),
    }  # fmt: skip


def _sum(b: np.ndarray) -> np.float32:
    """A sum in float32 by halves: neighbours first (N4's tree of a power of two)."""
    v = b.reshape(-1).astype(F)
    while v.size > 1:
        v = (v[0::2] + v[1::2]).astype(F)
    return v[0]


def elucidating(x, w, dy):
    def rotated(t, axis, word=None):
        return nvfp4_values(along(t, axis, 16), *((1, 16) if axis == 1 else (16, 1)), word)

    drawn = lambda path: words(f"{path}/rounding", dy.shape, 8)  # noqa: E731
    return {
        "fprop.a": rotated(x, 1), "fprop.b": rotated(w, 1), "dgrad.a": rotated(dy, 1, drawn("dgrad/a")), "dgrad.b": rotated(w, 0),
        "wgrad.a": rotated(dy, 0, drawn("wgrad/a")), "wgrad.b": rotated(x, 0),
    }  # fmt: skip


def ue5m3(x: np.ndarray, axis: int, word: np.ndarray | None = None) -> np.ndarray:
    """x H16, then E2M1 under amax / 6 to nearest on 2^-14 (1 + m / 8), 2^-17 steps below; no tensor scale."""

    def one(t, block):
        s = (np.abs(t).max() / F(6)).astype(np.float64)
        step = 2.0 ** (max(int(np.frexp(s)[1]) - 1, -14) - 3)
        s = F(max(np.rint(s / step), 1) * step)
        return minifloat(t / s, "e2m1", None if word is None else word[block]) * float(s)

    return by_block(along(x, axis, 16), *((1, 16) if axis == 1 else (16, 1)), one)


def elucidating_ue5m3(x, w, dy):
    drawn = lambda path: words(f"{path}/rounding", dy.shape, 8)  # noqa: E731
    return {
        "fprop.a": ue5m3(x, 1), "fprop.b": ue5m3(w, 1), "dgrad.a": ue5m3(dy, 1, drawn("dgrad/a")), "dgrad.b": ue5m3(w, 0),
        "wgrad.a": ue5m3(dy, 0, drawn("wgrad/a")), "wgrad.b": ue5m3(x, 0),
    }  # fmt: skip


def once(quantized):
    """Recipes that quantize X, W and dY once each and reuse the codes transposed; (slot, tensor) -> values."""

    def emulate(x, w, dy):
        a, b, g = quantized("fprop.a", x), quantized("fprop.b", w), quantized("dgrad.a", dy)
        return {"fprop.a": a, "fprop.b": b, "dgrad.a": g, "dgrad.b": b, "wgrad.a": g, "wgrad.b": a}

    return emulate


def posit8(slot: str, t: np.ndarray) -> np.ndarray:
    scale = 2.0 ** np.rint(np.log2(np.abs(t[t != 0]).astype(np.float64)).mean())
    return format_named("posit8_2" if slot == "dgrad.a" else "posit8_1").round(t.astype(np.float64) / scale, overflow="posit") * scale


def logarithmic(slot: str, t: np.ndarray) -> np.ndarray:
    """amax sgn(x) 2^(-k/8), k = rint(-8 log2(|x| / amax)) up to 126, zero beyond; float64 logarithms decide as exact ones away from ties."""
    amax = np.abs(t).max()
    with np.errstate(divide="ignore"):
        k = np.rint(-8 * np.log2(np.abs(t / amax).astype(np.float64)))
    return np.where(k > 126, 0.0, np.copysign(2.0 ** (-np.minimum(k, 126) / 8), t)) * float(amax)


def floatsd(slot: str, t: np.ndarray) -> np.ndarray:
    """W: the nearest of m 2^(e - 9), m = 4 g1 + g2, ties away, under the power of two at or above amax / 4.5; the others E5M2, encode scale down."""
    if slot != "fprop.b":
        scale = 2.0 ** (np.frexp(float(F(57344) / np.abs(t).max()))[1] - 1)
        return minifloat(np.clip(t * F(scale), F(-57344), F(57344)), "e5m2") / scale
    half, exponent = np.frexp(np.abs(t).max() / F(4.5))
    scale = 2.0 ** (int(exponent) - int(half == 0.5))
    digits = {abs(4 * g1 + g2) for g1 in (0, 1, 2, 4, -1, -2, -4) for g2 in (0, 1, 2, -1, -2)}
    grid = np.array(sorted({m * 2.0 ** (e - 9) for m in digits for e in range(8)}))
    a = np.abs(t.astype(np.float64)) / scale
    above = np.minimum(np.searchsorted(grid, a), grid.size - 1)
    below = np.maximum(above - 1, 0)
    return np.copysign(np.where(grid[above] - a <= a - grid[below], grid[above], grid[below]), t) * scale


def flexpoint(slot: str, t: np.ndarray) -> np.ndarray:
    """kappa settled on the tensor: from 1, each round kappa <- 2^(ceil(log2(2 (x + 100 kappa))) - 15), x = max|i| kappa of this round alone."""
    kappa = 1.0
    for _ in range(32):
        top = min(np.rint(float(np.abs(t).max()) / kappa), 32767)
        chi = 2 * (float(F((2 if top >= 32767 else 1) * top * kappa)) + 100 * kappa)
        new = 2.0 ** min(max(int(np.ceil(np.log2(chi))) - 15, -31), 0)
        if new == kappa:
            break
        kappa = new
    return np.clip(np.rint(t.astype(np.float64) / kappa), -32767, 32767) * kappa


EMULATIONS = {
    "mx_fp6": microscaling("e3m2", "e3m2", "e3m2"), "mx_int8": microscaling("int8", "int8", "int8"),
    "mx_fp4_weights": microscaling("e3m2", "e2m1", "e3m2"), "tetrajet": tetrajet, "tetrajet_qema": tetrajet, "tetrajet_qramping": tetrajet,
    "halo_level0": halo_level0, "halo_level1": halo_level1, "halo_fp6": halo_fp6, "hbfp8": hbfp(7), "hbfp12": hbfp(11),
    "accuracy_booster": accuracy_booster, "muppet": muppet, "cpt": cpt, "fractrain_pfq": cpt, "quartet": quartet, "posit8": once(posit8),
    "lns_madam": once(logarithmic), "elucidating_fp4": elucidating, "elucidating_fp4_ue5m3": elucidating_ue5m3,
    "floatsd": once(floatsd), "flexpoint": once(flexpoint),
}  # fmt: skip

"""The recipes once more, from the papers: plain NumPy, float64 where the rule is exact, float32 where it rounds.

Nothing here uses lpref's formats, rounding, scaling or quantizers; only the random words come from `lpref.ref.random`, at addresses
spelled out again. Each function returns the exact values (float64) of the six operands, keyed by slot.
"""

from __future__ import annotations

import hashlib

import numpy as np

from lpref.ref import random

F = np.float32
# format -> (emin, trailing significand bits, largest finite)
FLOATS = {
    "e2m1": (0, 1, 6.0), "e4m3": (-6, 3, 448.0), "e5m2": (-14, 2, 57344.0), "bfloat16": (-126, 7, 3.3895313892515355e38),
    "binary16": (-14, 10, 65504.0),
}  # fmt: skip
NVFP4_SIGNS = [1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1]
SEED, STEP, SITE = 7, 3, "h.0.attn.qkv"


def words(path: str, shape: tuple[int, ...], r: int) -> np.ndarray:
    """The words of a site, by SHA-256 of its path (N1)."""
    stream = int.from_bytes(hashlib.sha256(f"{SITE}/{path}".encode()).digest()[:4], "little")
    return random.bits(SEED, stream, STEP, 0, int(np.prod(shape)), r).reshape(shape).astype(np.int64)


def minifloat(x: np.ndarray, name: str, word: np.ndarray | None = None, r: int = 8, overflow: str = "saturate") -> np.ndarray:
    """x (any float) on the grid of a small float: nearest even, or stochastic with r-bit words (N2)."""
    emin, trailing, largest = FLOATS[name]
    a = np.abs(x.astype(np.float64))
    exponent = np.maximum(np.frexp(a)[1] - 1, emin)
    step = np.ldexp(1.0, exponent - trailing)
    n = a / step
    if word is None:
        n = np.rint(n)
    else:
        n = np.floor(n) + (np.floor((n - np.floor(n)) * 2.0**r) + word >= 2**r)
    value = n * step
    beyond = np.inf if overflow == "infinity" else largest
    return np.copysign(np.where(value > largest, beyond, value), x)


def blocks(x: np.ndarray, rows: int, columns: int):
    """Slices of every block."""
    for i in range(0, x.shape[0], rows):
        for j in range(0, x.shape[1], columns):
            yield slice(i, i + rows), slice(j, j + columns)


def by_block(x: np.ndarray, rows: int, columns: int, function) -> np.ndarray:
    out = np.empty(x.shape)
    for block in blocks(x, rows, columns):
        out[block] = function(x[block], block)
    return out


def butterflies(x: np.ndarray, size: int, signs=None) -> np.ndarray:
    """H / sqrt(n) over runs of the last axis, float32: strides 1, 2, 4, ..., then one multiplication (N5)."""
    out = x.astype(F).copy()
    for row in out:
        for start in range(0, len(row), size):
            run = row[start : start + size]
            if signs is not None:
                run *= np.asarray(signs, F)[:size]
            stride = 1
            while stride < size:
                for i in range(size):
                    if not i & stride:
                        a, b = run[i], run[i + stride]
                        run[i], run[i + stride] = a + b, a - b
                stride *= 2
            run *= F(1 / np.sqrt(size))
    return out


def along(x: np.ndarray, axis: int, size: int, signs=None) -> np.ndarray:
    return butterflies(x, size, signs) if axis == 1 else butterflies(x.T, size, signs).T


def fp32(x, w, dy):
    return {"fprop.a": x, "fprop.b": w, "dgrad.a": dy, "dgrad.b": w, "wgrad.a": dy, "wgrad.b": x}


def cast(name):
    def emulate(x, w, dy):
        return fp32(*(minifloat(t, name, overflow="infinity") for t in (x, w, dy)))

    return emulate


def te_tensor(x: np.ndarray, name: str, scale=None) -> np.ndarray:
    """scale = max / amax; q = cast(clamp(x * scale)); back by fl32(1 / scale)."""
    largest = F(FLOATS[name][2])
    scale = largest / np.abs(x).max() if scale is None else F(scale)
    q = minifloat(np.clip(x * scale, -largest, largest), name)
    return q * float(F(1) / scale)


def fp8_current(x, w, dy):
    return fp32(te_tensor(x, "e4m3"), te_tensor(w, "e4m3"), te_tensor(dy, "e5m2"))


def fp8_delayed(x, w, dy, scales=(16.0, 64.0, 4096.0)):
    return fp32(te_tensor(x, "e4m3", scales[0]), te_tensor(w, "e4m3", scales[1]), te_tensor(dy, "e5m2", scales[2]))


def pow2_tile(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """E4M3, encode scale 448 / amax rounded down to a power of two."""

    def one(t, _):
        scale = np.ldexp(1.0, np.frexp(float(F(448) / np.abs(t).max()))[1] - 1)
        return minifloat(np.clip(t * F(scale), F(-448), F(448)), "e4m3") / scale

    return by_block(x, rows, columns, one)


def fp8_block(x, w, dy):
    square = pow2_tile(w, 128, 128)
    return {
        "fprop.a": pow2_tile(x, 1, 128), "fprop.b": square, "dgrad.a": pow2_tile(dy, 1, 128), "dgrad.b": square,
        "wgrad.a": pow2_tile(dy, 128, 1), "wgrad.b": pow2_tile(x, 128, 1),
    }  # fmt: skip


def mx_rceil(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """E4M3, shared exponent ceil(log2(amax * fl32(1/448)))."""

    def one(t, _):
        fraction, exponent = np.frexp(float(F(np.abs(t).max()) * (F(1) / F(448))))
        scale = np.ldexp(1.0, exponent - 1 if fraction == 0.5 else exponent)
        return minifloat(t / scale, "e4m3") * scale

    return by_block(x, rows, columns, one)


def mxfp8(x, w, dy):
    return {
        "fprop.a": mx_rceil(x, 1, 32), "fprop.b": mx_rceil(w, 1, 32), "dgrad.a": mx_rceil(dy, 1, 32), "dgrad.b": mx_rceil(w, 32, 1),
        "wgrad.a": mx_rceil(dy, 32, 1), "wgrad.b": mx_rceil(x, 32, 1),
    }  # fmt: skip


def mxfp4_sr(x: np.ndarray, axis: int, size: int, signs, path: str) -> np.ndarray:
    """Rotate along `axis`, E = floor(log2 amax) - 2, z = 3/4 x / 2^E, stochastic E2M1; value z * 2^E * fl32(4/3)."""
    rotated = along(x, axis, size, signs)
    word = words(f"{path}/rounding", x.shape, 8)

    def one(t, block):
        scale = np.ldexp(1.0, np.frexp(float(np.abs(t).max()))[1] - 1 - 2)
        z = t.astype(np.float64) / scale * 0.75
        assert np.abs(z).max() < 6
        return minifloat(z, "e2m1", word[block]) * scale * float(F(1) / F(0.75))

    return by_block(rotated, *((1, 32) if axis == 1 else (32, 1)), one)


def mxfp4(x, w, dy):
    def signs(gemm):
        # random.signs is tested on its own; here only its address matters
        return random.signs(random.WordAddress(SEED, STEP, f"{SITE}/{gemm}/transform/signs"), 64)

    d, g = signs("dgrad"), signs("wgrad")
    xb = minifloat(x, "bfloat16").astype(F)
    return {
        "fprop.a": xb, "fprop.b": minifloat(w, "bfloat16"),
        "dgrad.a": mxfp4_sr(dy, 1, 64, d, "dgrad/a"), "dgrad.b": mxfp4_sr(w, 0, 64, d, "dgrad/b"),
        "wgrad.a": mxfp4_sr(dy, 0, 64, g, "wgrad/a"), "wgrad.b": mxfp4_sr(xb, 0, 64, g, "wgrad/b"),
    }  # fmt: skip


def nvfp4_values(x: np.ndarray, rows: int, columns: int, word=None) -> np.ndarray:
    """TransformerEngine's formula, float32, in its order."""
    amax = np.abs(x).max()
    encode = F(448) * F(6) / amax
    mult = encode * (F(1) / F(6))

    def one(t, block):
        d = F(minifloat(np.minimum(np.abs(t).max() * mult, F(448)), "e4m3"))
        factor = F(1) / (d * (F(1) / encode))
        q = minifloat(np.clip(t * factor, F(-6), F(6)), "e2m1", None if word is None else word[block])
        return q * float(d) * float(amax / F(2688))

    return by_block(x, rows, columns, one)


def nvfp4(x, w, dy):
    square = nvfp4_values(w, 16, 16)
    return {
        "fprop.a": nvfp4_values(x, 1, 16), "fprop.b": square,
        "dgrad.a": nvfp4_values(dy, 1, 16, words("dgrad/a/rounding", dy.shape, 8)), "dgrad.b": square,
        "wgrad.a": nvfp4_values(along(dy, 0, 16, NVFP4_SIGNS), 16, 1, words("wgrad/a/rounding", dy.shape, 8)),
        "wgrad.b": nvfp4_values(along(x, 0, 16, NVFP4_SIGNS), 16, 1),
    }  # fmt: skip


def int8(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """s = fl32(amax / 127), code = rint(fl32(x / s))."""

    def one(t, _):
        s = np.abs(t).max() / F(127)
        return np.rint(t / s).astype(np.float64) * float(s)

    return by_block(x, rows, columns, one)


def int8_switchback(x, w, dy):
    tensor = int8(w, *w.shape)
    return {
        "fprop.a": int8(x, 1, x.shape[1]), "fprop.b": tensor, "dgrad.a": int8(dy, 1, dy.shape[1]), "dgrad.b": tensor,
        "wgrad.a": minifloat(dy, "bfloat16"), "wgrad.b": minifloat(x, "bfloat16"),
    }  # fmt: skip


def halo(x, w, dy):
    """Level 2, Hadamard size 128 or what divides the axis."""
    def size(n):
        return np.gcd(n, 128)

    def whole(t):
        return int8(t, *t.shape)

    return {
        "fprop.a": whole(along(x, 1, size(x.shape[1]))), "fprop.b": whole(along(w, 1, size(w.shape[1]))),
        "dgrad.a": whole(along(dy, 0, size(dy.shape[0]))), "dgrad.b": whole(w), "wgrad.a": whole(dy), "wgrad.b": whole(x),
    }  # fmt: skip


def bitnet_b158(x, w, dy):
    """W: mean|W| must be exact in float32 (the test's weights are on a grid). X: s = 127 / max(amax, 1e-5) per token."""
    m = F(np.abs(w.astype(np.float64)).mean())
    s = max(m, F(1e-5))
    ternary = np.clip(np.rint(w * (F(1) / s)), -1, 1).astype(np.float64) * float(s)

    def token(t, _):
        scale = F(127) / max(np.abs(t).max(), F(1e-5))
        return np.clip(np.rint(t * scale), -128, 127).astype(np.float64) * float(F(1) / scale)

    xq = by_block(x, 1, x.shape[1], token)
    return {"fprop.a": xq, "fprop.b": ternary, "dgrad.a": dy, "dgrad.b": ternary, "wgrad.a": dy, "wgrad.b": xq.astype(F)}


def lsq_values(v: np.ndarray, step, bits: int = 4) -> np.ndarray:
    return np.rint(np.clip(v / F(step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)).astype(np.float64) * float(F(step))


EMULATIONS = {
    "fp32": fp32, "bf16": cast("bfloat16"), "fp16_loss_scaled": cast("binary16"), "fp8_delayed": fp8_delayed, "fp8_current": fp8_current,
    "fp8_block": fp8_block, "mxfp8": mxfp8, "mxfp4": mxfp4, "nvfp4": nvfp4, "int8_switchback": int8_switchback,
    "bitnet_b158": bitnet_b158, "halo": halo,
}  # fmt: skip

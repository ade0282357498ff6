"""The floating-point recipes once more, from their sources: the six operands of each, exact values in float64.

Nothing here uses lpref's formats, scaling or quantizers; words come from the addresses of `emulation`.
"""

from __future__ import annotations

import numpy as np

from . import emulation

F = np.float32
SMALL = {
    "e5m2": (-14, 2, 57344.0), "e4m3_fnuz": (-7, 3, 240.0), "e5m2_fnuz": (-15, 2, 57344.0), "e4m3_b11": (-10, 3, 30.0),
    "e6m9": (-30, 9, 4290772992.0), "e8m3": (-126, 3, 3.190147338836464e38),
    "e8m5": (-126, 5, 3.350001084655946e38), "e7m7": (-62, 7, 1.8374686479671624e19), **emulation.FLOATS,
}  # fmt: skip


def same(x, w, dy):
    """Every tensor quantized once."""
    return {"fprop.a": x, "fprop.b": w, "dgrad.a": dy, "dgrad.b": w, "wgrad.a": dy, "wgrad.b": x}


def cast(
    x: np.ndarray,
    name: str,
    word: np.ndarray | None = None,
    r: int = 8,
    infinite: bool = False,
    toward_zero: bool = False,
) -> np.ndarray:
    """x on the grid of a small float: nearest even, stochastic with r-bit words, or toward zero; beyond the range the largest, or infinity."""
    emin, trailing, largest = SMALL[name]
    a = np.abs(x.astype(np.float64))
    step = np.ldexp(1.0, np.maximum(np.frexp(a)[1] - 1, emin) - trailing)
    n = a / step
    if toward_zero:
        n = np.floor(n)
    elif word is None:
        n = np.rint(n)
    else:
        n = np.floor(n) + (np.floor((n - np.floor(n)) * 2.0**r) + word >= 2**r)
    return np.copysign(np.where(n * step > largest, np.inf if infinite else largest, n * step), x)


def plain(forward: str, backward: str = "", **options):
    """X and W in one format, dY in another, no scales."""

    def emulate(x, w, dy):
        return same(cast(x, forward, **options), cast(w, forward, **options), cast(dy, backward or forward, **options))

    return emulate


def mellempudi2019(x, w, dy):
    return same(
        cast(x, "e5m2"),
        cast(w, "e5m2"),
        cast(dy, "e5m2", emulation.words("dgrad/a/rounding", dy.shape, 16), 16, infinite=True),
    )


def pow2_tensor(x: np.ndarray, name: str) -> np.ndarray:
    """Encode scale largest / amax rounded down to a power of two."""
    largest = F(SMALL[name][2])
    scale = np.ldexp(1.0, np.frexp(float(largest / np.abs(x).max()))[1] - 1)
    return cast(np.clip(x * F(scale), -largest, largest), name) / scale


def fp8_pow2(x, w, dy):
    return same(pow2_tensor(x, "e4m3"), pow2_tensor(w, "e4m3"), pow2_tensor(dy, "e5m2"))


def divided(x: np.ndarray, rows: int, columns: int, name: str = "e4m3", floor: float = 0.0) -> np.ndarray:
    """s = max(amax, floor) / largest per tile, q = cast(x / s)."""

    def one(t, _):
        s = np.maximum(np.abs(t).max(), F(floor)) / F(SMALL[name][2])
        return cast(t / s, name) * float(s)

    return emulation.by_block(x, rows, columns, one)


def deepseek_v3(x, w, dy):
    tile = divided(x, 1, 128, floor=1e-4)
    square = divided(w, 128, 128)
    return {
        "fprop.a": tile, "fprop.b": square, "dgrad.a": divided(dy, 1, 128, floor=1e-4), "dgrad.b": square,
        "wgrad.a": divided(dy, 128, 1, floor=1e-4), "wgrad.b": divided(tile.astype(F), 128, 1, floor=1e-4),
    }  # fmt: skip


def coat(x: np.ndarray, name: str) -> np.ndarray:
    """s = (amax + 1e-10) / largest; q = cast(x / s); back by bfloat16(s)."""
    s = (np.abs(x).max() + F(1e-10)) / F(SMALL[name][2])
    return cast(x / s, name) * float(cast(np.float64(s).reshape(1), "bfloat16")[0])


def mxfp8_2d(x, w, dy):
    square = emulation.mx_rceil(w, 32, 32)
    return emulation.mxfp8(x, w, dy) | {"fprop.b": square, "dgrad.b": square}


def fp4_all_the_way(x, w, dy):
    def block(t, k_axis, path=""):
        word = emulation.words(f"{path}/rounding", t.shape, 8) if path else None
        return emulation.nvfp4_values(t, *((1, 16) if k_axis else (16, 1)), word)

    return {
        "fprop.a": block(x, 1), "fprop.b": block(w, 1), "dgrad.a": block(dy, 1, "dgrad/a"), "dgrad.b": block(w, 0),
        "wgrad.a": block(dy, 0, "wgrad/a"), "wgrad.b": block(x, 0, "wgrad/b"),
    }  # fmt: skip


def exploring_fp4(x, w, dy):
    b = [emulation.minifloat(t, "bfloat16") for t in (w, dy)]
    return {
        "fprop.a": divided(x, 1, 128, "e2m1"), "fprop.b": divided(w, 1, 128, "e2m1"), "dgrad.a": b[1], "dgrad.b": b[0],
        "wgrad.a": divided(dy, 128, 1), "wgrad.b": divided(x, 128, 1),
    }  # fmt: skip


def int8(x, w, dy):
    rows = emulation.int8(w, 1, w.shape[1])
    tensor = emulation.int8(x, *x.shape)
    return same(tensor.astype(F), rows.astype(F), dy) | {"fprop.a": tensor, "fprop.b": rows}


def e4m3(x, w, dy):
    rows = emulation.by_block(w, 1, w.shape[1], lambda t, _: emulation.te_tensor(t, "e4m3"))
    tensor = emulation.te_tensor(x, "e4m3")
    return same(tensor.astype(F), rows.astype(F), dy) | {"fprop.a": tensor, "fprop.b": rows}


def by_rms(x: np.ndarray, name: str) -> np.ndarray:
    """s = the RMS rounded down to a power of two; q = cast(x / s)."""
    s = 2.0 ** np.floor(np.log2(np.sqrt(np.mean(x.astype(np.float64) ** 2))))
    return cast(x / s, name) * s


def minmax(
    x: np.ndarray, bits: int, size: int, word: np.ndarray, kept: str = "bfloat16", eps: float = 2e-6
) -> np.ndarray:
    """The saved copy of ActNN, GACT and EXACT."""

    def one(t, block):
        n = F(2**bits - 1)
        low = t.min()
        scale = n / (t.max() - low + F(eps))
        u = ((t - low) * scale).astype(np.float64)
        q = np.floor(u) + (np.floor((u - np.floor(u)) * 256) + word[block] >= 256)
        held = [F(v) if kept == "float32" else F(emulation.minifloat(np.float64([v]), kept)[0]) for v in (scale, low)]
        return np.minimum(q, n).astype(F) / held[0] + held[1]

    return emulation.by_block(x, 1, size, one)


def compressed(bits: int, kept: str):
    def emulate(x, w, dy):
        saved = minmax(x, bits, 256, emulation.words("save/x/rounding", x.shape, 8), kept)
        return same(x, w, dy) | {"wgrad.b": saved.astype(F)}

    return emulate


def blpa(x, w, dy):
    """The saved copy in 8 bits: s = amax / 127 of 128 elements, to nearest."""
    return same(x, w, dy) | {"wgrad.b": emulation.int8(x, 1, 128).astype(F)}


EMULATIONS = {
    "bf16_weights_sr": plain("bfloat16", infinite=True), "fp16_static": plain("binary16", infinite=True),
    "fp16_megatron": plain("binary16", infinite=True),
    "wang2018": plain("e5m2"), "hfp8": plain("e4m3_b11", "e5m2"), "mellempudi2019": mellempudi2019, "fp8_current_pow2": fp8_pow2,
    "fp8_lm": fp8_pow2, "fp8_formats": emulation.fp8_current, "deepseek_v3": deepseek_v3, "deepseek_v3_hopper": deepseek_v3,
    "coat": lambda x, w, dy: same(coat(x, "e4m3"), coat(w, "e4m3"), coat(dy, "e5m2")), "mxfp8_2d": mxfp8_2d,
    "nvfp4_late_bf16": emulation.nvfp4, "mask_e8m3": plain("e8m3", toward_zero=True), "mask_e8m5": plain("e8m5", toward_zero=True),
    "mask_e7m7": plain("e7m7", toward_zero=True), "round_e8m3": plain("e8m3"), "fp4_all_the_way": fp4_all_the_way,
    "fp4_all_the_way_qaf": fp4_all_the_way, "exploring_fp4": exploring_fp4, "fp8_versus_int8": e4m3, "fp8_versus_int8_int8": int8,
    "graphcore_fp8": lambda x, w, dy: same(pow2_tensor(x, "e4m3_fnuz"), pow2_tensor(w, "e4m3_fnuz"), pow2_tensor(dy, "e5m2_fnuz")),
    "scalify": lambda x, w, dy: same(by_rms(x, "e4m3"), by_rms(w, "e4m3"), by_rms(dy, "e5m2")),
    "smooth_swiglu": emulation.fp8_delayed,
    "unit_scaling": plain("e4m3", "e5m2"), "mu_nit": plain("e4m3", "e5m2"), "actnn": compressed(2, "bfloat16"), "gact": compressed(4, "float32"),
    "blpa": blpa,
    **{name: emulation.EMULATIONS[name] for name in ("bf16", "fp16_loss_scaled", "fp8_current", "fp8_delayed", "fp8_block", "mxfp8", "nvfp4")},
}  # fmt: skip

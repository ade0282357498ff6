"""Mistakes of block quantizers: scales, blocks, layouts, second levels, order of operations."""

from __future__ import annotations

import numpy as np
import pytest
from planted_mistakes import accepted, in_time, pairs

from lpref.conformance import run_suite
from lpref.ref.errors import ShapeError

F32 = np.float32
GRID = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], F32)
MIDDLES = (GRID[1:] + GRID[:-1]) / 2
FLT_MAX = np.finfo(F32).max


def e2m1(u: np.ndarray) -> np.ndarray:
    """float32 -> E2M1 codes, nearest even, saturating."""
    a = np.abs(u)
    low = np.searchsorted(MIDDLES, a, "left")
    tie = np.isin(a, MIDDLES) & (low % 2 == 1)
    return ((low + tie) | np.where(np.signbit(u), 8, 0)).astype(np.uint8)


def e4m3(u: np.ndarray) -> np.ndarray:
    """float32 -> E4M3 codes, nearest even, saturating, by the grid of its values."""
    values = np.concatenate([np.arange(8) * 2.0**-9, *[np.ldexp(np.arange(8, 16), e - 3) for e in range(-6, 9)]])[:127]
    a = np.minimum(np.abs(u.astype(np.float64)), 448)
    middles = (values[1:] + values[:-1]) / 2
    low = np.searchsorted(middles, a, "left")
    tie = np.isin(a, middles) & (low % 2 == 1)
    return np.where(np.isnan(u), 0x7F, (low + tie) | np.where(np.signbit(u), 0x80, 0)).astype(np.uint8)


def e4m3_values(codes: np.ndarray) -> np.ndarray:
    """Values of positive E4M3 codes, float32."""
    e, m = codes.astype(np.int64) >> 3, codes.astype(np.int64) & 7
    return np.where(codes == 0x7F, np.nan, np.where(e == 0, m * 2.0**-9, np.ldexp(8.0 + m, e - 10))).astype(F32)


def packed(codes: np.ndarray, flaw: str = "") -> np.ndarray:
    """Two codes a byte, the first in the low nibble."""
    low, high = (codes[:, 1::2], codes[:, ::2]) if flaw == "first element in the high nibble" else (codes[:, ::2], codes[:, 1::2])
    return (low | high << 4).astype(np.uint8)


def blocks_of(x: np.ndarray, k: int) -> np.ndarray:
    """[R, C/k, k]; a ragged tail is filled with zeros."""
    pad = -x.shape[1] % k
    return np.pad(x, ((0, 0), (0, pad))).reshape(x.shape[0], -1, k)


last_call: list[np.ndarray] = []


def mx_exponents(x4: np.ndarray, flaw: str) -> tuple[np.ndarray, np.ndarray]:
    """(shared exponents by the floor rule, which blocks are finite)."""
    if flaw == "amax without abs":
        amax = np.maximum(x4.max(-1), 0)
    elif flaw == "ignores NaN in amax":
        amax = np.fmax.reduce(np.abs(x4), axis=-1)
    elif flaw == "amax over half the lanes":
        amax = np.abs(x4[..., : x4.shape[-1] // 2]).max(-1)
    else:
        amax = np.abs(x4).max(-1)
    if flaw == "amax in bfloat16":
        amax = ((amax.view(np.uint32) + 0x8000) & np.uint32(0xFFFF0000)).view(F32)
    exponent = np.frexp(amax)[1] - 1
    if flaw == "exponent by a float32 logarithm":
        exponent = np.floor(np.log2(np.maximum(amax, F32(2.0**-149)))).astype(np.int64)
    if flaw == "ceil in place of floor":
        exponent = exponent + (np.frexp(amax)[0] > 0.5)
    if flaw == "exponent of amax / 6":
        exponent = np.frexp(amax / F32(6))[1] + 1
    e = exponent - {"largest exponent off by one": 3}.get(flaw, 2)
    low = -126 if flaw == "clamps the exponent at -126" else -127
    finite = np.isfinite(amax)
    return np.where(amax == 0, {"exponent 0 for zero blocks": 0}.get(flaw, low), np.clip(e, low, 127)), finite


def mxfp4(x: np.ndarray, flaw: str = "") -> dict:
    """OCP MX: E2M1 in blocks of 32 along k, E8M0 scales by the floor rule."""
    x4 = blocks_of(x.T.copy() if flaw == "blocks along the other axis" else x, 31 if flaw == "blocks of 31" else 32)
    if flaw == "blocks shifted by one":
        x4 = np.roll(x4.reshape(x.shape[0], -1), -1, 1).reshape(x4.shape)
    if flaw == "leaves the tail out" and x.shape[1] % 32:
        x4[:, -1] = 0
    with np.errstate(all="ignore"):
        e, finite = mx_exponents(x4, flaw)
        if flaw == "scale of the neighbour":
            e = np.roll(e, 1, 0)
        if flaw == "scale of the last call":
            last_call.append(e)
            stale = last_call[max(0, len(last_call) - 2)]
            e = stale if stale.shape == e.shape else e
        scale = np.ldexp(F32(1), e).astype(F32)
        u = np.where(finite[..., None], x4 / scale[..., None], F32(0)).astype(F32)
        if flaw == "rounds x / s to bfloat16 first":
            b = u.view(np.uint32)
            u = ((b + 0x7FFF + (b >> 16 & 1)) & np.uint32(0xFFFF0000)).view(F32)
    codes = e2m1(u).reshape(x4.shape[0], -1)
    if flaw == "flushes subnormals":
        codes = np.where(codes & 7 == 1, codes & 8, codes).astype(np.uint8)
    if flaw == "adds half a step before truncation":
        low = np.searchsorted(GRID, np.abs(u) + F32(0.25), "right") - 1
        codes = (low | np.where(np.signbit(u), 8, 0)).astype(np.uint8).reshape(x4.shape[0], -1)
    if flaw == "drops the sign of zero":
        codes = np.where(codes == 8, 0, codes).astype(np.uint8)
    stored = e + {"E8M0 bias off by one": 126}.get(flaw, 127)
    nan = {"NaN scale is 0xFE": 254, "NaN scale is 0": 0}.get(flaw, 255)
    stored = np.where(finite, stored, nan).astype(np.uint8)
    if flaw == "blocks along the other axis":
        codes, stored = codes.T, stored.T
    if flaw == "scales transposed":
        stored = stored.T.reshape(stored.shape)
    codes = codes[: x.shape[0], : x.shape[1]]
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    return {"codes": packed(codes, flaw), "scales": stored}


def nvfp4(x: np.ndarray, flaw: str = "", square: bool = False) -> dict:
    """NVFP4 in TransformerEngine's order of operations; 1 x 16, or 16 x 16."""
    with np.errstate(all="ignore"):
        x4 = x.reshape(x.shape[0], -1, 16)
        amax_b = np.abs(x4).max(-1)
        if square:
            amax_b = amax_b.reshape(x.shape[0] // 16, 16, -1).max(1)
            if flaw == "square scales transposed":
                amax_b = amax_b.T.reshape(amax_b.shape)
        amax = amax_b.max() if flaw != "amax of the first rows" else np.abs(x[:8]).max()
        s = F32(2688) / amax
        s = np.minimum(s, FLT_MAX) if flaw != "no limit on S" else s
        s = F32(1) if amax == 0 or s == 0 else s
        six = s * (F32(1) / F32(6)) if flaw != "divides S by 6" else s / F32(6)
        wanted = np.clip(amax_b * six, -448, 448)
        d = e4m3(wanted.astype(F32))
        if flaw == "scale rounds up":
            d = np.where((e4m3_values(d) < wanted) & (d < 0x7E), d + 1, d).astype(np.uint8)
        if flaw == "zero scales become the smallest":
            d = np.maximum(d, 1)
        value = e4m3_values(d)
        e = F32(1) / (value * (F32(1) / s)) if flaw != "one division" else s / value
        if flaw != "zero times infinity":
            e = np.minimum(e, FLT_MAX)
        rows = np.repeat(e, 16, 0) if square else e
        u = x4 * rows[..., None] if flaw != "divides by the scale" else x4 / (np.repeat(value, 16, 0) if square else value)[..., None] * s
        dead = np.isnan(np.repeat(value, 16, 0) if square else value)[..., None]
        u = np.where(dead, F32(0), np.clip(u, -6, 6)).astype(F32)
        u = np.nan_to_num(u) if flaw == "zero times infinity" else u
        tensor = F32(amax / F32(2688))
        if flaw == "tensor scale applied twice":
            u = np.clip(u / tensor, -6, 6).astype(F32)
        if flaw == "tensor scale is its reciprocal":
            tensor = s
        if flaw == "tensor scale as 1 / S":
            tensor = F32(1) / s
        if flaw == "tensor scale left out":
            tensor = F32(1)
    return {"codes": packed(e2m1(u).reshape(x.shape), flaw), "scales": d, "tensor_scale": tensor}


def nvfp4_2d(x: np.ndarray, flaw: str = "") -> dict:
    """16 x 16 blocks."""
    return nvfp4(x, flaw, square=True)


def fp8_tile(x: np.ndarray, flaw: str = "") -> dict:
    """E4M3 in 1 x 128 tiles, float32 scales amax / 448, divided."""
    x4 = x.reshape(x.shape[0], -1, 128)
    with np.errstate(all="ignore"):
        amax = np.abs(x4).max(-1)
        if flaw == "amax is at least 1e-4":
            amax = np.maximum(amax, F32(1e-4))
        s = amax / F32({"maps amax to 240": 240}.get(flaw, 448))
        if flaw == "multiplies amax by 1 / 448":
            s = amax * (F32(1) / F32(448))
        if flaw == "scales in bfloat16":
            s = ((s.view(np.uint32) + 0x8000) & np.uint32(0xFFFF0000)).view(F32)
        if flaw == "scales rounded to powers of two":
            s = np.ldexp(F32(1), np.frexp(s)[1] - (np.frexp(s)[0] == 0.5)).astype(F32)
        s = np.where(amax == 0, F32(1), np.where(s == 0, F32(2.0**-149), s)).astype(F32)
        s = np.where(np.isfinite(amax), s, F32(np.nan)).astype(F32)
        u = x4 / s[..., None] if flaw != "multiplies by the reciprocal" else x4 * np.minimum(F32(1) / s, FLT_MAX)[..., None]
        u = np.where(np.isnan(s)[..., None], F32(0), u).astype(F32)
        if flaw == "NaN scale only on the element":
            s = np.where(np.isnan(s), F32(1), s).astype(F32)
        if flaw == "zero scale for zero tiles":
            s = np.where(amax == 0, F32(0), s)
        stored = F32(1) / s if flaw == "stores the inverse scale" else s
    return {"codes": e4m3(u).reshape(x.shape), "scales": stored.astype(F32).view(np.uint32)}


SUBJECTS = {
    "mxfp4": (mxfp4, "mxfp4", (
        "first element in the high nibble", "amax without abs", "ignores NaN in amax", "amax over half the lanes", "amax in bfloat16",
        "exponent by a float32 logarithm", "ceil in place of floor", "exponent of amax / 6", "largest exponent off by one",
        "clamps the exponent at -126", "exponent 0 for zero blocks", "blocks along the other axis", "blocks of 31", "blocks shifted by one",
        "scale of the neighbour", "scale of the last call", "rounds x / s to bfloat16 first",
        "flushes subnormals", "adds half a step before truncation", "drops the sign of zero", "E8M0 bias off by one", "NaN scale is 0xFE",
        "NaN scale is 0", "scales transposed",
    )),
    "mxfp4 with a tail": (mxfp4, "mxfp4:tail=partial", ("leaves the tail out",)),
    "nvfp4": (nvfp4, "nvfp4", (
        "amax of the first rows", "no limit on S", "divides S by 6", "scale rounds up", "zero scales become the smallest",
        "one division", "zero times infinity", "divides by the scale", "tensor scale applied twice", "tensor scale is its reciprocal",
        "tensor scale as 1 / S", "tensor scale left out", "first element in the high nibble",
    )),
    "nvfp4_2d": (nvfp4_2d, "nvfp4_2d", ("square scales transposed",)),
    "fp8_tile1x128": (fp8_tile, "fp8_tile1x128", (
        "amax is at least 1e-4", "maps amax to 240", "multiplies amax by 1 / 448", "scales in bfloat16", "scales rounded to powers of two",
        "multiplies by the reciprocal", "NaN scale only on the element", "zero scale for zero tiles", "stores the inverse scale",
    )),
}  # fmt: skip
WRONG_SHAPES = {"blocks along the other axis", "blocks of 31"}

@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_right_implementation_passes(subject: str) -> None:
    quantize, name, _ = SUBJECTS[subject]
    accepted(quantize, quantizer=name)


@pytest.mark.parametrize(("subject", "flaw"), pairs(SUBJECTS))
def test_the_mistake_is_caught(subject: str, flaw: str) -> None:
    quantize, name, _ = SUBJECTS[subject]
    last_call.clear()
    with in_time():
        if flaw in WRONG_SHAPES:
            with pytest.raises(ShapeError, match="run_suite"):
                run_suite(lambda x: quantize(x, flaw), quantizer=name)
            return
        report = run_suite(lambda x: quantize(x, flaw), quantizer=name)
    assert not report.passed
    assert any("the definition" in o.counterexample for o in report.outcomes)

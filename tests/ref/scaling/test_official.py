"""Scales, codes and values that torchao and bitsandbytes gave on a CPU: recorded once, in `data`, with their versions.

To record again: run the named functions on the `input` of the file; float32 values are stored as their bits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpref.conformance.proves import proves
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import lookup, quantize
from lpref.ref.scaling import double_scales, te_scales

DATA = Path(__file__).parent / "data"
TORCHAO: dict[str, Any] = json.loads((DATA / "torchao_0_18_0.json").read_text(encoding="utf-8"))
BNB: dict[str, Any] = json.loads((DATA / "bitsandbytes_0_50_2.json").read_text(encoding="utf-8"))


def floats(bits: list[int]) -> np.ndarray:
    return np.array(bits, np.uint32).view(np.float32)


X = floats(TORCHAO["input"]).reshape(TORCHAO["shape"])
CASES = [key.split("/") for key in TORCHAO["mx"] if not key.startswith("infinity")]


@proves("quantizer:{name}", "official")
@pytest.mark.parametrize(("name", "mode"), CASES)
def test_mx(name: str, mode: str) -> None:
    """to_mx in its four modes (MXFP4 packed, low nibble first)."""
    want, got = TORCHAO["mx"][f"{name}/{mode}"], quantize(X, f"{name}:scale={mode}")
    assert got.scales[0].reshape(-1).tolist() == want["scales"]
    assert got.codes.reshape(-1).tolist() == want["codes"]


@pytest.mark.parametrize("mode", ["floor", "ceil", "even", "rceil"])
def test_infinity_has_a_finite_scale_there(mode: str) -> None:
    x = X.copy()
    x[0, 0] = np.inf
    got = quantize(x, f"mxfp8_e4m3:scale={mode}:nonfinite=saturate")
    assert got.scales[0].reshape(-1).tolist() == TORCHAO["mx"][f"infinity/{mode}"]["scales"]
    assert got.unpacked()[0, 0] == 0x7E


@proves("quantizer:{name}", "official")
@pytest.mark.parametrize("name", ["nvfp4_torchao", "nvfp4_one_level"])
def test_nvfp4(name: str) -> None:
    want, got = TORCHAO[name], quantize(X, name)
    assert got.scales[0].reshape(-1).tolist() == want["scales"]
    assert got.codes.reshape(-1).tolist() == want["codes"]
    if "tensor_scale" in want:
        assert got.tensor_scale == floats(want["tensor_scale"])[0]


@proves("quantizer:fp8_torchao", "official")
def test_tensorwise_fp8() -> None:
    """amax_to_scale divides in float64 and rounds once: the same, but for its eps, which is not a float32 number."""
    amax = floats(TORCHAO["fp8"]["amax"])
    for key, pow2 in (("scale", "none"), ("pow2", "down")):
        scale = lookup(f"fp8_torchao:pow2={pow2}").scale
        got, want = te_scales(amax, 448.0, scale).factor, floats(TORCHAO["fp8"][key])
        above = amax > 1e-12
        assert (got[above] == want[above]).all()
        assert (np.abs(got / want - 1) <= 2.0**-23)[~above].all()


@proves("quantizer:{name}", "official")
@pytest.mark.parametrize(("key", "name"), [("nf4", "nf4"), ("fp4", "bnb_fp4")])
def test_bitsandbytes_4_bit(key: str, name: str) -> None:
    """quantize_4bit: absmax of 64, the upper nibble first there."""
    want, x = BNB[key], floats(BNB["input"]).reshape(1, -1)
    got = quantize(x, name)
    absmax = floats(want["absmax"])
    live = absmax > 0
    assert (got.scale_values()[0][live] == absmax[live]).all()
    codes = np.array(want["packed"], np.uint8)
    theirs = np.stack([codes >> 4, codes & 15], axis=-1).reshape(-1)
    values = format_named(name).decode(theirs)  # FP4 has two zeros
    assert (got.element_values().reshape(-1) == values).all()
    decoded = floats(want["values"])
    assert (got.dequantize(np.float32).reshape(-1) == decoded).all()


@proves("quantizer:nf4_double", "vectors")
def test_double_quantization() -> None:
    """The mean is a sum of ours, so the offset may differ in its last bits. The CPU kernel of quantize_blockwise takes the other neighbour of a
    few values within 2 % of a step around a midpoint (4 of these 520): not the nearest, which its CUDA kernel searches for."""
    want, q = BNB["double"], lookup("nf4_double")
    amax = floats(want["absmax"]).reshape(-1, 1)
    made = double_scales(amax, 1.0, q.scale)
    offset = floats(want["offset"])[0]
    assert abs(made.aux["offset"] / offset - 1) <= 520 * 2.0**-24
    codes, theirs = made.codes.reshape(-1).astype(int), np.array(want["codes"])
    apart = codes != theirs
    assert np.count_nonzero(apart) == 4
    table = format_named("dynamic8").decode(np.arange(256))
    spread = np.repeat(made.more[0].view(np.float32), 256)[:520]
    u = ((amax.reshape(-1) - made.aux["offset"]) / spread)[apart]
    ours, other = table[codes[apart]], table[theirs[apart]]
    assert (np.abs(u - (ours + other) / 2) <= 0.02 * np.abs(ours - other)).all()
    assert (np.abs(made.more[0].view(np.float32) / floats(want["second"]) - 1) <= 2.0**-20).all()
    assert (np.abs(made.values.reshape(-1) - floats(want["decoded"]))[~apart] <= 2.0**-20 * amax.max()).all()

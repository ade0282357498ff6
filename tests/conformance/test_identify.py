"""identify names the definition behind disguised casts and quantizers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import lpref
from lpref.conformance.identify import identify
from lpref.conformance.targets.base import CastCase, QuantizeCase, Target
from lpref.ref.quantize import lookup, quantize


def cast(name: str, rounding: str = "nearest_even", overflow: str = "saturate"):
    return lambda x: lpref.format(name).encode(x, rounding, overflow)


CASTS = {
    "e4m3 as ONNX": ("e4m3fnuz", "nearest_even", "onnx_sat"),
    "truncating e5m2": ("e5m2", "toward_zero", "ocp_nonsat"),
    "e4m3 with ties away": ("e4m3", "nearest_away", "ocp_nonsat"),
    "bfloat16 to odd": ("bfloat16", "to_odd", "to_infinity"),
    "e2m1 upward": ("e2m1", "toward_positive", "saturate"),
}


@pytest.mark.parametrize("disguise", CASTS)
def test_casts(disguise: str) -> None:
    name, rounding, overflow = CASTS[disguise]
    found = identify(cast(name, rounding, overflow), CastCase(name))
    assert found.best.agreement == 1
    assert all(s["rounding"] == rounding for s in found.best.settings)
    assert overflow in [s["overflow"] for s in found.best.settings]
    assert found.matches[1].agreement < 1


def test_values_in_place_of_codes_and_stochastic_words() -> None:
    f = lpref.format("e4m3")
    found = identify(lambda x: f.round(x, "nearest_toward_zero"), CastCase("e4m3"))
    assert found.best.settings[0]["rounding"] == "nearest_toward_zero"
    found = identify(lambda x, words: f.encode(x, "stochastic_c", words=words, word_bits=8), CastCase("e4m3", rounding="stochastic", word_bits=8))
    assert found.best.agreement == 1
    assert {s["rounding"] for s in found.best.settings} == {"stochastic_c"}


def swap(codes: np.ndarray) -> np.ndarray:
    return (codes << 4 | codes >> 4).astype(np.uint8)


def plain(q, x: np.ndarray) -> dict:
    t = quantize(x, q)
    return {"codes": t.codes, "scales": t.scales[0], "tensor_scale": t.tensor_scale}


def swapped(q, x: np.ndarray) -> dict:
    return {**plain(q, x), "codes": swap(quantize(x, q).codes)}


def unpacked(q, x: np.ndarray) -> dict:
    t = quantize(x, q)
    return {"codes": t.unpacked(), "scales": t.scale_values(), "tensor_scale": t.tensor_scale}


def values(q, x: np.ndarray) -> np.ndarray:
    return quantize(x, q).dequantize(np.float32)


# what is asked -> (what it is, how it answers, words of the scale rule, rounding, overflow, nibble order)
QUANTIZERS = {
    "mxfp4, high nibble first": ("mxfp4", "mxfp4", swapped, "mx format=e8m0 mode=floor", "nearest_even", "saturate", "high nibble first"),
    "mxfp4 as NVIDIA": ("mxfp4", "mxfp4:scale=rceil", plain, "mx format=e8m0 mode=rceil", "nearest_even", "saturate", "low nibble first"),
    "mxfp8 ceil, values": ("mxfp8_e4m3", "mxfp8_e4m3:scale=ceil", values, "mx format=e8m0 mode=ceil", "nearest_even", "saturate", ""),
    "mxfp8 even, NaN on overflow": (
        "mxfp8_e4m3", "mxfp8_e4m3:scale=even:overflow=ocp_nonsat", plain, "mx format=e8m0 mode=even", "nearest_even", "ocp_nonsat", "",
    ),
    "mxfp6, ties away": ("mxfp6_e3m2", "mxfp6_e3m2:rounding=nearest_away", unpacked, "mx format=e8m0 mode=floor", "nearest_away", "saturate", ""),
    "tile, reciprocal": ("fp8_tile1x128", "fp8_tile1x128:apply=mul_inverse", plain, "amax apply=mul_inverse", "nearest_even", "saturate", ""),
    "tile, powers of two": ("fp8_tile1x128", "fp8_tile1x128:pow2=up", plain, "amax pow2=up", "nearest_even", "saturate", ""),
    "int8 row, truncated": ("int8_row", "int8_row:rounding=toward_zero", plain, "amax", "toward_zero", "saturate", ""),
    "nvfp4, high nibble first": ("nvfp4", "nvfp4", swapped, "nvfp4 format=e4m3 apply=te_nvfp4", "nearest_even", "saturate", "high nibble first"),
    "int4 group, floor": ("int4_group", "int4_group:rounding=toward_negative", swapped, "amax", "toward_negative", "saturate", "high nibble first"),
    "mxfp4 at three quarters": (
        "mxfp4", "mxfp4:multiplier=0.75", plain, "mx format=e8m0 mode=floor multiplier=0.75", "nearest_even", "saturate", "low nibble first",
    ),
}  # fmt: skip


@pytest.mark.parametrize("disguise", QUANTIZERS)
def test_quantizers(disguise: str) -> None:
    asked, really, answer, scale, rounding, overflow, order = QUANTIZERS[disguise]
    q = lookup(really)
    found = identify(lambda x: answer(q, x), QuantizeCase(asked))
    assert found.best.agreement == 1, found
    right = {"scale": scale, "rounding": rounding, "overflow": overflow, **({"order": order} if order else {})}
    assert right in found.best.settings, found
    assert {s["rounding"] for s in found.best.settings} == {rounding}
    assert {s.get("order", "") for s in found.best.settings} == {order}
    assert found.matches[1].agreement < 1


class Disguised(Target):
    name = "disguised"

    def cast(self, x, case, words=None):
        return lpref.format(case.format).encode(x, "to_odd")

    def quantize(self, x, case, amax=None, words=None):
        return plain(replace(lookup(case.quantizer), rounding="nearest_away"), x)


def test_targets_and_output() -> None:
    found = identify(Disguised(), CastCase("e4m3"), top=3)
    assert found.best.settings[0]["rounding"] == "to_odd"
    assert str(found).startswith("disguised, e4m3: agreement with each definition\n  100.0000 %  rounding to_odd, overflow saturate | ocp_sat")
    assert len(found.matches) == 3
    assert json.loads(json.dumps(found.to_json()))["matches"][0]["agreement"] == 1
    assert identify(Disguised(), QuantizeCase("mxfp4"), top=1).best.settings[0]["rounding"] == "nearest_away"


def test_something_that_refuses_everything() -> None:
    def refuses(x):
        raise ValueError("no")

    assert identify(refuses, CastCase("e4m3")).best.agreement < 0.5
    assert identify(refuses, QuantizeCase("mxfp4")).matches == ()

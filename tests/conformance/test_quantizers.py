"""run_suite for block quantizers: definitions pass, planted mistakes are found."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lpref.conformance import run_suite
from lpref.conformance.quantizers import parts
from lpref.ref.errors import DTypeError, ShapeError, SpecError
from lpref.ref.quantize import QUANTIZERS, quantize

MX = QUANTIZERS["mxfp4"]
NV = QUANTIZERS["nvfp4"]


def with_more(name: str, change) -> object:
    """run_suite of a quantizer whose answer, as a mapping, was changed."""
    return run_suite(lambda x: change(parts(quantize(x, name))), quantizer=name)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("uint8_affine", lambda p: p | {"zero": p["zero"] + 1}, "zero[0, 0]: got"),
        ("uint8_affine", lambda p: p | {"zero": None}, "zero: none came back"),
        ("nf4_double", lambda p: p | {"scales": (p["scales"][0], p["scales"][1] * 2)}, "scales of level 1["),
        ("nf4_double", lambda p: p | {"scales": p["scales"][0]}, "scales of level 1: none came back"),
        ("s2fp8", lambda p: p | {"aux": {**p["aux"], "alpha": p["aux"]["alpha"] * 2}}, "alpha[]: got"),
        ("s2fp8", lambda p: p | {"aux": None}, "alpha: none came back"),
        ("trit_planes", lambda p: p | {"residual": None}, "no second tensor"),
        ("trit_planes", lambda p: p | {"residual": parts(p["residual"]) | {"codes": p["residual"].codes ^ 1}}, "second tensor: x["),
    ],
)
def test_what_more_a_definition_has_is_compared(name: str, change, message: str) -> None:
    assert with_more(name, lambda p: p).passed
    report = with_more(name, change)
    assert not report.passed
    assert any(o.counterexample.startswith(message) for o in report.outcomes), report


@pytest.mark.parametrize("name", QUANTIZERS)
def test_the_definition_passes_against_itself(name: str) -> None:
    q = QUANTIZERS[name]
    report = run_suite(lambda x: quantize(x, q), quantizer=name)
    assert report.passed, report
    assert report.cases > 3000


def test_other_shapes_of_an_answer() -> None:
    def unpacked(x):
        t = quantize(x, MX)
        return {"codes": t.unpacked(), "scales": t.scale_values()}

    assert run_suite(unpacked, quantizer=MX)
    assert run_suite(lambda x: quantize(x, MX).dequantize(np.float32), quantizer=MX)
    assert run_suite(lambda x: quantize(x, MX).dequantize(), quantizer=MX)


def test_stochastic_words_are_passed() -> None:
    q = dataclasses.replace(NV, rounding="stochastic")
    assert run_suite(lambda x, words: quantize(x, q, words=words), quantizer=q)
    assert not run_suite(lambda x, words: quantize(x, q, words=words ^ np.uint32(1)), quantizer=q)


def test_tails() -> None:
    q = dataclasses.replace(MX, tail="partial")
    assert "ragged tail" in [o.name for o in run_suite(lambda x: quantize(x, q), quantizer=q).outcomes]


def other(q, **how):
    return lambda x: quantize(x, dataclasses.replace(q, **how))


def neighbour_scale(x):
    t = quantize(x, MX)
    return {"codes": t.codes, "scales": np.roll(t.scales[0], 1, axis=0)}


def high_nibble_first(x):
    codes = quantize(x, MX).codes
    return {"codes": codes << 4 | codes >> 4, "scales": quantize(x, MX).scales[0]}


def reciprocal(x):
    """x · (1/s) in place of NVFP4's double reciprocal; scales are right."""
    t = quantize(x, NV)
    s = np.repeat(t.scale_values(), 16, 1) * t.tensor_scale
    with np.errstate(all="ignore"):
        from lpref.ref.formats import format

        u = np.where(s > 0, x / s, np.float32(0))
        return {
            "codes": format("e2m1").encode(np.nan_to_num(u, posinf=6, neginf=-6)),
            "scales": t.scales[0],
            "tensor_scale": t.tensor_scale,
        }


PLANTED = {
    "ties away": (other(MX, rounding="nearest_away"), MX, "x["),
    "ceil scale": (other(MX, scale=dataclasses.replace(MX.scale, mode="ceil")), MX, "scale of block"),
    "other block": (other(MX, blocks=dataclasses.replace(MX.blocks, k=16)), MX, ""),
    "scale of the neighbour": (neighbour_scale, MX, "scale of block"),
    "nibbles swapped": (high_nibble_first, MX, "x["),
    "NVFP4 division": (reciprocal, NV, "x["),
    "no tensor scale": (
        lambda x: {"codes": quantize(x, NV).codes, "scales": quantize(x, NV).scales[0]},
        NV,
        "tensor scale: got 1.0",
    ),
    "no scales": (lambda x: {"codes": quantize(x, MX).codes}, MX, "no block scales"),
    "values off": (lambda x: quantize(x, other(MX, rounding="toward_zero")(x).quantizer).dequantize(), MX, "x["),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistakes_are_found(mistake: str) -> None:
    fn, q, message = PLANTED[mistake]
    if mistake == "other block":
        with pytest.raises(ShapeError, match="scales"):
            run_suite(fn, quantizer=q)
        return
    report = run_suite(fn, quantizer=q)
    assert not report
    assert any(o.counterexample.startswith(message) for o in report.outcomes)


def test_what_cannot_be_compared_says_so() -> None:
    with pytest.raises(SpecError, match="give one of the two"):
        run_suite(lambda x: x)
    with pytest.raises(DTypeError, match="codes are int8, not unsigned"):
        run_suite(lambda x: {"codes": x.astype(np.int8)}, quantizer=MX)
    with pytest.raises(DTypeError, match="returned int64"):
        run_suite(lambda x: np.zeros(x.shape, int), quantizer=MX)
    with pytest.raises(ShapeError, match="codes of shape"):
        run_suite(lambda x: {"codes": np.zeros((2, 2), np.uint8), "scales": quantize(x, MX).scales[0]}, quantizer=MX)

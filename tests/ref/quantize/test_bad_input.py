"""What quantizers refuse: words, inputs, definitions, names, tails; each a typed error."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.errors import FormatError, ShapeError, SpecError, UnknownNameError, WordsError
from lpref.ref.quantize import QUANTIZERS, Blocks, GradRule, Quantizer, Scale, lookup, quantize

RNG = np.random.default_rng(0)

X = RNG.standard_normal((128, 512)).astype(np.float32)


def test_tail_error_names_the_axis() -> None:
    with pytest.raises(ShapeError, match=r"axis 1 is 100, not a multiple of the block of 32; pad to 128"):
        quantize(np.zeros((4, 100), np.float32), "mxfp4")


def test_bad_words() -> None:
    q = lookup("mxfp4:rounding=stochastic")
    with pytest.raises(WordsError, match="needs random words"):
        quantize(X, q)
    with pytest.raises(WordsError, match="words float32"):
        quantize(X, q, words=X)
    with pytest.raises(WordsError):
        quantize(X, q, words=np.zeros((3, 3), np.uint32))


def test_bad_input() -> None:
    with pytest.raises(FormatError, match="complex64"):
        quantize(X.astype(np.complex64), "mxfp4")
    with pytest.raises(FormatError):
        quantize(np.array(["a"]), "mxfp4")
    with pytest.raises(ShapeError, match="amax of shape"):
        quantize(X, "mxfp4", amax=np.ones(3))
    with pytest.raises(ShapeError, match="a step of shape"):
        quantize(X, "int4_learned", state={"scale": np.ones(3)})
    with pytest.raises(SpecError, match="not a positive number"):
        quantize(X, lookup("int4_learned:eps=0"), state={"scale": -1.0})


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Quantizer("e4m4x"), "format: "), (lambda: Quantizer("e4m3", rounding="nearst"), "nearest"),
        (lambda: Quantizer("e4m3", overflow="saturat"), "did you mean 'saturate'"), (lambda: Quantizer("e4m3", tail="pad"), "tail: unknown 'pad'"),
        (lambda: Quantizer("e4m3", word_bits=7), "word_bits: 7"), (lambda: Quantizer("float32"), "32 bits"),
        (lambda: Quantizer("nf4", scale=Scale("mx", format="e8m0")), "code book"), (lambda: Blocks(0, 3), "blocks.other is 0"),
        (lambda: Scale("amx"), "did you mean 'amax'"), (lambda: Scale("mx"), "e8m0"),
        (lambda: Scale("te", apply="mul_inverse", multiplier=0.75), "does not read it"),
        (lambda: Scale("nvfp4", format="e4m3"), "te_nvfp4"), (lambda: Scale(eps=-1), "eps"), (lambda: GradRule("stee"), "gradient.kind"),
        (lambda: lookup("mxfp4:scal=rceil"), "did you mean 'scale'"), (lambda: lookup("mxfp4:k=a"), "cannot read 'a'"),
        (lambda: Quantizer("e4m3", Blocks(1, 32), Scale("te", apply="mul_inverse", history="delayed")), "one amax per tensor"),
    ],
)  # fmt: skip
def test_bad_definitions_are_value_errors(make, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_names() -> None:
    assert lookup("nvfp4@1") is QUANTIZERS["nvfp4"]
    assert lookup("mxfp4:scale=rceil:k=16:tail=pad_zero").blocks == Blocks(1, 16)
    assert all(q.name == n and q.standard for n, q in QUANTIZERS.items())
    for bad in ("nvfp", "nvfp4@7"):
        with pytest.raises(UnknownNameError):
            lookup(bad)
    assert len({hash(q) for q in QUANTIZERS.values()}) == len(QUANTIZERS)

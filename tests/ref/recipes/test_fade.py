"""Quantization that is faded in: (1 - fade) v + fade Q(v)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpref.accel.reference import ReferenceBackend
from lpref.ref.errors import SpecError
from lpref.ref.recipes import Context, LinearRecipe, Recipe, linear_backward, linear_forward
from lpref.specs import recipe

OPS, CTX = ReferenceBackend("exact"), Context(seed=1, step=1, site="h")


def faded(fade: float) -> LinearRecipe:
    linear = recipe("continual_qat_fade").linear
    spec = linear.fprop
    return replace(linear, fprop=replace(spec, a=replace(spec.a, fade=fade), b=replace(spec.b, fade=fade)))


def test_the_ends_are_the_plain_and_the_quantized_layer() -> None:
    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal(s).astype(np.float32) for s in ((6, 16), (5, 16), (6, 5)))
    for linear, other in ((faded(0.0), LinearRecipe()), (faded(1.0), recipe("bitnet_b158").linear)):
        y, saved = linear_forward(x, w, linear, CTX, OPS)
        want, kept = linear_forward(x, w, other, CTX, OPS)
        np.testing.assert_array_equal(y, want)
        one, two = linear_backward(dy, saved, linear, CTX, OPS), linear_backward(dy, kept, other, CTX, OPS)
        np.testing.assert_array_equal(one.dx, two.dx)
        np.testing.assert_array_equal(one.dw, two.dw)


def test_in_between_both_count() -> None:
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((6, 16), (5, 16)))
    linear = faded(0.25)
    q = [OPS.operand(t, slot.quantizer, k_axis=1).dequantize(np.float32) for t, slot in ((x, linear.fprop.a), (w, linear.fprop.b))]
    both = [v * np.float32(0.75) + one * np.float32(0.25) for v, one in zip((x, w), q, strict=True)]
    y, _ = linear_forward(x, w, linear, CTX, OPS)
    np.testing.assert_array_equal(y, OPS.matmul(both[0], both[1].T))


def test_only_forward_quantizers_fade() -> None:
    base = recipe("bitnet_b158").linear
    for bad in (replace(base, dgrad=replace(base.dgrad, b=replace(base.dgrad.b, fade=0.5))), faded(-0.5)):
        with pytest.raises(SpecError, match=r"fade: -?0\.5; a number from 0 to 1"):
            Recipe("r", linear=bad)

"""The family of quantization-aware training: operands against `emulation_qat`, equal bits on reference and cpu, and what the pages say they show.

A new page of the family comes under the parametrised tests by itself; its operands by a row in `emulation_qat.EMULATIONS`.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lpref.accel import backend
from lpref.accel.reference import ReferenceBackend
from lpref.conformance.proves import proves
from lpref.models.gpt import GPT, GPTConfig
from lpref.ref.optim import OptimContext, optimizer
from lpref.ref.quantize import GradRule
from lpref.ref.recipes import Context, linear_backward, linear_forward, linear_parameters
from lpref.specs import RECIPE, recipe

from . import emulation_qat
from .recorder import Recorder, assert_operands

FAMILY = [name for name in RECIPE.names() if recipe(name).family == "qat"]
RUNNING = [name for name in FAMILY if recipe(name).executable]
CTX = Context(seed=7, step=3, site="h.0.attn.qkv")
SMALL = GPTConfig(vocab=40, context=32, layers=2, d_model=32, heads=2, ffn=64)


def tensors(seed: int = 0, m: int = 64, n: int = 96, k: int = 128):
    rng = np.random.default_rng(seed)
    x, w, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (n, k), (m, n)))
    return x, w * np.float32(0.05), dy * np.float32(1e-3)


def layer(linear, x, w, dy, ops=None, params=None):
    ops = ops or ReferenceBackend("exact")
    params = linear_parameters(x, w, linear, ops, CTX) if params is None else params
    y, saved = linear_forward(x, w, linear, CTX, ops, params)
    return y, linear_backward(dy, saved, linear, CTX, ops)


@proves("recipe:{name}", "oracle")
@pytest.mark.parametrize("name", emulation_qat.EMULATIONS)
def test_operands_are_the_cards(name: str) -> None:
    x, w, dy = tensors()
    ops = Recorder()
    layer(recipe(name).linear, x, w, dy, ops)
    wanted = emulation_qat.EMULATIONS[name](x, w, dy)
    assert_operands(ops, wanted, name)


def trained(name: str, ops, steps: int = 2):
    """The parameters of a small GPT after `steps` steps on `ops`."""
    made = recipe(name)
    model = GPT(SMALL, made, 0, ops)
    rule = optimizer("adamw", lr=1e-3)
    for step in range(steps):
        ids = np.random.default_rng(step).integers(0, 40, (2, 33))
        batch = SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:])
        if step == 0:
            model.loss(batch, Context(seed=0, init=True))
            state = rule.init(model.arrays())
        loss = model.loss(batch, Context(seed=0, step=step, update=step))
        loss.backward()
        params, state = rule.update(model.arrays(), model.grads(), state, OptimContext(step=step, update=step, seed=0, lr=1e-3), ops)
        model.set_arrays(params)
    return model.arrays()


@proves("recipe:{name}", "cpu")
@pytest.mark.parametrize("name", RUNNING)
def test_two_steps_have_equal_bits_on_the_cpu_backend(name: str) -> None:
    one, other = (trained(name, backend(kind, "exact")) for kind in ("reference", "cpu"))
    assert one.keys() == other.keys()
    for key in one:
        assert np.isfinite(one[key]).all(), key
        np.testing.assert_array_equal(one[key].view(np.uint32), other[key].view(np.uint32), key)


# ---- what the pages show


def test_trust_without_a_bound_is_straight_through() -> None:
    """QuEST with T = inf: dX = dY W^ rotated back, masked nowhere."""
    x, w, dy = tensors(1)
    linear = recipe("quest").linear
    free = GradRule("trust", {"threshold": float("inf")})
    spec = replace(linear.fprop, a=replace(linear.fprop.a, quantizer=replace(linear.fprop.a.quantizer, gradient=free)))
    ops = Recorder()
    _, grads = layer(replace(linear, fprop=spec), x, w, dy, ops)
    product = ops.ops.gemm(*ops.pairs[1])
    np.testing.assert_array_equal(grads.dx, ops.ops.hadamard_inverse(product, 128, axis=1))
    assert (layer(linear, x, w, dy)[1].dx != grads.dx).any()


def test_ternary_codes_of_a_gaussian_are_31_percent_zeros() -> None:
    """P(|w| < mean|w| / 2) = 2 Phi(phi) - 1 at phi = sqrt(2 / pi) / 2: 0.3101. Three standard deviations of 2^16 draws are 0.0055."""
    w = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    for name in ("bitnet_b158", "trilm"):
        codes = backend("cpu", "exact").operand(w, recipe(name).linear.fprop.b.quantizer, k_axis=1)
        assert set(np.unique(codes.element_values())) == {-1.0, 0.0, 1.0}
        assert abs((codes.element_values() == 0).mean() - 0.3101) < 0.0055


def test_lsq_plus_without_an_offset_is_lsq() -> None:
    x, w, dy = tensors(2)
    linear = recipe("lsq").linear
    q = linear.fprop.a.quantizer
    plus = replace(linear.fprop, a=replace(linear.fprop.a, quantizer=replace(q, gradient=GradRule("lsq_plus"))))
    params = {"x_step": np.float32(0.3), "w_step": np.float32(0.02)}
    y, grads = layer(linear, x, w, dy, params=params)
    y_plus, grads_plus = layer(replace(linear, fprop=plus), x, w, dy, params={**params, "x_offset": np.float32(0)})
    # the offset's operand holds values where LSQ's holds codes under one scale: another order of the same roundings
    bound = (x.shape[1] + 8) * 2.0**-24 * (np.abs(x).max() * np.abs(w).max() * x.shape[1])
    assert (np.abs(y - y_plus) <= bound).all()
    np.testing.assert_array_equal(grads.dx, grads_plus.dx)
    np.testing.assert_array_equal(grads.dparams["x_step"], grads_plus.dparams["x_step"])
    assert grads_plus.dparams["x_offset"] != 0


@pytest.mark.parametrize(("name", "stop"), [("aqt", 0.5), ("continual_qat", 0.4), ("compute_optimal_qat", 0.72)])
def test_a_float_phase_is_float32(name: str, stop: float) -> None:
    from lpref.ref.recipes import EXEMPT

    made, steps = recipe(name), 1000
    first = round(stop * steps)
    for step, quantized in ((0, False), (first - 1, False), (first, True), (steps - 1, True)):
        linear = made.at(step, steps).for_layer("h.0.mlp.up", "mlp_up", 0, 2)
        assert (linear == made.linear) == quantized
        assert quantized or all(linear.slot(f"{g}.{s}").quantizer is None for g in ("fprop", "dgrad", "wgrad") for s in "ab")
    x, w, dy = tensors(3)
    y, grads = layer(made.at(0, steps).linear, x, w, dy)
    plain, plain_grads = layer(EXEMPT, x, w, dy)
    np.testing.assert_array_equal(y, plain)
    np.testing.assert_array_equal(grads.dw, plain_grads.dw)

"""Customized formats and precision schedules: operands against `emulation_customized`, both CPU backends, and what the pages say they show.

A new page of the family comes under the test of two steps by itself; its operands by a row in `emulation_customized.EMULATIONS`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpref.accel import backend
from lpref.accel.reference import ReferenceBackend
from lpref.conformance.proves import proves
from lpref.ref.quantize import lookup, quantize
from lpref.ref.recipes import Context, linear_backward, linear_forward
from lpref.specs import RECIPE, recipe
from lpref.trainer import setup
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.loop import start_state
from lpref.trainer.passes import step_of
from lpref.trainer.spec import load_spec

from . import emulation, emulation_customized
from .recorder import Recorder, assert_operands

FAMILY = [name for name in RECIPE.names() if recipe(name).family == "customized" and recipe(name).executable]
EXACT, DATA = ReferenceBackend("exact"), load_data("stdlib")


def tensors(seed: int = 0, m: int = 64, n: int = 96, k: int = 128):
    rng = np.random.default_rng(seed)
    x, w, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (n, k), (m, n)))
    x[:, 3] *= 20
    return x, w * np.float32(0.05), dy * np.float32(1e-2)


def layer(linear, x, w, dy, ops=EXACT, step: int = emulation.STEP):
    ctx = Context(seed=emulation.SEED, step=step, site=emulation.SITE)
    y, saved = linear_forward(x, w, linear, ctx, ops)
    return y, linear_backward(dy, saved, linear, ctx, ops)


@proves("recipe:{name}", "oracle")
@pytest.mark.parametrize("name", emulation_customized.EMULATIONS)
def test_operands_are_the_cards(name: str) -> None:
    x, w, dy = tensors()
    ops = Recorder()
    layer(recipe(name).linear, x, w, dy, ops)
    wanted = emulation_customized.EMULATIONS[name](x, w, dy)
    assert_operands(ops, wanted, name, np.float32)


def trained(name: str, kind: str, steps: int = 2) -> dict[str, np.ndarray]:
    spec = load_spec("train/ci_gpt", ["model.layers=1", "model.context=32", "data.valid_windows=2", "train.steps=2", f"recipe={name}"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "load_backend", lambda spec: backend(kind, "exact"))
        run = setup.prepare(spec, data=DATA)
    state = start_state(run)
    with np.errstate(all="ignore"):
        for step in range(steps):
            state, result = step_of(run, state, [train_batch(DATA, run.length, 2, 1, step, 0, 2)], False)
            assert np.isfinite(result.loss)
    return run.model.arrays()


@proves("recipe:{name}", "cpu")
@pytest.mark.parametrize("name", FAMILY)
def test_two_steps_have_equal_bits_on_the_cpu_backend(name: str) -> None:
    one, other = trained(name, "reference"), trained(name, "cpu")
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key].view(np.uint32), other[key].view(np.uint32), key)


def test_double_quantization_is_unbiased_over_all_words() -> None:
    """TetraJet: the mean of Q_S(Q_D(x)) over all 256 words is Q_D(x): no element of Q_D(x) saturates, and 3/4 steps are multiples of 2^-8."""
    x = tensors(1)[0][:32, :64]
    forward = quantize(x, lookup("mxfp4_tetrajet")).dequantize()
    q = replace(lookup("mxfp4_tetrajet"), rounding="stochastic")
    mean = np.mean([quantize(forward.astype(np.float32), q, words=np.full(x.shape, w, np.uint8), k_axis=0).dequantize() for w in range(256)], axis=0)
    step = np.abs(forward).reshape(1, 32, 64).max(1) * 2.0**-8
    assert (np.abs(mean - forward) <= step).all()
    inside = np.isclose(mean, forward, rtol=0, atol=1e-12 * np.abs(forward).max())
    assert inside.mean() > 0.9  # what the eight bits of a word resolve is exact


@pytest.mark.parametrize("name", ["tetrajet", "mxfp4"])
def test_backward_is_unbiased_for_what_forward_multiplied(name: str) -> None:
    """Over 200 steps of words the mean of dX tends to the product of the values: within six standard errors in every element but rare ones."""
    x, w, dy = tensors(2, 32, 32, 64)
    linear = recipe(name).linear
    plain = {gemm: replace(linear.gemm(gemm), output="float32") for gemm in ("fprop", "dgrad", "wgrad")}
    linear = replace(linear, **plain)
    draws = np.array([layer(linear, x, w, dy, backend("cpu", "exact"), step)[1].dx.astype(np.float64) for step in range(200)])
    wq = quantize(w, lookup("mxfp4_tetrajet")).dequantize() if name == "tetrajet" else w.astype(np.float64)
    error = draws.mean(0) - dy.astype(np.float64) @ wq
    z = error / (draws.std(0) / np.sqrt(200) + 1e-12)
    assert np.abs(z).max() < 6
    assert abs(z.mean()) < 0.2


def test_halo_codes_are_one_set() -> None:
    """Level 0 differentiates the function that forward computed: its dX is dY' W' with the forward pass' own values of W."""
    x, w, dy = tensors(3)
    ops = Recorder()
    layer(recipe("halo_level0").linear, x, w, dy, ops)
    np.testing.assert_array_equal(ops.pairs[0][1].dequantize(), ops.pairs[1][1].dequantize())
    np.testing.assert_array_equal(ops.pairs[0][0].dequantize(), ops.pairs[2][1].dequantize())


def test_muppet_ends_in_float32_and_pfq_at_eight_bits() -> None:
    from lpref.ref.recipes.change import in_force
    from lpref.ref.recipes.controllers import kind_of

    last = kind_of(recipe("muppet").controllers[0]).levels[-1]
    assert all(in_force(recipe("muppet"), [last]).linear.slot(s).quantizer is None for s in ("fprop.a", "fprop.b", "dgrad.a", "wgrad.b"))
    pfq = kind_of(recipe("fractrain_pfq").controllers[0]).levels[-1]
    assert in_force(recipe("fractrain_pfq"), [pfq]).linear == recipe("cpt").linear


def test_the_booster_s_tail() -> None:
    booster = recipe("accuracy_booster")
    assert booster.at(98, 100).linear.dgrad.a.quantizer.format == "int4"
    assert booster.at(99, 100).linear == booster.variants["six"]

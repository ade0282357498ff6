"""Recipes whose products are sums, and the binary ones: operands bit for bit against `emulation_sums`, both CPU backends, what the pages show."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lpref.accel import backend
from lpref.accel.reference import ReferenceBackend
from lpref.conformance.proves import proves
from lpref.models.gpt import GPT, GPTConfig
from lpref.models.model import Model
from lpref.models.parameters import LinearSite, stored
from lpref.ref.errors import SpecError
from lpref.ref.optim import OptimContext, optimizer
from lpref.ref.quantize import quantize
from lpref.ref.recipes import Context, linear_backward, linear_forward, linear_parameters
from lpref.ref.recipes.fallback import first_threshold, next_threshold
from lpref.specs import recipe
from lpref.trainer.quantizers import states_of

from . import emulation, emulation_sums
from .recorder import Recorder

EXACT = ReferenceBackend("exact")
NAMES = [*emulation_sums.EMULATIONS]
SMALL = GPTConfig(vocab=40, context=16, layers=2, d_model=32, heads=2, ffn=48)
U = 2.0**-24


def tensors(name: str = "", m: int = 64, n: int = 96, k: int = 128):
    """X with an outlier column; for fallback a second block of rows that is larger than the threshold."""
    rng = np.random.default_rng(0)
    m, k = (160, 160) if name == "int8_fallback" else (m, k)
    x, w, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (n, k), (m, n)))
    if name == "int8_fallback":
        x[:128] *= np.float32(0.2)
    else:
        x[:, 3] *= 20
    spread = np.exp(rng.standard_normal((m, 1))).astype(np.float32)
    return x, w[:, : k // 2].copy() if name == "ifairy" else w * np.float32(0.3), dy * spread * np.float32(1e-2)


def layer(name: str, x, w, dy, ops=EXACT, **changes):
    linear = recipe(name).linear
    ctx = replace(Context(seed=emulation.SEED, step=emulation.STEP, site=emulation.SITE), **changes)
    params = linear_parameters(x, w, linear, ops)
    params |= {key: np.float32(0.5 if key == "x_step" else 0.05) for key in params}
    y, saved = linear_forward(x, w, linear, ctx, ops, params)
    return y, linear_backward(dy, saved, linear, ctx, ops)


@proves("recipe:{name}", "oracle")
@pytest.mark.parametrize("name", emulation_sums.EMULATIONS)
def test_operands_are_the_cards(name: str) -> None:
    x, w, dy = tensors(name)
    ops = Recorder()
    layer(name, x, w, dy, ops)
    wanted = emulation_sums.EMULATIONS[name](x, w, dy)
    assert len(ops.pairs) == len(wanted)
    for number, (pair, want) in enumerate(zip(ops.pairs, wanted, strict=True)):
        for side, operand, values in zip("ab", pair, want, strict=True):
            np.testing.assert_array_equal(operand.dequantize(), values, err_msg=f"{name} product {number} {side}")


@proves("recipe:{name}", "cpu")
@pytest.mark.parametrize("name", NAMES)
def test_a_layer_has_the_bits_of_the_reference_on_the_cpu(name: str) -> None:
    for shape in ({}, {"m": 33, "n": 18, "k": 22}):
        x, w, dy = tensors(name, **shape)
        results = []
        for ops in (EXACT, backend("cpu", "exact")):
            y, grads = layer(name, x, w, dy, ops)
            results.append([y, grads.dx, grads.dw, *grads.dparams.values()])
        for one, other in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)
            assert np.isfinite(one).all()


def steps(name: str, ops, count: int = 2):
    """The parameters of a small GPT after `count` steps."""
    model: Model = GPT(SMALL, recipe(name), 0, ops)
    rule, states = optimizer("adamw", lr=1e-3), states_of(model.recipes)
    state, kept = {}, states.start()
    for step in range(count):
        ids = np.random.default_rng(step).integers(0, 40, (2, SMALL.context + 1))
        context = Context(seed=0, step=step, update=step, state=kept, init=step == 0)
        batch = SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:])
        if step == 0:
            model.loss(batch, context)  # makes learned parameters
            state, context = rule.init(model.arrays()), replace(context, init=False)
        context = replace(context, observed={})
        model.loss(batch, context).backward()
        kept = states.update(kept, {place: [seen] for place, seen in context.observed.items()})
        params, state = rule.update(model.arrays(), model.grads(), state, OptimContext(step=step, update=step, seed=0, lr=1e-3), ops)
        model.set_arrays(params)
    return model.arrays(), kept


@proves("recipe:{name}", "cpu")
@pytest.mark.parametrize("name", NAMES)
def test_two_steps_have_the_bits_of_the_reference_on_the_cpu(name: str) -> None:
    (one, kept), (other, also) = (steps(name, ops) for ops in (EXACT, backend("cpu", "exact")))
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], key)
    assert kept == also


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_that_runs_again_sees_the_same_words(name: str) -> None:
    x, w, dy = tensors(name)
    one, other = (layer(name, x, w, dy)[1] for _ in range(2))
    np.testing.assert_array_equal(one.dw, other.dw)
    np.testing.assert_array_equal(one.dx, other.dx)


def test_luq_is_unbiased_over_all_words() -> None:
    """Gradients on a 256th of their interval: the mean over the 256 words is the tensor, below alpha and between powers."""
    q = recipe("luq").linear.dgrad.a.quantizer
    dy = np.float32([[16, 0.25 * 3 / 256, 0.25 * 255 / 256, -1 - 17 / 256, 4 + 4 * 200 / 256, -0.5, 0]])
    values = [quantize(dy, q, words=np.full(dy.shape, word, np.uint8)).dequantize() for word in range(256)]
    np.testing.assert_array_equal(np.mean(values, axis=0), dy.astype(np.float64))


def test_two_samples_halve_the_variance() -> None:
    """Var dW of the two-sample estimator over 48 steps, by the ratio of sums of squares; half, within a fifth."""
    x, w, dy = tensors("luq")
    exact, spread = layer("luq", x, w, dy)[0], {}
    for name in ("luq", "luq_smp2"):
        made = np.stack([layer(name, x, w, dy, step=step)[1].dw for step in range(48)]).astype(np.float64)
        spread[name] = float(np.square(made - made.mean(axis=0)).sum())
    assert exact.shape == (64, 96)
    assert 0.4 < spread["luq_smp2"] / spread["luq"] < 0.6


def test_two_phases_err_less_together_than_either() -> None:
    dy = np.float32(np.exp(np.random.default_rng(1).standard_normal((64, 64)) * 2))
    linear = recipe("ultra_low_4bit").linear
    even, odd = (quantize(dy, slot.quantizer).dequantize() for slot in (linear.dgrad.a, linear.wgrad.a))
    error = [float(np.abs(v - dy).sum()) for v in (even, odd, (even + odd) / 2)]
    assert error[2] < min(error[:2])


def test_outlier_compensation_at_one_and_a_straight_gradient_are_the_plain_cast() -> None:
    plain = {
        "base": "fp4_dge_occ",
        "set": {"linear.fprop.a.split.keep": 1.0, "linear.fprop.b.quantizer.gradient": {"kind": "dge", "params": {"k": 1.0}}},
    }
    x, w, dy = tensors()
    made = recipe(plain).linear
    ctx = Context(site="h")
    y, saved = linear_forward(x, w, made, ctx, EXACT)
    grads = linear_backward(dy, saved, made, ctx, EXACT)
    q = made.fprop.b.quantizer
    xq, wq = (EXACT.operand(t, q, k_axis=1) for t in (x, w))
    np.testing.assert_array_equal(y, EXACT.gemm(xq, wq))
    want = EXACT.gemm(EXACT.operand(dy, None, k_axis=0), EXACT.operand(xq.dequantize(np.float32), None, k_axis=0))
    np.testing.assert_array_equal(grads.dw, want)


def test_outliers_are_two_percent() -> None:
    x, w, _ = tensors()
    linear = recipe("fp4_dge_occ").linear
    _, saved = linear_forward(x, w, linear, Context(site="h"), EXACT)
    beyond = saved.entries["x"].of["outliers"].dequantize()
    assert 0 < np.count_nonzero(beyond) <= 0.02 * x.size + 2


def test_one_bit_gradients() -> None:
    spec = recipe("fqt_1bit").linear.dgrad
    assert spec.sampling.share * 4 == 1
    x, w, dy = tensors("fqt_1bit")
    _, grads = layer("fqt_1bit", x, w, dy)
    assert np.count_nonzero(grads.dx.any(axis=1)) == 16


def test_a_product_of_signs_is_popcount() -> None:
    x, w, dy = tensors("bnn")
    y, _ = layer("bnn", x, w, dy)
    k, scale = x.shape[1], emulation_sums.binary_connect_scale(x.shape[1])
    agree = ((x[:, None] < 0) == (w[None] < 0)).sum(axis=-1)
    np.testing.assert_array_equal(y, scale * (2 * agree - k))


def test_the_threshold_moves_into_its_band() -> None:
    split = recipe("int8_fallback").linear.fprop.a.split
    state = first_threshold(split)
    assert state == {"threshold": np.float32(1)}
    blocks = np.random.default_rng(0).exponential(3.0, 100)
    for _ in range(40):
        state = next_threshold(split, state, [{"blocks": 100, "fallen": int((blocks > state["threshold"]).sum())}])
    assert 10 <= (blocks > state["threshold"]).sum() <= 30
    assert next_threshold(split, state, []) == state
    still = replace(split, band=())
    assert first_threshold(still) == {}
    assert next_threshold(still, {}, [{"blocks": 1, "fallen": 1}]) == {}


def test_a_state_is_read_not_the_page() -> None:
    x, w, dy = tensors("int8_fallback")
    key = f"{emulation.SITE}/fprop/a/threshold"
    high = {key: {"threshold": np.float32(1e9)}}
    observed: dict = {}
    y, _ = layer("int8_fallback", x, w, dy, state=high, observed=observed)
    assert observed[key] == {"blocks": 4, "fallen": 0}
    plain = layer("int8_fallback", x, w, dy)[0]
    assert (y[128:] != plain[128:]).any()
    np.testing.assert_array_equal(y[:128], plain[:128])
    layer("int8_fallback", x, w, dy, observed=observed)
    assert observed[key] == {"blocks": 8, "fallen": 2}


def test_complex_layers_need_pairs_and_no_convolution() -> None:
    linear = recipe("ifairy").linear
    with pytest.raises(SpecError, match="21 inputs, 32 outputs; pairs need even numbers"):
        stored([], {"h": LinearSite("h", "fc", 0, 1, 32, 21, 1)}, {"h": linear})
    with pytest.raises(SpecError, match="h: a conv layer cannot be complex"):
        stored([], {"h": LinearSite("h", "conv", 0, 1, 32, 20, 1)}, {"h": linear})
    model = GPT(SMALL, recipe("ifairy"), 0, EXACT)
    assert model.params["h.0.attn.qkv.weight"].shape == (96, 16)
    assert model.params["head.weight"].shape == (40, 32)


def test_tables_of_operands_show_parts() -> None:
    text = recipe("int4_hq_lss")._repr_html_()
    assert "residual split: hi int4, blocks all x all (other x k), nearest_even; lo int4, blocks all x all (other x k), stochastic" in text
    assert "complex split: reuse_transposed" in recipe("ifairy")._repr_html_()
    assert "outliers split: body e2m1, blocks 1 x all (other x k), nearest_even; outliers in high precision" in recipe("fp4_dge_occ")._repr_html_()

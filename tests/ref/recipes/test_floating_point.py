"""Floating-point recipes and compressed activations: operands against `emulation_float`, both CPU backends, and what the pages say they show.

A new page of the family comes under the parametrised tests by itself; its operands by a row in `emulation_float.EMULATIONS`.
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
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import HighPrecision, accumulator
from lpref.ref.optim import OptimContext, optimizer
from lpref.ref.quantize import quantize
from lpref.ref.random import WordAddress
from lpref.ref.recipes import Context, linear_backward, linear_forward
from lpref.ref.recipes.factors import FACTORS
from lpref.specs import RECIPE, recipe

from . import emulation, emulation_float
from .recorder import Recorder, assert_operands

COMPRESSED = ["actnn", "gact", "blpa", "exact"]
FAMILY = [name for name in RECIPE.names() if recipe(name).family == "floating_point"]
RUNNING = [name for name in [*FAMILY, *COMPRESSED] if recipe(name).executable]
SMALL = GPTConfig(vocab=40, context=16, layers=2, d_model=32, heads=2, ffn=48)
EXACT = ReferenceBackend("exact")


def tensors(seed: int = 0, m: int = 64, n: int = 96, k: int = 128):
    rng = np.random.default_rng(seed)
    x, w, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (n, k), (m, n)))
    x[:, 3] *= 20
    return x, w * np.float32(0.05), dy * np.float32(1e-2)


def layer(linear, x, w, dy, ops=EXACT):
    keys, scales = ("fprop/a", "fprop/b", "dgrad/a"), (16.0, 64.0, 4096.0)
    state = {
        f"{emulation.SITE}/{k}": {"scale": np.float32(s), "history": np.zeros(1024, np.float32)}
        for k, s in zip(keys, scales, strict=True)
    }
    ctx = Context(seed=emulation.SEED, step=emulation.STEP, site=emulation.SITE, state=state)
    y, saved = linear_forward(x, w, linear, ctx, ops)
    return y, linear_backward(dy, saved, linear, ctx, ops)


@proves("recipe:{name}", "oracle")
@pytest.mark.parametrize("name", emulation_float.EMULATIONS)
def test_operands_are_the_cards(name: str) -> None:
    x, w, dy = tensors()
    ops = Recorder()
    layer(recipe(name).linear, x, w, dy, ops)
    wanted = emulation_float.EMULATIONS[name](x, w, dy)
    assert_operands(ops, wanted, name)


def trained(name: str, ops, steps: int = 2, cfg: GPTConfig = SMALL):
    """The parameters of a small GPT after `steps` steps on `ops`, and its losses."""
    made = recipe(name)
    model, losses = GPT(cfg, made, 0, ops), []
    rule = optimizer("adamw", lr=1e-3)
    state = rule.init(model.arrays())
    for step in range(steps):
        ids = np.random.default_rng(step).integers(0, 40, (2, cfg.context + 1))
        loss = model.loss(
            SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:]),
            Context(seed=0, step=step, update=step, state=_first(model)),
        )
        loss.backward()
        losses.append(float(loss))
        params, state = rule.update(
            model.arrays(), model.grads(), state, OptimContext(step=step, update=step, seed=0, lr=1e-3), ops
        )
        model.set_arrays(params)
    return model.arrays(), losses


def _first(model: GPT) -> dict:
    from lpref.ref.recipes import first_states

    return {key: value for name, linear in model.recipes.items() for key, value in first_states(linear, name).items()}


@proves("recipe:{name}", "cpu")
@pytest.mark.parametrize("name", RUNNING)
def test_two_steps_have_equal_bits_on_the_cpu_backend(name: str) -> None:
    (one, losses), (other, again) = (trained(name, backend(kind, "exact")) for kind in ("reference", "cpu"))
    assert losses == again
    assert one.keys() == other.keys()
    for key in one:
        assert np.isfinite(one[key]).all(), key
        np.testing.assert_array_equal(one[key].view(np.uint32), other[key].view(np.uint32), key)


# ---- what the pages show


@pytest.mark.parametrize("name", COMPRESSED)
def test_the_forward_pass_of_compressed_activations_is_exact(name: str) -> None:
    assert trained(name, EXACT, 1)[1] == trained("fp32", EXACT, 1)[1]


@pytest.mark.parametrize("name", ["actnn", "gact", "exact"])
def test_the_weight_gradient_is_unbiased(name: str) -> None:
    """The mean of n independent dW is within 5 standard errors of the exact one, element by element; word bits add 2^-8 of a step at most."""
    x, w, dy = tensors(1, 8, 12, 32)
    exact = dy.T.astype(np.float64) @ x
    linear, n = recipe(name).linear, 400
    draws = []
    for step in range(n):
        ctx = Context(seed=1, step=step, site="h")
        draws.append(
            linear_backward(dy, linear_forward(x, w, linear, ctx, EXACT)[1], linear, ctx, EXACT).dw.astype(np.float64)
        )
    error = np.abs(np.mean(draws, axis=0) - exact)
    spread = np.std(draws, axis=0) / np.sqrt(n)
    step_size = (x.max(axis=1) - x.min(axis=1)) / 3 * (2.0**-8 + 2.0**-8)  # a word, and bfloat16 scale and offset
    room = np.abs(dy).T.astype(np.float64) @ (step_size + np.abs(x).max(axis=1) * 2.0**-8)
    assert (error <= 5 * spread + room[:, None] * (8 if name == "exact" else 1)).all()


def test_bits_that_are_saved() -> None:
    """2 bits an element, and two bfloat16 a group."""
    x = tensors(2, 64, 8, 256)[0]
    q = recipe("actnn").linear.save["x"].quantizer
    assert quantize(x, q, words=WordAddress(0, 0, "s")).nbytes == 64 * 256 // 4 + 64 * 2 * 2


def test_loss_scales_of_powers_of_two_leave_float32_gradients_alone() -> None:
    """Section 8, identity 2: no cast below: the gradients of S loss over S are those of the loss, bit for bit."""
    x, w, dy = tensors(3)
    plain, scaled = (layer(recipe("fp32").linear, x, w, dy * np.float32(s))[1] for s in (1.0, 1024.0))
    np.testing.assert_array_equal(plain.dw, scaled.dw / np.float32(1024))
    np.testing.assert_array_equal(plain.dx, scaled.dx / np.float32(1024))


def test_gradients_below_the_smallest_half_vanish_unless_they_are_scaled() -> None:
    half = recipe("fp16_static").linear.dgrad.a.quantizer
    g = np.float32([[2.0**-26, -(2.0**-25), 2.0**-24]])
    assert quantize(g, half).dequantize().tolist() == [[0.0, -0.0, 2.0**-24]]
    assert (quantize(g * np.float32(8), half).dequantize() / 8 == g).all()


def test_bfloat16_weights_lose_small_updates_to_nearest_and_keep_them_in_the_mean() -> None:
    stored = recipe("bf16_weights_sr").weights.stored
    w = np.full((1, 65536), 1 + 2.0**-10, np.float32)
    assert (quantize(w, replace(stored, rounding="nearest_even", word_bits=None)).dequantize() == 1).all()
    words = np.arange(65536, dtype=np.uint16).reshape(1, -1)
    assert quantize(w, stored, words=words).dequantize().mean() == 1 + 2.0**-10


def test_swamping_and_chunks() -> None:
    """E6M9 sums of 2^13 numbers below 1: at 1024 half a spacing is 1, so the plain sum stays below it; chunks of 64 reach the whole sum."""
    x = np.random.default_rng(0).random((1, 1 << 13)).astype(np.float32)
    gemm = backend("cpu", "exact").gemm
    a, b = HighPrecision(x), HighPrecision(np.ones_like(x))
    exact = x.astype(np.float64).sum()
    chunked = accumulator("ibm_chunk64")
    errors = {c: abs(gemm(a, b, replace(chunked, chunk=c)).item() - exact) / exact for c in (1, 64, 256, None)}
    assert max(errors[64], errors[256]) < errors[None] / 50
    assert errors[None] >= 1 - 1026 / exact
    assert errors[1] >= 1 - 1026 / exact


def test_ceil_never_saturates_where_the_floor_rule_does() -> None:
    """Section 8, identity 6, E4M3: the floor rule saturates iff amax / 2^floor(log2 amax) > 1.75."""
    ceil = recipe("mxfp8").linear.fprop.a.quantizer
    floor = replace(ceil, scale=replace(ceil.scale, mode="floor"))
    for mantissa in np.float32([1.0, 1.5, 1.75, 1.7501, 1.9, 1.99]):
        x = np.full((1, 32), mantissa, np.float32)
        assert quantize(x, ceil).observed["overflowed"] == 0
        assert (quantize(x, floor).dequantize().max() < mantissa * (1 - 2.0**-5)) == (mantissa > 1.875)
        clipped = np.abs(x).max() / 2.0 ** np.floor(np.log2(mantissa)) * 256 > 448
        assert clipped == (mantissa > np.float32(1.75))


def test_square_tiles_are_the_same_codes_in_both_directions() -> None:
    """Section 8, identity 3."""
    w = tensors(4)[1] * np.ldexp(np.float32(1), -np.arange(96) % 24)[:, None]
    q = recipe("fp8_block").linear.fprop.b.quantizer
    np.testing.assert_array_equal(quantize(w.T.copy(), q).unpacked(), quantize(w, q).unpacked().T)
    rows = recipe("fp8_block").linear.fprop.a.quantizer
    assert (quantize(w.T.copy(), rows).dequantize() != quantize(w, rows).dequantize().T).any()


def test_masks_are_biased_and_rounding_is_not() -> None:
    x = np.abs(tensors(5)[0]).astype(np.float64)
    masked, rounded = (
        quantize(x.astype(np.float32), recipe(n).linear.fprop.a.quantizer).dequantize()
        for n in ("mask_e8m3", "round_e8m3")
    )
    assert (masked <= x).all()
    assert (x - masked).mean() > 10 * abs((x - rounded).mean())


def test_s2fp8_does_not_depend_on_the_scale() -> None:
    x = np.exp(2 * np.random.default_rng(6).standard_normal((64, 64))).astype(np.float32)
    q = recipe("s2fp8").linear.fprop.a.quantizer
    errors = [
        np.abs(quantize(x * np.float32(s), q).dequantize() / (x * np.float32(s)) - 1).mean()
        for s in (2.0**-20, 1.0, 2.0**20)
    ]
    assert max(errors) - min(errors) < 1e-3
    constant = np.full((4, 8), 0.3, np.float32)
    np.testing.assert_allclose(quantize(constant, q).dequantize(), constant, rtol=2.0**-20)


def _deviations(width: int) -> list[float]:
    """Standard deviations of the linear layers' inputs and incoming gradients at the first step of a unit-scaled GPT."""
    found = []

    class Watching(Recorder):
        def operand(self, tensor, q, **options):
            if q is not None and tensor.size > width:
                found.append(float(tensor.std()))
            return self.ops.operand(tensor, q, **options)

    cfg = replace(SMALL, d_model=width, ffn=2 * width, context=32, heads=4)
    model = GPT(cfg, recipe("unit_scaling"), 0, Watching())
    ids = np.random.default_rng(0).integers(0, 40, (4, 33))
    model.loss(SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:]), Context()).backward()
    return found


@pytest.mark.parametrize("width", [32, 128])
def test_unit_scaling_keeps_variances_near_one_at_any_width(width: int) -> None:
    found = _deviations(width)
    assert len(found) > 20
    assert 2.0**-2 < min(found)
    assert max(found) < 2.0**2


def test_unit_scaled_gradients_are_the_true_ones_times_constants() -> None:
    """Without casts, every parameter's gradient is proportional to the derivative of the scaled forward pass."""
    unit = recipe("unit_scaling")
    names = {}
    for kind, scale_back in (("unit", True), ("true", False)):
        made = _without_casts(unit, scale_back)
        model = GPT(replace(SMALL, layers=1), made, 0, EXACT)
        ids = np.random.default_rng(0).integers(0, 40, (2, 17))
        model.loss(SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:]), Context()).backward()
        names[kind] = model.grads()
    for name, g in names["unit"].items():
        true = names["true"][name].astype(np.float64)
        constant = (g * true).sum() / (true * true).sum()
        assert constant > 0
        np.testing.assert_allclose(g, constant * true, rtol=0, atol=1e-4 * np.abs(g).max(), err_msg=name)


def _bare(spec):
    return replace(
        spec,
        a=replace(spec.a, quantizer=None, source="hp"),
        b=replace(spec.b, quantizer=None, source="hp"),
        output="float32",
    )


def _without_casts(made, scale_back: bool):
    """The recipe without quantizers; with the factors of the true derivative instead of its own where `scale_back` is False."""
    from lpref.ref.recipes.recipe import _save_high_precision

    def linear(one):
        parts = {g: _bare(one.gemm(g)) for g in ("fprop", "dgrad", "wgrad")}
        if not scale_back:
            power = one.fprop.epilogue[0].power
            true = (replace(one.fprop.epilogue[0], size="b", power=power),)
            parts |= {g: replace(parts[g], epilogue=true) for g in ("dgrad", "wgrad")}
        return replace(one, **parts, save=_save_high_precision())

    operations = dict(made.operations)
    if not scale_back:
        for kind, op in made.operations.items():
            true = (
                op.scale_in
                if kind == "residual_add"
                else (op.scale_out,)
                if kind in ("activation", "attention")
                else ()
            )
            operations[kind] = replace(op, scale_grad=true)
    return replace(
        made,
        linear=linear(made.linear),
        variants={k: linear(v) for k, v in made.variants.items()},
        operations=operations,
    )


def test_factors_of_the_residual_stream_keep_the_variance() -> None:
    for n in range(8):
        sizes = {"branch": n, "branches": 8}
        assert abs(FACTORS["unit_skip"](sizes) ** 2 + FACTORS["unit_branch"](sizes) ** 2 - 1) < 1e-15


def test_e4m3_of_the_ieee_kind_is_another_format() -> None:
    assert (format_named("e4m3").max, format_named("e4m3_ieee").max) == (448, 240)
    assert not format_named("e4m3").has_inf


def test_a_jump_saturates_delayed_scaling_and_not_current_scaling() -> None:
    from lpref.ref.quantize import init_state, update_state

    delayed = recipe("fp8_delayed").linear.fprop.a.quantizer
    current = recipe("fp8_current").linear.fprop.a.quantizer
    state, saturated = init_state(delayed), []
    x = tensors(7)[0]
    for step in range(6):
        t = quantize(x * np.float32(64 if step >= 3 else 1), delayed, state=state)
        saturated.append(t.observed["overflowed"] > 0)
        state = update_state(delayed, state, [t.observed])
        assert quantize(x * np.float32(64 if step >= 3 else 1), current).observed["overflowed"] == 0
    assert saturated == [False, False, False, True, False, False]


def test_scales_of_powers_of_two_move_with_the_tensor() -> None:
    """Section 8, identity 2, for Scalify: QDQ(2^k x) = 2^k QDQ(x) for any k in range."""
    q = recipe("scalify").linear.fprop.a.quantizer
    x = tensors(8)[0]
    for k in (-40, -1, 3, 40):
        np.testing.assert_array_equal(quantize(np.ldexp(x, k), q).dequantize(), np.ldexp(quantize(x, q).dequantize(), k))


def test_a_norm_behind_the_branch() -> None:
    """Res-Post-LayerNorm: x + norm(f(x)), so a branch adds rows of RMS 1, whatever the weights' scale."""
    cfg = replace(SMALL, layers=1, norm_place="res_post", norm_eps=1e-12)
    model = GPT(cfg, None, 0, EXACT)
    seen = []
    joined = model.join
    model.join = lambda name, x, h, number, ctx: seen.append(h.data) or joined(name, x, h, number, ctx)
    model.logits(np.zeros((1, 4), np.int64), Context())
    assert len(seen) == 2
    for h in seen:
        np.testing.assert_allclose(np.sqrt((h.astype(np.float64) ** 2).mean(axis=1)), 1, rtol=0.05)

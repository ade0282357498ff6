"""The linear layer under every executable recipe: operands bit for bit against `emulation`, products within a proved bound."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from lpref.accel.reference import ReferenceBackend
from lpref.conformance.proves import proves
from lpref.ref.errors import ShapeError, SpecError
from lpref.ref.quantize import QTensor
from lpref.ref.recipes import GEMMS, Context, LinearRecipe, Slot, linear_backward, linear_forward, linear_parameters
from lpref.specs import RECIPE, recipe

from . import emulation
from .recorder import Recorder, assert_operands

M, N, K = 64, 192, 128
U = {"float32": 2.0**-24, "bfloat16": 2.0**-8, "binary16": 2.0**-11}


def tensors(seed: int = 0, m: int = M, n: int = N, k: int = K):
    """x, w (on a grid of 1/64, so that its mean is exact) and dy, with an outlier column."""
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((m, k)).astype(np.float32), (rng.standard_normal((m, n)) * 1e-3).astype(np.float32)
    x[:, 3] *= 20
    return x, (np.rint(rng.standard_normal((n, k)) * 8) / 64).astype(np.float32), dy


def context(**changes) -> Context:
    return replace(Context(seed=emulation.SEED, step=emulation.STEP, site=emulation.SITE), **changes)


def delayed_state(scales=(16.0, 64.0, 4096.0)):
    keys = ("fprop/a", "fprop/b", "dgrad/a")
    history = np.zeros(1024, np.float32)
    return {f"{emulation.SITE}/{k}": {"scale": np.float32(s), "history": history} for k, s in zip(keys, scales, strict=True)}


def run(name: str, x, w, dy, ops=None, **changes):
    linear, ops = recipe(name).linear, ops or Recorder()
    ctx = context(state=delayed_state(), **changes)
    params = linear_parameters(x, w, linear, ops)
    y, saved = linear_forward(x, w, linear, ctx, ops, params)
    return y, linear_backward(dy, saved, linear, ctx, ops), ops, ctx


@proves("recipe:{name}", "oracle")
@pytest.mark.parametrize("name", emulation.EMULATIONS)
def test_operands_are_the_cards(name: str) -> None:
    x, w, dy = tensors()
    _, _, ops, _ = run(name, x, w, dy)
    wanted = emulation.EMULATIONS[name](x, w, dy)
    assert_operands(ops, wanted, name)


@pytest.mark.parametrize("name", [n for n in emulation.EMULATIONS if n != "halo"])
def test_products_are_within_the_bound(name: str) -> None:
    """|fl(A B^T) - A B^T| <= gamma_(k + 4) |A| |B|^T for any order of the sum and up to three scale products (Higham 2002, sec. 3.1),
    and one rounding to the output format."""
    x, w, dy = tensors(1)
    y, grads, _, _ = run(name, x, w, dy)
    slots, linear = emulation.EMULATIONS[name](x, w, dy), recipe(name).linear
    for gemm, found in (("fprop", y), ("dgrad", grads.dx), ("wgrad", grads.dw)):
        a, b = slots[f"{gemm}.a"].astype(np.float64), slots[f"{gemm}.b"].astype(np.float64)
        a, b = (a.T if gemm == "wgrad" else a), (b if gemm == "fprop" else b.T)
        exact, size = a @ b.T, np.abs(a) @ np.abs(b).T
        n = (a.shape[1] + 4) * U["float32"]
        bound = n / (1 - n) * size
        output = linear.gemm(gemm).output
        bound += 0 if output == "float32" else U[output] * (np.abs(exact) + bound) + 2.0**-25
        assert found.dtype == np.float32
        assert (np.abs(found - exact) <= bound).all(), f"{name} {gemm}: {np.max(np.abs(found - exact) / bound)}"


@pytest.mark.parametrize("name", ["mxfp4", "fp8_block"])
def test_micro_batches_take_the_words_of_the_global_batch(name: str) -> None:
    """N1: element i is the index in the global tensor. Blocks along N see one row each, so dY's codes for dgrad are rows of the global codes,
    and W's are the same in every part."""
    x, w, dy = tensors(4)
    whole = run(name, x, w, dy)[2].pairs[1]
    half = M // 2
    for micro in (0, 1):
        rows = slice(micro * half, (micro + 1) * half)
        part = run(name, x[rows], w, dy[rows], micro=micro)[2].pairs[1]
        np.testing.assert_array_equal(part[0].unpacked(), whole[0].unpacked()[rows])
        np.testing.assert_array_equal(part[1].unpacked(), whole[1].unpacked())


def test_halo_is_the_plain_product_without_quantization() -> None:
    """Bound: each of the two rotations of an operand of norm |a| errs by at most (log2 n + 2) u |a| (N5), likewise the inverse."""
    linear = recipe("halo").linear
    none = {}
    for name in GEMMS:
        spec = linear.gemm(name)
        none[name] = replace(spec, a=replace(spec.a, quantizer=None), b=replace(spec.b, quantizer=None), output="float32")
    plain = LinearRecipe(**none)
    x, w, dy = tensors(2)
    ops = ReferenceBackend("exact")
    y, saved = linear_forward(x, w, plain, context(), ops)
    grads = linear_backward(dy, saved, plain, context(), ops)
    for found, a, b in ((y, x, w), (grads.dx, dy, w.T), (grads.dw, dy.T, x.T)):
        a, b = a.astype(np.float64), b.astype(np.float64)
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        u = U["float32"]
        bound = ((a.shape[1] + 2) + 3 * (7 + 2)) * u * 1.01 * norms
        assert np.linalg.norm(found - a @ b.T) <= bound


def test_float32_slots_are_the_plain_product() -> None:
    x, w, dy = tensors(3, 16, 24, 32)
    ops = ReferenceBackend("exact")
    y, saved = linear_forward(x, w, LinearRecipe(), context(), ops)
    grads = linear_backward(dy, saved, LinearRecipe(), context(), ops)
    np.testing.assert_array_equal(y, ops.matmul(x, w.T))
    np.testing.assert_array_equal(grads.dx, ops.matmul(dy, w))
    np.testing.assert_array_equal(grads.dw, ops.matmul(dy.T, x))
    assert grads.dparams == {}


def test_float64_stays_float64() -> None:
    x, w, dy = (t.astype(np.float64) for t in tensors(3, 8, 16, 32))
    ops = ReferenceBackend("fast")
    y, saved = linear_forward(x, w, LinearRecipe(), context(), ops)
    assert y.dtype == np.float64
    assert linear_backward(dy, saved, LinearRecipe(), context(), ops).dw.dtype == np.float64


def codes(operand: QTensor):
    return operand.unpacked(), operand.scale_values(), float(operand.tensor_scale)


@pytest.mark.parametrize("name", ["nvfp4", "fp8_block", "fp8_current", "int8_switchback"])
def test_dgrad_multiplies_the_forward_codes_of_w(name: str) -> None:
    x, w, dy = tensors()
    _, _, ops, _ = run(name, x, w, dy)
    forward, backward = ops.pairs[0][1], ops.pairs[1][1]
    assert forward.k_axis == 1
    assert backward.k_axis == 0
    for one, other in zip(codes(forward), codes(backward), strict=True):
        np.testing.assert_array_equal(one, other)


def test_recomputation_sees_the_same_words_and_another_step_does_not() -> None:
    x, w, dy = tensors()
    first, second, later = (run("nvfp4", x, w, dy, step=s)[1] for s in (3, 3, 4))
    np.testing.assert_array_equal(first.dx, second.dx)
    np.testing.assert_array_equal(first.dw, second.dw)
    assert (first.dx != later.dx).any()
    assert (first.dx != run("nvfp4", x, w, dy, pass_=1)[1].dx).any()
    assert (first.dx != run("nvfp4", x, w, dy, site="h.1.attn.qkv")[1].dx).any()


def test_dgrad_and_wgrad_round_dy_independently() -> None:
    """Same tensor, other words: nvfp4 without its transform draws from two streams."""
    whole = {"linear.wgrad.transform": "none", "linear.wgrad.a.quantizer.blocks": "all", "linear.dgrad.a.quantizer.blocks": "all"}
    linear = recipe({"base": "nvfp4", "set": whole}).linear
    x, w, dy = tensors()
    ops = Recorder()
    _, saved = linear_forward(x, w, linear, context(), ops)
    linear_backward(dy, saved, linear, context(), ops)
    assert (ops.pairs[1][0].unpacked() != ops.pairs[2][0].unpacked()).any()


def test_power_of_two_loss_scale_changes_no_bit_in_float32() -> None:
    x, w, dy = tensors()
    ops = ReferenceBackend("exact")
    _, saved = linear_forward(x, w, LinearRecipe(), context(), ops)
    plain = linear_backward(dy, saved, LinearRecipe(), context(), ops)
    scaled = linear_backward(dy * np.float32(2**13), saved, LinearRecipe(), context(), ops)
    np.testing.assert_array_equal(scaled.dx * np.float32(2**-13), plain.dx)
    np.testing.assert_array_equal(scaled.dw * np.float32(2**-13), plain.dw)


def test_fp16_overflows_to_infinity_for_the_loss_scale_to_see() -> None:
    x, w, dy = tensors()
    _, grads, _, _ = run("fp16_loss_scaled", x, w, dy * np.float32(1e9))
    assert not np.isfinite(grads.dw).all()


def test_stochastic_gradients_are_unbiased() -> None:
    """Over all 256 words the mean of Q(dY) is dY exactly. Row 0 makes the tensor scale 1; row 1 has amax 6 * 256, so its block scale is 256
    and its elements / 256 are multiples of 1/8 of a step: nothing but the stochastic rounding rounds."""
    dy = np.array([[2688.0, 0, 0, 0], [1536.0, 192.0, 640.0, -288.0]], np.float32)
    q = recipe("nvfp4").linear.dgrad.a.quantizer
    total = [Fraction(0)] * 4
    for word in range(256):
        made = ReferenceBackend("exact").operand(dy, q, k_axis=1, words=np.full(dy.shape, word, np.uint8))
        total = [t + Fraction(float(v)) for t, v in zip(total, made.dequantize()[1], strict=True)]
    assert [t / 256 for t in total] == [Fraction(float(v)) for v in dy[1]]


def test_mxfp4_signs_are_shared_by_both_operands_and_differ_by_gemm() -> None:
    seen = {}

    class Spy(Recorder):
        def operand(self, x, q, **options):
            seen.setdefault(len(seen), [s for _, s in options["transforms"]])
            return self.ops.operand(x, q, **options)

    x, w, dy = tensors()
    run("mxfp4", x, w, dy, Spy())
    d_a, d_b, g_a, g_b = (seen[i][0] for i in (2, 3, 4, 5))
    np.testing.assert_array_equal(d_a, d_b)
    np.testing.assert_array_equal(g_a, g_b)
    assert (d_a != g_a).any()


def test_observations_are_kept_by_slot_and_merged() -> None:
    x, w, dy = tensors()
    _, _, _, ctx = run("fp8_delayed", x, w, dy)
    assert sorted(ctx.observed) == [f"{emulation.SITE}/{s}" for s in ("dgrad/a", "fprop/a", "fprop/b")]
    before = dict(ctx.observed[f"{emulation.SITE}/fprop/a"])
    assert before["amax"] == np.abs(x).max()
    assert before["overflowed"] > 0  # the planted outlier column under scale 16
    ops, linear = ReferenceBackend("exact"), recipe("fp8_delayed").linear
    linear_forward(x * np.float32(2), w, linear, ctx, ops)
    after = ctx.observed[f"{emulation.SITE}/fprop/a"]
    assert after["amax"] == 2 * np.abs(x).max()
    assert after["count"] == 2 * before["count"]
    assert "mse" not in after


def test_collect_adds_error_statistics() -> None:
    x, w, dy = tensors()
    _, grads, _, ctx = run("nvfp4", x, w, dy, collect=True)
    for slot in ("fprop/a", "fprop/b", "dgrad/a", "wgrad/a", "wgrad/b"):
        assert {"mse", "sqnr_db", "overflowed", "underflowed", "count"} <= set(ctx.observed[f"{emulation.SITE}/{slot}"])
    np.testing.assert_array_equal(grads.dw, run("nvfp4", x, w, dy)[1].dw)


def test_state_is_read_only() -> None:
    x, w, dy = tensors()
    state = delayed_state()
    ctx = context(state=state)
    linear, ops = recipe("fp8_delayed").linear, ReferenceBackend("exact")
    _, saved = linear_forward(x, w, linear, ctx, ops)
    linear_backward(dy, saved, linear, ctx, ops)
    assert all(s["scale"] == t["scale"] for s, t in zip(state.values(), delayed_state().values(), strict=True))


def test_shapes_that_do_not_fit() -> None:
    x, w, _ = tensors()
    with pytest.raises(ShapeError, match=r"x is \(64, 127\)"):
        linear_forward(x[:, :-1], w, LinearRecipe(), context(), ReferenceBackend("exact"))
    strict = recipe({"base": "nvfp4", "set": {"linear.wgrad.transform.tail": "error"}}).linear
    with pytest.raises(ShapeError, match=r"h\.0\.attn\.qkv\.wgrad: an axis of 63 elements"):
        linear_forward(x[:63], w, strict, context(), ReferenceBackend("exact"))


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4", "fp8_block", "int8_switchback", "lsq", "halo"])
def test_ragged_shapes_run(name: str) -> None:
    x, w, dy = tensors(4, 33, 17, 21)
    y, grads, _, _ = run(name, x, w, dy)
    assert (y.shape, grads.dx.shape, grads.dw.shape) == ((33, 17), (33, 21), (17, 21))
    assert all(np.isfinite(t).all() for t in (y, grads.dx, grads.dw))


@pytest.mark.parametrize("name", [n for n in RECIPE.names() if not recipe(n).executable])
def test_recipes_that_lack_a_mechanism_say_so(name: str) -> None:
    x, w, _ = tensors(0, 8, 16, 32)
    with pytest.raises(SpecError, match=r"needs .*, which this version does not have"):
        recipe(name).for_layer("h.0.mlp.up", "mlp_up", 0, 4)
    if name not in ("double_rounding",):
        with pytest.raises(SpecError, match=r"needs .*, which this version does not have"):
            linear_forward(x, w, recipe(name).linear, context(), ReferenceBackend("exact"))


def test_requantizing_uses_the_forward_values() -> None:
    """requant sees Q(x), not x: with a quantizer whose codes are its values, the two GEMMs multiply the same numbers."""
    base = recipe("int8_switchback").linear
    linear = replace(base, wgrad=replace(base.wgrad, b=Slot("requant", "x")), save={**base.save, "x": replace(base.save["x"], of="fprop.a")})
    x, w, dy = tensors()
    ops = Recorder()
    _, saved = linear_forward(x, w, linear, context(), ops)
    linear_backward(dy, saved, linear, context(), ops)
    np.testing.assert_array_equal(ops.pairs[2][1].dequantize(), ops.pairs[0][0].dequantize(np.float32))


def test_a_forward_that_keeps_nothing_has_the_same_result() -> None:
    draw = np.random.default_rng(5)
    x, w = draw.standard_normal((32, 64), np.float32), draw.standard_normal((48, 64), np.float32)
    linear, ops = recipe("nvfp4").linear, ReferenceBackend("exact")
    ctx = Context(seed=1, step=1, site="h.0.attn.qkv")
    y, kept = linear_forward(x, w, linear, ctx, ops)
    alone, nothing = linear_forward(x, w, linear, ctx, ops, keep=False)
    assert np.array_equal(y, alone)
    assert kept.entries
    assert not nothing.entries

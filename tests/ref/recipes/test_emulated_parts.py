"""Recipes whose layer is more than six operands, bit for bit against `emulation_parts`: what they multiply, what leaves, which layers they mean."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel import backend
from lpref.accel.reference import ReferenceBackend
from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.conformance.proves import proves
from lpref.ref.recipes import Context, Operation, linear_backward, linear_forward, linear_parameters
from lpref.ref.recipes.change import in_force
from lpref.ref.recipes.controllers import Clock, kind_of
from lpref.ref.recipes.observe import first_states
from lpref.ref.recording import RecordingBackend
from lpref.specs import recipe

from . import emulation, emulation_integer, emulation_parts
from .recorder import Recorder
from .test_customized import trained

EXACT = ReferenceBackend("exact")
SLOTS = [f"{gemm}.{side}" for gemm in ("fprop", "dgrad", "wgrad") for side in "ab"]


def tensors(seed: int = 0, m: int = 64, n: int = 96, k: int = 128):
    rng = np.random.default_rng(seed)
    x, w, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (n, k), (m, n)))
    x[:, 3] *= 20
    return x, w * np.float32(0.05), dy * np.float32(1e-2)


def layer(linear, x, w, dy, state=None):
    ops = Recorder()
    state = first_states(linear, emulation.SITE) if state is None else state
    ctx = Context(seed=emulation.SEED, step=emulation.STEP, site=emulation.SITE, state=state)
    y, saved = linear_forward(x, w, linear, ctx, ops, linear_parameters(x, w, linear, ops, ctx))
    grads = linear_backward(dy, saved, linear, ctx, ops)
    return ops, (y, grads.dx, grads.dw)


def assert_operands(linear, x, w, dy, wanted, told: str = "", masks=(True, True)) -> None:
    """Operands are `wanted`; results are the products, dX and dW where their masks are true."""
    ops, results = layer(linear, x, w, dy)
    found = [operand for pair in ops.values for operand in pair]
    for slot, operand in zip(SLOTS, found, strict=True):
        np.testing.assert_array_equal(operand, wanted[slot].astype(np.float32), err_msg=f"{told} {slot}")
    for product, result, mask in zip(ops.products, results, (True, *masks), strict=True):
        np.testing.assert_array_equal(result, np.where(mask, product, np.float32(0)), err_msg=told)


def plain(x, w, dy):
    return dict(zip(SLOTS, (x, w, dy, w, dy, x), strict=True))


@proves("recipe:s2fp8", "oracle")
def test_s2fp8_squeezes_operands_and_results() -> None:
    x, w, dy = tensors()
    x[5, :7] = 0
    ops, results = layer(recipe("s2fp8").linear, x, w, dy)
    a, b, g = (emulation_parts.s2fp8(t) for t in (x, w, dy))
    for pair, want in zip(ops.values, ((a, b), (g, b), (g, a)), strict=True):
        for operand, values in zip(pair, want, strict=True):
            np.testing.assert_array_equal(operand, values)
    for product, result in zip(ops.products, results, strict=True):
        np.testing.assert_array_equal(result, emulation_parts.s2fp8(product))


@proves("recipe:sakr", "oracle")
def test_sakr_rounds_the_gradient_of_weights() -> None:
    ops, results = layer(recipe("sakr").linear, *tensors())
    fprop, dgrad, wgrad = ops.products
    for result, want in zip(results, (fprop, dgrad, emulation_integer.sakr_result(wgrad)), strict=True):
        np.testing.assert_array_equal(result, want)


@proves("recipe:sakr", "cpu")
def test_two_steps_of_sakr_have_equal_bits_on_the_cpu_backend() -> None:
    one, other = trained("sakr", "reference"), trained("sakr", "cpu")
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key].view(np.uint32), other[key].view(np.uint32), key)


@proves("recipe:{name}", "oracle")
@pytest.mark.parametrize("name", ["ui8", "distribution_adaptive"])
def test_a_search_that_clips_and_the_steps_that_keep_its_scale(name: str) -> None:
    """Many elements up to 0.9 and one of 1: a smaller c costs that one and refines all the others. Later steps keep c, whatever comes."""
    rng = np.random.default_rng(0)
    shape = (256, 96) if name == "ui8" else (32768, 2)
    x, w = rng.standard_normal((shape[0], 4)).astype(np.float32), rng.standard_normal((shape[1], 4)).astype(np.float32)
    dy = (np.rint(rng.uniform(-0.9, 0.9, shape) * 2**20) / 2**20).astype(np.float32)
    dy[7, :] = 0
    dy[7, 0 if name == "ui8" else slice(None)] = 1
    key, linear = f"{emulation.SITE}/dgrad/a", recipe(name).linear
    wanted = emulation_integer.EMULATIONS[name](x, w, dy)
    assert wanted["dgrad.a"].max() < 0.99  # the search clipped
    state = first_states(linear, emulation.SITE)
    for age in (0, 1, 2):
        ops, _ = layer(linear, x, w, dy, state)
        for slot, operand in zip(SLOTS, [t for pair in ops.values for t in pair], strict=True):
            np.testing.assert_array_equal(operand, wanted[slot].astype(np.float32), err_msg=f"{age} {slot}")
        if age == 0:
            column = dy if name == "ui8" else dy[:, :1]
            cost = emulation_integer.cosine if name == "ui8" else emulation_integer.weighted
            s = emulation_integer.searched(column, cost)
            scale = np.full((1, 1 if name == "ui8" else shape[1]), s, np.float32)
            dy = dy * np.float32(1.5)
            g = emulation_integer.clipped(dy, s, emulation.words("dgrad/a/rounding", dy.shape, 16))
            wanted |= {"dgrad.a": g, "wgrad.a": g}
        state = {key: {"scale": scale, "age": np.int32(age + 1)}}


@proves("recipe:exact", "oracle")
def test_exact_multiplies_what_the_projection_left() -> None:
    x, w, dy = tensors()
    ops, results = layer(recipe("exact").linear, x, w, dy)
    fprop, *_, dgrad, wgrad = range(5)
    for number, want in ((fprop, (x, w)), (dgrad, (dy, w)), (wgrad, (dy, emulation_parts.projected(x)))):
        for operand, values in zip(ops.values[number], want, strict=True):
            np.testing.assert_array_equal(operand, values)
    for number, result in zip((fprop, dgrad, wgrad), results, strict=True):
        np.testing.assert_array_equal(result, ops.products[number])


@proves("recipe:ifairy", "oracle")
def test_ifairy_adds_four_products() -> None:
    """y = conj(x) w, dX = conj(dY) w, dW = dY x: real parts first, in pairs of columns, dW in pairs of rows."""
    x, w, dy = tensors()
    ops, (y, dx, dw) = layer(recipe("ifairy").linear, x, w[:, :64].copy(), dy)
    p = ops.products
    for found, at in ((y, 0), (dx, 4)):
        np.testing.assert_array_equal(found[:, 0::2], p[at] + p[at + 1])
        np.testing.assert_array_equal(found[:, 1::2], p[at + 2] - p[at + 3])
    np.testing.assert_array_equal(dw[0::2], p[8] - p[9])
    np.testing.assert_array_equal(dw[1::2], p[10] + p[11])


@proves("recipe:mote", "oracle")
def test_mote_is_ternary_in_the_experts_alone() -> None:
    x, w, dy = tensors()
    made = recipe("mote")
    for name, role, expert in (
        ("h.0.mlp.up", "mlp_up", True), ("h.0.mlp.down", "mlp_down", True), ("h.1.expert3", "other", True),
        ("h.0.shared.up", "mlp_up", False), ("h.0.attn.qkv", "attn_qkv", False), ("head", "head", False),
    ):  # fmt: skip
        wanted = emulation_parts.faded(x, w, dy, 1.0) if expert else plain(x, w, dy)
        assert_operands(made.for_layer(name, role, 0, 4), x, w, dy, wanted, name)


@proves("recipe:continual_qat_fade", "oracle")
@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.0), (39, 0.0), (40, 0.25), (44, 0.25), (45, 0.5), (49, 0.5), (50, 0.75), (54, 0.75), (55, 1.0), (99, 1.0)]
)
def test_the_fade_mixes_both_operands(step: int, share: float) -> None:
    x, w, dy = tensors()
    assert_operands(recipe("continual_qat_fade").at(step, 100).linear, x, w, dy, emulation_parts.faded(x, w, dy, share), str(share))


@proves("recipe:double_rounding_hasb", "oracle")
def test_every_pass_of_double_rounding_has_its_width() -> None:
    x, w, dy = tensors()
    made = recipe("double_rounding_hasb")
    for bits, one in zip((8, 6, 4, 2), made.passes, strict=False):
        wanted, masks = emulation_parts.widths(x, w, dy, bits)
        assert_operands(in_force(made, [one.set]).linear, x, w, dy, wanted, f"{bits} bits", masks)


@proves("recipe:double_rounding_hasb", "oracle")
def test_the_mixed_pass_has_the_drawn_widths() -> None:
    x, w, dy = tensors(1, 8, 12, 16)
    made = recipe("double_rounding_hasb")
    hasb = kind_of(next(one for one in made.controllers if one.kind == "hasb"))
    sites = [f"h.{i}.mlp.{side}" for i in range(16) for side in ("up", "down")]
    state = hasb.start({f"{site}.weight": None for site in sites}, EXACT)
    seen = set()
    for site, changes in hasb.influence(state, Clock(seed=emulation.SEED, step=emulation.STEP, pass_=4)).layers.items():
        bits = emulation_parts.drawn_width(site, 4)
        linear = in_force(made, [made.passes[4].set, {f"linear.{path}": value for path, value in changes.items()}]).linear
        wanted, masks = emulation_parts.widths(x, w, dy, bits)
        assert_operands(linear, x, w, dy, wanted, f"{site}: {bits} bits", masks)
        seen.add(bits)
    assert seen == {8, 6, 4, 2}


@proves("recipe:fpsattention", "oracle")
@pytest.mark.parametrize("tokens", [64, 100])
def test_attention_reads_tiles_of_e4m3(tokens: int) -> None:
    """Q, K and V side by side, 80 channels each, so that the last tiles are partial; linear layers are those of float32."""
    made, ops = recipe("fpsattention"), RecordingBackend(backend("reference", "exact"))
    qkv = np.random.default_rng(0).standard_normal((tokens, 240)).astype(np.float32)
    under = Operation("attention", made.operations["attention"], Context(site="h.0.attn"), {})
    F.attention_packed(Tensor(qkv, ops), batch=1, heads=2, kv_heads=2, under=under)
    read = [call.args[0] for call in ops.recording.calls if call.op == "attention_packed"]
    assert len(read) == 1
    np.testing.assert_array_equal(read[0], emulation_parts.tiles(qkv).astype(np.float32))
    x, w, dy = tensors()
    assert_operands(made.for_layer("h.0.attn.qkv", "attn_qkv", 0, 2), x, w, dy, plain(x, w, dy))

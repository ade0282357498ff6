"""Operations under a recipe: what enters, leaves, is saved and comes back, against the formulas; and that a recipe reaches every operation."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lpref.accel import backend
from lpref.autodiff import Tensor, no_grad
from lpref.autodiff import functional as F
from lpref.models import build
from lpref.models.gpt import GPT, GPTConfig
from lpref.ref.errors import GraphError, SpecError
from lpref.ref.quantize import Quantizer, lookup, quantize
from lpref.ref.random import WordAddress
from lpref.ref.recipes import OPERATIONS, Context, Operation, OpRecipe, Recipe, operation_sites
from lpref.ref.recipes.operation import operation_problems
from lpref.ref.recording import RecordingBackend
from lpref.ref.scaling import Blocks, Scale
from lpref.specs import recipe

EXACT = backend("reference", "exact")
ROW = Quantizer("int8", Blocks(1, None), Scale("amax"))
NOISY = Quantizer("uint2", Blocks(1, 256), Scale("minmax"), rounding="stochastic", tail="partial")
RNG = np.random.default_rng(0)
X, G = (RNG.standard_normal((6, 8)).astype(np.float32) for _ in range(2))
W = RNG.standard_normal(8).astype(np.float32)
CTX = Context(seed=3, step=5, site="here")


def values(x: np.ndarray, q: Quantizer, stream: str = "") -> np.ndarray:
    return quantize(x, q, words=WordAddress(3, 5, stream) if stream else None).dequantize(np.float32)


def operation(kind: str, **fields) -> Operation:
    return Operation(kind, OpRecipe(**fields), CTX, {})


def run(function, *arrays, under=None, seed=G):
    """(result, gradients)."""
    tensors = [Tensor(a, EXACT, requires_grad=True) for a in arrays]
    y = function(*tensors, under=under)
    y.backward(seed)
    return y.data, [t.grad for t in tensors]


def norm(x, w, under=None):
    return F.rmsnorm(x, w, 1e-5, under)


def test_input_and_output_are_quantized_and_gradients_pass_straight_through() -> None:
    y, (dx, dw) = run(norm, X, W, under=operation("norm", input=ROW, output=ROW))
    plain, (dx_plain, dw_plain) = run(norm, values(X, ROW), W)
    np.testing.assert_array_equal(y, values(plain, ROW))
    np.testing.assert_array_equal(dx, dx_plain)
    np.testing.assert_array_equal(dw, dw_plain)


def test_the_saved_copy_is_coarse_and_the_result_exact() -> None:
    y, (dx, dw) = run(norm, X, W, under=operation("norm", saved=NOISY))
    plain, _ = run(norm, X, W)
    np.testing.assert_array_equal(y, plain)
    coarse = values(X, NOISY, "here/saved/0/rounding")
    _, rstd = EXACT.rmsnorm(X, W, 1e-5)
    for found, wanted in zip((dx, dw), EXACT.rmsnorm_backward(G, coarse, W, rstd), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_the_incoming_gradient_is_quantized() -> None:
    _, (dx,) = run(F.silu, X, under=operation("silu", gradient=ROW))
    _, (wanted,) = run(F.silu, X, seed=values(G, ROW))
    np.testing.assert_array_equal(dx, wanted)


def test_factors_of_the_forward_and_the_backward_pass_differ() -> None:
    y, (da, db) = run(
        F.product, X, G, under=operation("mul", scale_in=(2.0, 1.0), scale_out=0.25, scale_grad=(4.0, 0.5)), seed=X
    )
    np.testing.assert_array_equal(y, X * 2 * G * np.float32(0.25))
    np.testing.assert_array_equal(da, X * G * 4)
    np.testing.assert_array_equal(db, X * (X * 2) * np.float32(0.5))


def test_relu_saves_signs_and_is_exact() -> None:
    y, (dx,) = run(F.relu, X, under=operation("activation", saved=NOISY))
    plain, (wanted,) = run(F.relu, X)
    np.testing.assert_array_equal(y, plain)
    np.testing.assert_array_equal(dx, wanted)


def test_attention_saves_its_probabilities_too() -> None:
    qkv = RNG.standard_normal((6, 24)).astype(np.float32)

    def heads(x, under=None):
        return F.attention_packed(x, batch=2, heads=2, kv_heads=2, under=under)

    y, (dx,) = run(heads, qkv, under=operation("attention", saved=NOISY))
    plain, _ = run(heads, qkv)
    np.testing.assert_array_equal(y, plain)
    options = {"batch": 2, "heads": 2, "kv_heads": 2, "rotary": None, "causal": True, "scale": 4**-0.5}
    o, probs = EXACT.attention_packed(qkv, **options)
    rows = values(probs.reshape(-1, 3), NOISY, "here/saved/own/rounding").reshape(probs.shape)
    wanted = EXACT.attention_packed_backward(G, values(qkv, NOISY, "here/saved/0/rounding"), o, rows, **options)
    np.testing.assert_array_equal(dx, wanted)


def test_operands_of_attention_are_a_permission() -> None:
    """A recipe that permits rounded operands has the bits of one that does not, in grade exact; the backend is told."""
    ids, logits, told = np.arange(4)[None], [], []
    for operands in ("float32", "bfloat16"):
        ops = RecordingBackend(EXACT)
        permits = replace(recipe("fp32"), operations={"attention": OpRecipe(operands=operands)})
        model = GPT(GPTConfig(vocab=8, context=4, layers=1, d_model=8, heads=2, ffn=8), permits, 0, ops)
        logits.append(model.logits(ids, Context()).data)
        told += [call.kwargs["operands"] for call in ops.recording.calls if call.op == "attention_packed"]
    np.testing.assert_array_equal(*logits)
    assert told == ["float32", "bfloat16"]
    for kind, wrong in (("norm", "bfloat16"), ("attention", "bfloat17")):
        assert any("operands" in problem for problem in operation_problems({kind: OpRecipe(operands=wrong)}))


def test_a_split_has_a_factor_for_each_output() -> None:
    x = Tensor(X, EXACT, requires_grad=True)
    stream, branch = F.residual_split(x, operation("residual_split", scale_grad=(0.5, 0.25)))
    F.residual_add(stream, branch, operation("residual_add", scale_in=(2.0, 4.0))).backward(G)
    np.testing.assert_array_equal(x.grad, G * np.float32(0.75))
    np.testing.assert_array_equal(
        F.residual_add(stream, branch, operation("residual_add", scale_in=(2.0, 4.0))).data, X * 6
    )


def test_embedding_and_loss() -> None:
    ids = np.array([1, 0, 1])
    sizes = {"rows": 3, "entries": 6}
    under = Operation("embedding", OpRecipe(output=ROW, gradient=ROW, scale_grad=("unit_table",)), CTX, sizes)
    y, (dx,) = run(lambda t, under: F.embedding(t, ids, under), X, under=under, seed=G[:3])
    np.testing.assert_array_equal(y, values(X[ids], ROW))
    np.testing.assert_array_equal(dx, EXACT.embedding_backward(values(G[:3], ROW), ids, 6) * np.float32(2**0.5))
    targets = np.array([0, 1, 2, 3, 4, 5])
    loss, (dx,) = run(
        lambda x, under: F.softmax_cross_entropy(x, targets, under),
        X,
        under=operation("loss", input=ROW),
        seed=np.float32(1).reshape(()),
    )
    plain, (wanted,) = run(
        lambda x, under: F.softmax_cross_entropy(x, targets), values(X, ROW), seed=np.float32(1).reshape(())
    )
    np.testing.assert_array_equal(loss, plain)
    np.testing.assert_array_equal(dx, wanted)


def test_micro_batches_continue_the_words_of_the_batch() -> None:
    under = operation("silu", output=NOISY)
    whole = run(F.silu, X, under=under)[0]
    parts = [
        run(F.silu, X[i * 3 : i * 3 + 3], under=replace(under, ctx=replace(CTX, micro=i)), seed=G[:3])[0]
        for i in range(2)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_no_second_derivative_and_nothing_recorded_without_gradients() -> None:
    from lpref.autodiff.transforms import grad

    x = Tensor(X, EXACT, requires_grad=True)
    y = F.sum(F.silu(x, operation("silu", input=ROW)))
    with pytest.raises(GraphError, match="second derivative"):
        grad(y, [x], create_graph=True)
    with no_grad():
        assert F.silu(Tensor(X, EXACT, requires_grad=True), operation("silu", input=ROW)).node is None


@pytest.mark.parametrize("spec", [{"kind": "gpt", "layers": 1, "context": 8}, {"kind": "gpt", "layers": 1, "context": 8, "activation": "gelu",
    "positions": "learned"}, {"kind": "vit", "layers": 1}, {"kind": "cnn"}, {"kind": "mlp"}], ids=str)  # fmt: skip
def test_every_operation_of_a_model_asks_its_recipe(spec: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sites that the forward pass uses are those that the model declares, each once."""
    everything = Recipe(
        "all", operations={kind: OpRecipe(output=lookup("bf16")) for kind in OPERATIONS if kind not in ("silu", "mul")}
    )
    model = build(spec, everything, 0, EXACT)
    asked = []
    monkeypatch.setattr(model, "under", lambda kind, site, ctx, **sizes: asked.append((kind, site)))
    ids = np.arange(16).reshape(2, 8)
    images = np.zeros((2, 1, 8, 8), np.float32)
    batch = (
        SimpleNamespace(inputs=ids, targets=ids)
        if spec["kind"] == "gpt"
        else SimpleNamespace(inputs=images, targets=np.array([0, 1]))
    )
    model.loss(batch, Context())
    own = [(kind, site) for kind, site in model.operation_sites() if kind not in ("silu", "mul")]
    idle = (
        {"wpe"}
        if spec.get("positions") != "learned" and spec["kind"] == "gpt"
        else {"wte"}
        if spec["kind"] == "vit"
        else set()
    )
    assert sorted(asked) == sorted((kind, site) for kind, site in own if site not in idle)
    assert len(set(own)) == len(own)


def test_silu_and_mul_are_the_parts_of_swiglu() -> None:
    ids = np.arange(16).reshape(2, 8)
    batch = SimpleNamespace(inputs=ids, targets=ids)
    losses = []
    for operations in ({}, {"silu": OpRecipe(), "mul": OpRecipe()}):
        model = build({"kind": "gpt", "layers": 1, "context": 8}, Recipe("r", operations=operations), 0, EXACT)
        loss = model.loss(batch, Context())
        loss.backward()
        losses.append((float(loss), model.grads()))
    assert abs(losses[0][0] - losses[1][0]) < 1e-6  # silu(g) is rounded to float32 before it meets u
    for name in losses[0][1]:
        np.testing.assert_allclose(losses[0][1][name], losses[1][1][name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("operations", "problem"),
    [
        ({"rmsnorm": OpRecipe()}, "operations.rmsnorm: no such operation; did you mean 'norm'?"),
        (
            {"norm": OpRecipe(input=lookup("fp8_tensor:history=delayed"))},
            "operations.norm.input.scale: operations keep no quantizer state",
        ),
        ({"norm": OpRecipe(output=ROW, smooth=True)}, "operations.norm.smooth"),
        ({"norm": OpRecipe(scale_in=(1.0, 1.0))}, "operations.norm.scale_in: 2 factors, but norm has 1 activations"),
        ({"norm": OpRecipe(scale_out="unit")}, "operations.norm: no factor 'unit'"),
        (
            {"norm": OpRecipe(input=replace(ROW, gradient=replace(ROW.gradient, kind="clipped_ste")))},
            "operations.norm.input.gradient.kind",
        ),
    ],
)
def test_problems(operations: dict, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        Recipe("wrong", operations=operations)
    assert any(p.startswith(problem) for p in caught.value.problems), caught.value.problems


def swiglu(gate_up, under=None):
    return F.swiglu_packed(gate_up, under)


def test_smoothing_divides_each_channel_by_its_linear_branch() -> None:
    gate, up = X.copy(), X[::-1].copy()
    up[:, 2] = 0
    fp8 = lookup("fp8_tensor")
    under = operation("mul", output=fp8, smooth=True)
    y, (dgate, _) = run(F.product, gate, up, under=under)
    top = np.abs(up).max(axis=0, keepdims=True)
    s = np.float32(1) / np.where(top == 0, np.float32(1), top)
    np.testing.assert_array_equal(y, values(gate * up * s, fp8) / s)
    np.testing.assert_array_equal(dgate, G * up)
    packed = np.concatenate([gate, up], axis=1)
    found, _ = run(swiglu, packed, under=replace(operation("activation", output=fp8, smooth=True), sizes={"gated": 1}))
    plain, _ = run(swiglu, packed)
    np.testing.assert_array_equal(found, values(plain * s, fp8) / s)


def test_an_aligned_channel_costs_the_others_their_bits_unless_it_is_smoothed() -> None:
    """A channel whose gate and linear weights have aligned gives products 2^24 times the others': per-tensor E4M3 flushes these to zero."""
    gate_up = RNG.standard_normal((64, 32)).astype(np.float32)
    gate_up[:, 3] = gate_up[:, 19] = 2.0**12
    plain, _ = run(swiglu, gate_up, seed=np.ones((64, 16), np.float32))
    errors = []
    for smooth in (False, True):
        under = replace(operation("activation", output=lookup("fp8_tensor"), smooth=smooth), sizes={"gated": 1})
        found, _ = run(swiglu, gate_up, under=under, seed=np.ones((64, 16), np.float32))
        errors.append(np.delete(np.abs(found - plain), 3, axis=1).max() / np.delete(np.abs(plain), 3, axis=1).max())
    assert errors[0] == 1.0
    assert errors[1] < 2.0**-3


def test_random_sites_are_checked_for_clashes() -> None:
    assert operation_sites(OpRecipe(saved=NOISY, gradient=NOISY), "attention", "h") == [
        "h/gradient/rounding", "h/saved/0/rounding", "h/saved/own/rounding",
    ]  # fmt: skip
    model = build({"kind": "mlp"}, recipe("actnn"), 0, EXACT)
    assert "fc.0.activation/saved/0/rounding" in model.random_sites()
    assert "fc.0/save/x/rounding" in model.random_sites()

"""What a model lets a backend keep in bfloat16 changes no bit: a backend that rounds it is trained beside one that does not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lpref.accel import backend
from lpref.autodiff.engine import walk
from lpref.models.gpt import GPT, GPTConfig
from lpref.ref.backend import Backend
from lpref.ref.recipes import Context, LinearRecipe
from lpref.ref.recipes.sixteen import only_operands, rounds_gradient, rounds_input
from lpref.ref.recording import RecordingBackend
from lpref.specs import recipe as recipe_named
from lpref.trainer.quantizers import QuantizerStates, places_of

LLAMA = GPTConfig(vocab=40, context=16, layers=1, d_model=32, heads=2, kv_heads=1, ffn=48)
GPT2 = replace(LLAMA, norm="layernorm", activation="gelu", positions="learned", bias=True, tied=True)


def trained(ops: Backend, cfg: GPTConfig, name: str, **options: Any) -> dict[str, np.ndarray]:
    """Gradients of every parameter."""
    model = GPT(cfg, recipe_named(name), 0, ops)
    ids = np.random.default_rng(1).integers(0, 40, (2, 17))
    batch = SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:])
    state = QuantizerStates(places_of(model.recipes)).start()
    model.loss(batch, Context(init=True, state=state))
    model.loss(batch, Context(seed=0, step=3, update=3, state=state, **options)).backward()
    return {key: p.grad for key, p in model.params.items()}


def keeping(**more: Any) -> RecordingBackend:
    """The cpu backend of grade fast as one that keeps arrays in 16 bits; here it rounds them."""
    ops = RecordingBackend(backend("cpu", "fast"))
    ops.arrays = replace(ops.arrays, sixteen=True, **more)
    return ops


@pytest.mark.parametrize("cfg", [LLAMA, GPT2, replace(LLAMA, experts=2)], ids=["llama", "gpt2", "experts"])
@pytest.mark.parametrize("name", ["bf16", "nvfp4", "fp8_delayed", "bf16_weights_sr"])
def test_no_bit_changes(cfg: GPTConfig, name: str) -> None:
    ops = keeping()
    got, want = trained(ops, cfg, name), trained(backend("cpu", "fast"), cfg, name)
    for key in want:
        np.testing.assert_array_equal(got[key].view(np.uint32), want[key].view(np.uint32), key)
    stored = [call.op for call in ops.recording.calls if "store" in call.kwargs]
    if name == "bf16" and not cfg.experts:  # norms of a block and the last, the activation, gradients; those of biases by `cast`
        norm, act = ("rmsnorm", "swiglu_packed") if cfg is LLAMA else ("layernorm", "gelu")
        back = [f"{act}_backward", "attention_packed_backward", "softmax_cross_entropy_backward", *([] if cfg is LLAMA else 4 * ["cast"])]
        assert sorted(stored) == sorted([norm, f"add_{norm}", f"add_{norm}", act, *back])
        assert [call.op for call in ops.recording.calls if "copy" in call.kwargs] == [f"{norm}_backward", f"add_{norm}_backward"]


@pytest.mark.parametrize("cfg", [LLAMA, GPT2, replace(LLAMA, experts=2)], ids=["llama", "gpt2", "experts"])
@pytest.mark.parametrize("name", ["bf16", "nvfp4"])
def test_what_a_backward_makes_again_changes_no_bit(cfg: GPTConfig, name: str) -> None:
    ops = keeping(again=0)
    got, want = trained(ops, cfg, name), trained(backend("cpu", "fast"), cfg, name)
    for key in want:
        np.testing.assert_array_equal(got[key].view(np.uint32), want[key].view(np.uint32), key)
    made = sorted(call.op for call in ops.recording.calls if "again" in call.kwargs)
    if name == "bf16" and not cfg.experts:
        norm = "rmsnorm" if cfg is LLAMA else "layernorm"
        act = [] if cfg is LLAMA else ["gelu_backward"]
        assert made == sorted([*act, f"{norm}_backward", *2 * [f"add_{norm}_backward"]])


def test_who_is_not_visited_makes_its_result_at_once() -> None:
    """The gradient of one weight alone: its input is made again by the forward, since no backward comes to it."""
    found = []
    for ops in (keeping(again=0), backend("cpu", "fast")):
        model = GPT(GPT2, recipe_named("bf16"), 0, ops)
        ids = np.random.default_rng(1).integers(0, 40, (2, 17))
        loss = model.loss(SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:]), Context(seed=0, step=3, update=3))
        weight = model.params["h.0.mlp.down.weight"].node
        found.append(walk([(loss, None)], {weight})[weight].data)
    np.testing.assert_array_equal(*[g.view(np.uint32) for g in found])


def test_statistics_see_what_was_there() -> None:
    for options in ({"collect": True}, {"init": True}):
        ops = keeping()
        trained(ops, LLAMA, "bf16", **options)
        assert not any("store" in call.kwargs for call in ops.recording.calls)


def test_which_layers() -> None:
    plain = recipe_named("bf16").linear
    assert rounds_input(plain)
    assert rounds_gradient(plain)
    assert only_operands(LinearRecipe())
    assert not rounds_input(LinearRecipe())
    for name in ("nvfp4", "fp8_delayed", "mxfp8"):
        assert not rounds_gradient(recipe_named(name).linear), name
    for name in ("lsq", "int8_fallback", "ifairy"):
        assert not only_operands(recipe_named(name).linear), name

"""Gates as data: candidates, prices, quantizers against the page and the official code, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lpref.conformance.proves import proves
from lpref.ref.errors import SpecError
from lpref.ref.quantize import quantize
from lpref.ref.recipes import Context, LinearRecipe, linear_backward, linear_forward
from lpref.ref.recipes.candidates import bits, candidates_of, prices
from lpref.ref.recipes.change import in_force
from lpref.ref.recipes.controllers import kind_of
from lpref.ref.recipes.gate import Gate
from lpref.ref.recipes.loss_hooks import hook_of
from lpref.specs import recipe
from lpref.specs.loader import RECIPE, load

from . import emulation
from .emulation_integer import stochastic
from .recorder import Recorder, assert_operands

F = np.float32
DFQ = recipe("fractrain_dfq")
OFFICIAL = json.loads((Path(__file__).parent / "data" / "fractrain_gate.json").read_text(encoding="utf-8"))
BITS = [(3, 4, 6), (4, 4, 6), (4, 4, 8), (6, 4, 8), (6, 4, 12)]


def spanned(v: np.ndarray, b: int, rows: bool = False, word=None) -> np.ndarray:
    """x^ = q / S + m with S = (2^b - 1) / (M - m), in float32; rows: each its own range."""
    low, high = (edge(axis=1, keepdims=True) if rows else edge() for edge in (v.min, v.max))
    n = F(2**b - 1)
    s = n / (high - low)
    u = ((v - low) * s).astype(np.float64)
    q = np.rint(u) if word is None else stochastic(u, word)
    return (np.clip(q, 0, n).astype(F) / s + low).astype(np.float64)


@pytest.mark.parametrize("name", ["fractrain_dfq", "fractrain"])
@pytest.mark.parametrize("k", range(5))
@proves("recipe:{name}", "oracle")
def test_operands_of_each_candidate_are_the_pages(name: str, k: int) -> None:
    rng, (a, w, g) = np.random.default_rng(k), BITS[k]
    x, weight, dy = (rng.standard_normal(shape).astype(F) for shape in ((64, 128), (96, 128), (64, 96)))
    made, ops = recipe(name), Recorder()
    linear = candidates_of(made.gate, made.linear)[k]
    ctx = Context(seed=emulation.SEED, step=emulation.STEP, site=emulation.SITE)
    _, saved = linear_forward(x, weight, linear, ctx, ops)
    linear_backward(dy, saved, linear, ctx, ops)
    xq, wq = spanned(x, a), spanned(weight, w, rows=True)
    gq = spanned(dy, g, word=emulation.words("dgrad/a/rounding", dy.shape, 16))
    assert_operands(ops, {"fprop.a": xq, "fprop.b": wq, "dgrad.a": gq, "dgrad.b": wq, "wgrad.a": gq, "wgrad.b": xq}, dtype=F)


@pytest.mark.parametrize("case", OFFICIAL["quantizers"], ids=lambda case: case["slot"])
@proves("recipe:fractrain_dfq", "official")
def test_values_are_the_official_quantizers(case: dict) -> None:
    """Ranges of 2^b - 1 steps of a power of two, where dividing by the step and multiplying by its inverse round alike; ties are among them."""
    x, out = (np.frombuffer(bytes.fromhex(case[name]["f32"]), F).reshape(case[name]["shape"]) for name in ("x", "out"))
    q = DFQ.linear.slot(case["slot"]).quantizer
    q = replace(q, rounding=case["rounding"], word_bits=None) if "rounding" in case else q
    np.testing.assert_array_equal(quantize(x, q).dequantize(F) + F(0), out + F(0))


@proves("recipe:fractrain_dfq", "official")
def test_prices_are_the_official_ones() -> None:
    """train_dfq.py's `computation_cost` and `cp_ratio` of recorded masks; all of them are multiples of 2^-9 until cp_ratio's division."""
    made = candidates_of(DFQ.gate, DFQ.linear)
    assert [bits(linear) for linear in made] == BITS
    masks = [np.rint(np.frombuffer(bytes.fromhex(m["f64"]))).reshape(m["shape"]) for m in OFFICIAL["masks"]]
    total = sum(Fraction(sum(prices(linear))) * int(mask[:, k].sum()) for mask in masks for k, linear in enumerate(made))
    assert total == Fraction(OFFICIAL["cost"])
    assert float(100 * total / (masks[0].shape[0] * 3 * len(masks))) == OFFICIAL["cp_ratio"]


def test_prices_of_a_candidate() -> None:
    assert prices(LinearRecipe()) == (1.0, 1.0, 1.0)
    for linear, (a, w, g) in zip(candidates_of(DFQ.gate, DFQ.linear), BITS, strict=True):
        assert [Fraction(p) for p in prices(linear)] == [Fraction(a * w, 1024), Fraction(g * w, 1024), Fraction(a * g, 1024)]


def test_shapes_of_the_parameters() -> None:
    shapes = {name: (shape, std) for name, shape, std in Gate(others=({}, {}), features=6, embedding=4, hidden=5).shapes({"a": 8, "b": 16})}
    own = [f"gate.b.{part}.{what}" for part in ("features", "embedding") for what in ("weight", "bias")]
    assert [name for name in shapes if name.startswith("gate.b.")] == own
    assert {name: shape for name, (shape, _) in shapes.items() if not name.startswith("gate.b.")} == {
        "gate.a.features.weight": (6, 8), "gate.a.features.bias": (6,), "gate.a.embedding.weight": (4, 6), "gate.a.embedding.bias": (4,),
        "gate.lstm.weight_ih": (20, 4), "gate.lstm.weight_hh": (20, 5), "gate.lstm.bias_ih": (20,), "gate.lstm.bias_hh": (20,),
        "gate.proj.weight": (3, 5), "gate.proj.bias": (3,),
    }  # fmt: skip
    assert shapes["gate.b.features.weight"][1] ** 2 == pytest.approx(2 / 6, rel=2**-50)
    assert shapes["gate.lstm.bias_hh"][1] ** 2 == pytest.approx(1 / 15, rel=2**-50)


def test_fractrain_raises_the_target_and_ends_as_dfq() -> None:
    both = recipe("fractrain")
    levels = kind_of(both.controllers[0]).levels
    targets = [hook_of(in_force(both, [level]).loss_hooks[0]).target for level in levels]
    assert targets == [1.5 + i * 0.5 for i in range(3 + 1)]  # train_frac.py, `target_ratio_list`, under README's arguments
    last = in_force(both, [levels[-1]])
    assert (last.linear, last.gate, last.loss_hooks) == (DFQ.linear, DFQ.gate, DFQ.loss_hooks)
    assert kind_of(recipe("fractrain_pfq").controllers[0]).threshold == kind_of(both.controllers[0]).threshold


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"gate": {"hidden": 0}}, "gate.hidden: 0 is not positive"),
        ({"gate": {"others": [{"fprop.c.quantizer": "int8_tensor"}]}}, "gate.others.0: .*no such field"),
        ({"gate": {"others": [{"fprop.a.quantizer.format": "int4"}]}}, "gate.others.0: .*unsigned"),
        ({"gate": {"others": [{}, {"fprop.a.quantizer.scale.history": "hindsight"}]}}, "gate.others.1: a scale with a memory"),
        ({"gate": None}, "bit_cost is the price of what a gate picks"),
        ({"loss_hooks": [{"kind": "bit_cost", "parameters": {"target": -1.0}}]}, "target: -1.0"),
        ({"loss_hooks": [{"kind": "bit_cost", "parameters": {"weight": -1.0}}]}, "weight: -1.0"),
        ({"loss_hooks": [{"kind": "block_output", "parameters": {}}]}, "a gate's state runs through all"),
        ({"schedule": [{"set": {"gate.hidden": 8}, "start": 2}]}, "schedule.0.set: gate: its parameters are made before the first step"),
    ],
)  # fmt: skip
def test_what_is_refused(change: dict, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        load({"base": "fractrain_dfq", **change}, RECIPE)

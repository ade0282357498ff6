"""Rules, schedules, changed fields, and the share of low precision."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from lpref.accel.reference import ReferenceBackend
from lpref.ref import random
from lpref.ref.errors import SpecError, UnknownNameError, WordsError
from lpref.ref.recipes import (
    EXEMPT,
    Context,
    Phase,
    Recipe,
    Rule,
    Transform,
    gemm_flop_share,
    linear_backward,
    linear_forward,
)
from lpref.ref.recipes.change import changed
from lpref.ref.recipes.recipe import LinearRecipe, random_sites
from lpref.specs import recipe


@dataclass(frozen=True)
class Site:
    name: str
    role: str
    index: int
    count: int
    n: int
    k: int
    rows: int = 1


def gpt(layers: int = 4) -> list[Site]:
    """The linear layers of the default model: d = 128, SwiGLU of 352, 256 bytes."""
    shapes = {"attn.qkv": ("qkv", 384, 128), "attn.out": ("attn_out", 128, 128), "mlp.up": ("mlp_up", 704, 128), "mlp.down": ("mlp_down", 128, 352)}
    blocks = [Site(f"h.{i}.{s}", role, i, layers, n, k, 128) for i in range(layers) for s, (role, n, k) in shapes.items()]
    return [*blocks, Site("head", "head", -1, layers, 256, 128, 128)]


def test_nvfp4_exempts_head_and_last_block() -> None:
    r = recipe("nvfp4")
    bound = r.bind(gpt())
    low = [name for name, linear in bound.items() if linear == r.linear]
    assert low == [s.name for s in gpt() if s.index in (0, 1, 2)]
    assert bound["head"] == bound["h.3.mlp.up"] == recipe("bf16").linear


def test_first_rule_wins_and_idle_rules_are_errors() -> None:
    fp8 = recipe("fp8_current").linear
    rules = (Rule(use="fp8", name="h.*.mlp.*"), Rule(index=1), Rule(role=("head",)))
    r = Recipe("r", variants={"fp8": fp8}, linear=recipe("bf16").linear, rules=rules)
    bound = r.bind(gpt())
    assert bound["h.1.mlp.up"] == fp8
    assert bound["h.1.attn.qkv"] == bound["head"] == EXEMPT
    assert bound["h.0.attn.qkv"] == r.linear
    with pytest.raises(SpecError, match=r"rules.3: role conv matches no layer of the model"):
        replace(r, rules=(*rules, Rule(role=("conv",)))).bind(gpt())
    replace(r, rules=(*rules, Rule(role=("conv",), optional=True))).bind(gpt())
    assert r.bind(gpt())["h.0.mlp.up"] == fp8


def test_two_sites_of_one_stream_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """N1: a collision inside a model raises."""
    monkeypatch.setattr("lpref.ref.random.stream", lambda site: len(site))
    with pytest.raises(WordsError, match="share the stream"):
        recipe("nvfp4").bind(gpt())
    recipe("fp8_block").bind(gpt())  # draws nothing


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4"])
def test_random_sites_are_what_a_step_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    linear, drawn = recipe(name).linear, set()
    plain = random.stream
    monkeypatch.setattr("lpref.ref.random.stream", lambda site: (drawn.add(site), plain(site))[1])
    x, ops, ctx = np.ones((32, 32), np.float32), ReferenceBackend("exact"), Context(site="h.0.mlp.up")
    linear_backward(x, linear_forward(x, x, linear, ctx, ops)[1], linear, ctx, ops)
    assert drawn == set(random_sites(linear, "h.0.mlp.up"))


def test_first_and_last() -> None:
    assert [i for i in range(-1, 6) if Rule(first=2).matches("x", "fc", i, 6)] == [0, 1]
    assert [i for i in range(-1, 6) if Rule(last=2).matches("x", "fc", i, 6)] == [4, 5]
    with pytest.raises(SpecError, match="without a condition"):
        Rule(use="exempt")


def test_share_of_fp4_in_the_default_model() -> None:
    """By hand: 2 n k per layer; 3 of 4 blocks in FP4; 384*128 + 128*128 + 704*128 + 128*352 = 200 704 a block, head 32 768."""
    share = gemm_flop_share(recipe("nvfp4"), gpt())
    expected = 3 * 200_704 / (4 * 200_704 + 32_768)
    assert share == dict.fromkeys(("fprop", "dgrad", "wgrad", "all"), expected)
    mx = gemm_flop_share(recipe("mxfp4"), gpt())
    assert mx["fprop"] == 0
    assert mx["dgrad"] == mx["wgrad"] == 4 * 200_704 / (4 * 200_704 + 32_768)
    assert gemm_flop_share(recipe("int8_switchback"), gpt(), bits=8)["wgrad"] == 0
    assert gemm_flop_share(recipe("int8_switchback"), gpt(), bits=8)["dgrad"] == 1
    assert gemm_flop_share(recipe("bitnet_b158"), gpt(), bits=8)["dgrad"] == 0  # dY is float32
    assert gemm_flop_share(recipe("fp32"), gpt())["all"] == 0
    assert gemm_flop_share(recipe("fp32"), [])["all"] == 0


def test_schedule_switches_and_is_pure() -> None:
    slots = ("fprop.a", "fprop.b", "dgrad.a", "wgrad.a", "wgrad.b")
    bf16 = {**{f"linear.{slot}.quantizer": "bf16" for slot in slots}, "linear.wgrad.transform": "none"}
    r = recipe({"base": "nvfp4", "schedule": [{"start": 0.82, "unit": "fraction", "set": bf16}]})
    before, after = r.at(81, 100), r.at(82, 100)
    assert before == r
    assert after.linear.fprop.a.quantizer.format == "bfloat16"
    assert after.linear.wgrad.transform is None
    assert r.at(81, 100) == before


def test_phases_overlap_in_order() -> None:
    rounding = "linear.dgrad.a.quantizer.rounding"
    phases = (Phase({rounding: "nearest_away"}, start=5), Phase({rounding: "toward_zero"}, start=7, stop=9, unit="update"))
    r = replace(recipe("nvfp4"), schedule=phases)
    found = [r.at(step, 100, update).linear.dgrad.a.quantizer.rounding for step, update in ((4, 4), (5, 4), (8, 7), (11, 9))]
    assert found == ["stochastic", "nearest_away", "toward_zero", "nearest_away"]


def test_changed_says_what_is_wrong() -> None:
    r = recipe("nvfp4")
    with pytest.raises(SpecError, match=r"linear.fprop.a.quantizer: unknown quantizer 'nvfp5'; did you mean"):
        changed(r, {"linear.fprop.a.quantizer": "nvfp5"})
    with pytest.raises(SpecError, match=r"expected str, got 3"):
        changed(r, {"linear.fprop.a.quantizer.rounding": 3})
    with pytest.raises(SpecError, match=r"rules.7: no such field"):
        changed(r, {"rules.7.use": "exempt"})
    assert changed(r, {"rules.1.last": 2}).rules[1].last == 2


def test_transform_fits_its_axis() -> None:
    t = Transform(size=16, signs="fixed", vector=(1, -1) * 8, tail="shrink")
    assert (t.fitted(48).size, t.fitted(40).size, t.fitted(7).size) == (16, 8, 1)
    assert t.fitted(40).vector == (1, -1) * 4
    fixed = {"size": 2, "signs": "fixed"}
    for wrong in ({"size": 12}, fixed, {**fixed, "vector": (1, 2)}, {"size": 2, "vector": (1, 1)}, {"size": 4, "stream": "s"}):
        with pytest.raises(SpecError):
            Transform(**wrong)


def test_unknown_gemm() -> None:
    with pytest.raises(UnknownNameError, match="unknown GEMM 'fpro'; did you mean 'fprop'"):
        LinearRecipe().gemm("fpro")

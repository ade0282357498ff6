"""Specs by name, path and mapping; extends, base, set; and what a wrong spec gets."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lpref
from lpref.ref.errors import LprefError, SpecError, UnknownNameError
from lpref.ref.quantize import QUANTIZERS
from lpref.ref.recipes import Recipe
from lpref.specs import QUANTIZER, RECIPE, load, load_text, quantizer, recipe, to_yaml
from lpref.specs.paths import settable

SPINE = ["fp32", "bf16", "fp16_loss_scaled", "fp8_delayed", "fp8_current", "fp8_block", "mxfp8", "mxfp4", "nvfp4"]
SPINE += ["int8_switchback", "bitnet_b158", "lsq"]
ACCEPTANCE = ["quartet", "halo", "int4_hq_lss", "coat", "actnn", "l4q", "ifairy", "double_rounding"]


def test_names() -> None:
    assert set(SPINE + ACCEPTANCE) <= set(RECIPE.names())
    assert all(recipe(name).executable for name in SPINE)


@pytest.mark.parametrize("name", RECIPE.names())
def test_recipes_round_trip(name: str) -> None:
    one = recipe(name)
    assert one.name == name
    assert one.title
    assert one.source
    assert load_text(one.to_yaml(), RECIPE) == one
    assert load_text(to_yaml(one, defaults=False), RECIPE) == one
    file = Path(__file__).parents[2] / "specs" / "recipes" / f"{name}.yaml"
    assert file.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=../spec.schema.json\n")


@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantizers_round_trip(name: str) -> None:
    one = quantizer(name)
    assert one == QUANTIZERS[name]
    assert load_text(to_yaml(one), QUANTIZER) == one


def test_public_names() -> None:
    assert lpref.recipe("nvfp4") == recipe("nvfp4")
    assert lpref.quantizer("mxfp4@1") == QUANTIZERS["mxfp4"]
    assert lpref.Recipe is Recipe
    assert recipe(recipe("nvfp4")) is not None


def test_base_and_set() -> None:
    one = recipe({"base": "nvfp4", "set": {"linear.wgrad.transform": "none", "linear.dgrad.a.quantizer.rounding": "nearest_even"}})
    assert one.linear.wgrad.transform is None
    assert one.linear.dgrad.a.quantizer.rounding == "nearest_even"
    assert one.linear.fprop == recipe("nvfp4").linear.fprop
    into = {"linear.dgrad.a.quantizer": "mxfp4", "linear.dgrad.a.quantizer.rounding": "stochastic"}
    q = recipe({"base": "nvfp4", "set": {**into, "linear.dgrad.a.quantizer.tail": "pad_zero"}}).linear.dgrad.a.quantizer
    assert (q.scale.rule, q.rounding) == ("mx", "stochastic")
    assert recipe("nvfp4", {"rules.1.last": 2}).rules[1].last == 2


def test_a_changed_quantizer_is_nameless() -> None:
    q = quantizer({"base": "nvfp4", "rounding": "stochastic"})
    assert (q.name, q.standard, q.rounding, q.scale) == ("", "", "stochastic", QUANTIZERS["nvfp4"].scale)
    assert quantizer({"base": "nvfp4"}) == QUANTIZERS["nvfp4"]


def test_extends_files(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("lpref: 1\nextends: nvfp4\nname: own\nlinear: {wgrad: {transform: none}}\nrules: [{role: [head]}]\n")
    (tmp_path / "next.yaml").write_text("lpref: 1\nextends: own.yaml\nname: next\nset: {linear.dgrad.a.quantizer: bf16}\n")
    own, following = recipe(tmp_path / "own.yaml"), recipe(str(tmp_path / "next.yaml"))
    assert own.linear.wgrad.transform is None
    assert own.linear.wgrad.a == recipe("nvfp4").linear.wgrad.a
    assert len(own.rules) == 1, "lists are replaced"
    assert following.linear.dgrad.a.quantizer.format == "bfloat16"
    assert following.linear.wgrad == own.linear.wgrad
    assert load_text(following.to_yaml(), RECIPE) == following


def test_circles_and_chains(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("lpref: 1\nextends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("lpref: 1\nextends: a.yaml\n")
    with pytest.raises(SpecError, match=r"a.yaml → b.yaml → a.yaml goes in a circle"):
        recipe(tmp_path / "a.yaml")
    for i in range(12):
        (tmp_path / f"{i}.yaml").write_text(f"lpref: 1\nextends: {i + 1}.yaml\n")
    with pytest.raises(SpecError, match="longer than 8 files"):
        recipe(tmp_path / "0.yaml")


def test_several_errors_at_once() -> None:
    text = """
lpref: 1
name: broken
titel: x
linear:
  fprop:
    a: {quantizer: nvpf4}
    b: {quantizer: {format: e4m3, blocks: {k: 0}, roundig: up, scale: {rule: te, apply: mul_inverse, eps: true}}}
    output: [1]
  dgrad: 7
  wgrad: {accumulate: {inner: exakt}}
loss_scale: {kind: dynamic, init: 3.0}
rules: [{use: exempt, role: head}, {last: -x}]
weights: {clip: .nan}
"""
    with pytest.raises(SpecError) as caught:
        load_text(text, RECIPE, "own.yaml")
    found = "\n".join(caught.value.problems)
    for expected in (
        "titel: no such field; did you mean 'title'?",
        "linear.fprop.a.quantizer: unknown quantizer 'nvpf4'; did you mean 'nvfp4'",
        "linear.fprop.b.quantizer.roundig: no such field; did you mean 'rounding'",
        "linear.fprop.b.quantizer.blocks: blocks.k is 0",
        "linear.fprop.b.quantizer.scale.eps: expected a number, got True",
        "linear.fprop.output: expected text, got [1]",
        "linear.dgrad: expected a mapping, got 7",
        "linear.wgrad.accumulate.inner: unknown inner accumulation 'exakt'; did you mean 'exact'?",
        "loss_scale.init: 3.0 is not a power of two",
        "rules.0.role: expected a list, got 'head'",
        "rules.1.last: expected an integer, got '-x'",
        "weights.clip: expected a finite number, got nan",
    ):
        assert expected in found, f"{expected!r} is not in\n{found}"
    assert str(caught.value).startswith("own.yaml:\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"linear.wgrad.transfrom": "none"}, "linear.wgrad.transfrom: no such field; did you mean 'transform'"),
        ({"linear.fprop.b.quantizer.scale.rule.x": 1}, "linear.fprop.b.quantizer.scale.rule is 'nvfp4', which has no fields"),
        ({"linear.dgrad.b.quantizer.rounding": "up"}, "linear.dgrad.b.quantizer is None, which has no fields; set linear.dgrad.b.quantizer first"),
        ({"rules.9.use": "x"}, "rules.9: no such entry; the list has 2"),
        ({"variants.fp8.fprop": 1}, "variants.fp8: no such entry; known: bf16"),
        ({"linear.fprop.a.quantizer.rounding": "nearst_even"}, "rounding"),
        ({"linear.fprop.output": 3}, "linear.fprop.output: expected text, got 3"),
    ],
)
def test_paths_that_lead_nowhere(change: dict, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        recipe({"base": "nvfp4", "set": change})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"base": "nvfp4", "extends": "bf16"}, "stands beside base"),
        ({"base": "nvfp4", "set": 3}, "set: expected a mapping, got 3"),
        ({}, "name: missing, and it has no default"),
        (3, "a recipe is a name, a path or a mapping, not int"),
        ("missing.yaml", "no such file"),
        ({"base": "nvfp4", "linear": {"fprop": {"a": {"quantizer": None}}}}, ""),
    ],
)
def test_sources(source: object, message: str) -> None:
    if message:
        with pytest.raises(SpecError) as caught:
            recipe(source)
        assert message in str(caught.value)
    else:
        assert recipe(source).linear.fprop.a.quantizer is None


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="unknown recipe 'nvfp5'; did you mean 'nvfp4'"):
        recipe("nvfp5")
    with pytest.raises(UnknownNameError, match="unknown quantizer 'mxfp5'"):
        quantizer("mxfp5")
    with pytest.raises(UnknownNameError, match="revision of quantizer"):
        quantizer("mxfp4@9")


def test_version_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"lpref: missing; a spec starts with `lpref: 1`"):
        load_text("name: x\n", RECIPE)
    with pytest.raises(SpecError, match="lpref: 2 is not a version"):
        load_text("lpref: 2\nname: x\n", RECIPE)
    (tmp_path / "own.yaml").write_text("name: x\nlinear: 3\n", encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "own.yaml", RECIPE)
    assert [text.partition(":")[0] for text in caught.value.problems] == ["lpref", "linear"]


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)
ANYTHING |= st.dictionaries(st.sampled_from(["kind", "base", "set", "x", "format"]), ANYTHING, max_size=2)


@given(path=st.sampled_from([row[0] for row in settable(recipe("lsq"))]), cut=st.integers(0, 3), value=ANYTHING)
def test_any_value_anywhere_is_a_recipe_or_a_typed_error(path: str, cut: int, value: object) -> None:
    steps = path.split(".")
    place = ".".join(steps[: max(1, len(steps) - cut)])
    with contextlib.suppress(LprefError):
        assert isinstance(recipe({"base": "lsq", "set": {place: value}}), Recipe)


def test_settable_paths_are_settable() -> None:
    """Every path that is listed can be set to the value that it has, all at once."""
    one = recipe("nvfp4")
    rows = settable(one)
    assert ("linear.wgrad.transform.size", 16, "int") in rows
    assert load(one, RECIPE, {path: value for path, value, _ in rows}) == one

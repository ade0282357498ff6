"""Every recipe trains on a GPU: all quantizers that it names have kernels; found without one."""

from __future__ import annotations

from dataclasses import replace

from served import fast, quantizers, served

from lpref.ref.recipes.candidates import candidates_of
from lpref.specs import RECIPE, recipe


def test_what_has_kernels() -> None:
    assert [name for name in RECIPE.names() if not served(recipe(name))] == []


def test_candidates_of_a_gate_have_kernels() -> None:
    gated = [one for one in map(recipe, RECIPE.names()) if one.gate is not None]
    assert {one.name for one in gated} >= {"fractrain", "fractrain_dfq"}
    made = [replace(one, linear=linear) for one in gated for linear in candidates_of(one.gate, one.linear)]
    assert all(served(one) and fast(one) for one in made)


def test_what_grade_fast_cannot_follow() -> None:
    assert {name for name in RECIPE.names() if not fast(recipe(name))} == {"deepseek_v3_hopper", "hdqt_acc8", "hfp8", "wang2018"}


def test_every_quantizer_is_seen() -> None:
    assert len(list(quantizers(recipe("bf16")))) == 3
    assert {q.format for q in quantizers(recipe("coat"))} >= {"e4m3", "e5m2", "bfloat16"}

"""Cycles, evaluation fields, and the validation of everything that changes while a recipe runs."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.conformance.proves import proves
from lpref.ref.errors import SpecError
from lpref.ref.recipes import Cycle, Phase, Recipe
from lpref.specs import recipe

FORMAT = "linear.fprop.a.quantizer.format"
INT8 = {"fprop": {"a": {"quantizer": "int8_tensor"}}}


def official(step: int, total: int, low: int, high: int, cycles: int) -> float:
    """RICE-EIC/CPT eb9cdaa cpt_imagenet/train.py lines 389-396, with its cyclic_period of line 208."""
    period = int(total / cycles)
    return np.rint(low + 0.5 * (high - low) * (1 + np.cos(np.pi * ((step % period) / period) + np.pi)))


@pytest.mark.parametrize(
    ("low", "high", "cycles", "total"), [(3, 8, 32, 320), (3, 8, 8, 1003), (4, 6, 1, 50), (8, 8, 4, 64), (2, 8, 10, 10)]
)
@proves("recipe:cpt", "official")
def test_bits_are_the_official_ones(low: int, high: int, cycles: int, total: int) -> None:
    found = [Cycle(low, high, cycles).bits(t, total) for t in range(total)]
    assert found == [official(t, total, low, high, cycles) for t in range(total)]
    assert min(found) == found[0] == low
    assert set(found) <= set(range(low, high + 1))


def test_a_cycle_reaches_its_top_and_falls_back() -> None:
    found = [Cycle(3, 8, 2).bits(t, 200) for t in range(200)]
    assert found[99] == 8
    assert found[100] == 3
    assert found[:100] == sorted(found[:100])
    assert [Cycle(3, 8, 32).bits(t, 5) for t in range(5)] == [3] * 5


def test_bits_go_into_the_recipe() -> None:
    r = recipe(
        {
            "name": "r",
            "linear": INT8,
            "schedule": [{"set": {FORMAT: "int{bits}"}, "cycle": {"low": 3, "high": 8, "cycles": 2}}],
        }
    )
    assert [r.at(t, 16).linear.fprop.a.quantizer.format for t in (0, 4, 7, 8)] == ["int3", "int6", "int8", "int3"]
    assert r.at(3, 16).schedule == ()
    assert r.changes(0, 16) == r.changes(8, 16) != r.changes(7, 16)


def test_equal_ends_are_a_static_run() -> None:
    r = recipe(
        {
            "name": "r",
            "linear": INT8,
            "schedule": [{"set": {FORMAT: "int{bits}"}, "cycle": {"low": 8, "high": 8, "cycles": 4}}],
        }
    )
    assert all(r.at(t, 40).linear == r.linear for t in range(40))


@pytest.mark.parametrize(("changes", "message"), [
    ({"schedule": [{"set": {FORMAT: "int{bits}"}, "cycle": {"low": 8, "high": 18}}]}, "schedule.0.set"),
    ({"schedule": [{"set": {FORMAT: "int4"}, "cycle": {"low": 3, "high": 8}}]}, "no value has {bits}"),
    ({"schedule": [{"set": {FORMAT: "int{bits}"}, "cycle": {"low": 8, "high": 3}}]}, "low: 8 bits are more than high: 3"),
    ({"evaluation": {"linear.fprop.c": "int8"}}, "evaluation: linear.fprop.c: no such field"),
    ({"passes": [{"name": "a", "update": "each"}, {"name": "b"}]}, "each and summed do not go together"),
    ({"passes": [{"name": "a"}, {"name": "a"}]}, "the names a, a are not all different"),
    ({"controllers": [{"kind": "plateau"}]}, "controllers.0: parameters.levels: none"),
    ({"controllers": [{"kind": "plateau", "parameters": {"levels": [{FORMAT: "int99"}]}}]}, "controllers.0: "),
    ({"controllers": [{"kind": "ema"}]}, "controllers.0.kind: no weight slot is guided"),
    ({"controllers": [{"kind": "steer", "parameters": {"path": "fprop.a.quantizer.scale.multipliers"}}]}, "no such field; did you mean 'multiplier'"),
    ({"linear.fprop.b": {"quantizer": "int8_tensor", "guided": True}}, "fprop.b.guided: under the scale rule 'amax'"),
    ({"linear.fprop.a.guided": True}, "fprop.a.guided: only the forward weight slot"),
])  # fmt: skip
def test_what_cannot_run_is_said_before_it_starts(changes: dict, message: str) -> None:
    with pytest.raises(SpecError) as error:
        recipe({"base": {"name": "r", "linear": INT8}, "set": changes})
    assert message in str(error.value)


def test_a_phase_without_a_cycle_is_what_it_was() -> None:
    assert Phase({FORMAT: "int4"}).changes(3, 9) == {FORMAT: "int4"}
    r = Recipe("r")
    assert r.at(5, 10) is r

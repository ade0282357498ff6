"""Blocks that do not divide a layer are problems of the recipe, with the field, the length and the remedy."""

from __future__ import annotations

from lpref.ref.recipes.tails import tail_problems
from lpref.specs import recipe

MX = {"fprop": {"a": {"quantizer": "mxfp4"}, "b": {"quantizer": "mxfp4"}}}


def problems(linear: object, k: int, n: int, **more: object) -> list[str]:
    one = recipe({"name": "tails", "title": "t", "source": "s", "linear": linear, **more})
    return tail_problems(one, {"fc": one.linear}, {"fc": {"K": k, "N": n}})


def test_field_length_and_remedy() -> None:
    found = problems(MX, 72, 64)
    assert [text.partition(":")[0] for text in found] == ["linear.fprop.a.quantizer.tail", "linear.fprop.b.quantizer.tail"]
    assert "K of the layer fc is 72, no multiple of the block of 32; use tail: pad_zero or partial" in found[0]
    assert problems(MX, 64, 72) == []


def test_square_blocks_divide_both_axes() -> None:
    square = {"fprop": {"b": {"quantizer": "fp8_block128"}}}
    assert [text.split("but ")[1][0] for text in problems(square, 130, 131)] == ["K", "N"]


def test_a_variant_is_named_once_for_all_its_layers() -> None:
    one = recipe({"name": "tails", "title": "t", "source": "s", "linear": {}, "variants": {"own": MX}, "rules": [{"use": "own", "role": ["fc"]}]})
    layers = {name: one.variants["own"] for name in ("first", "second")}
    found = tail_problems(one, layers, {name: {"K": 72, "N": 64} for name in layers})
    assert len(found) == 2
    assert found[0].startswith("variants.own.fprop.a.quantizer.tail: 'error', but K of the layer first is 72")


def test_tails_that_are_handled_are_no_problem() -> None:
    for tail in ("partial", "pad_zero"):
        q = f"mxfp4:tail={tail}"
        assert problems({"fprop": {"a": {"quantizer": q}, "b": {"quantizer": q}}}, 72, 70) == []
    assert problems({"fprop": {"a": {"quantizer": "fp16"}}}, 7, 5) == []

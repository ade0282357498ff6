"""The recipes that tests train on a GPU are those whose quantizers have kernels; found without one."""

from __future__ import annotations

from served import quantizers, served

from lpref.specs import RECIPE, recipe


def test_what_has_kernels() -> None:
    found = {name for name in RECIPE.names() if served(recipe(name))}
    assert {
        "fp32",
        "bf16",
        "fp8_delayed",
        "fp8_block",
        "mxfp8",
        "nvfp4",
        "deepseek_v3",
        "unit_scaling",
        "fp4_all_the_way",
    } <= found
    assert not {"coat", "actnn", "s2fp8", "wang2018", "deepseek_v3_hopper"} & found


def test_every_quantizer_is_seen() -> None:
    assert len(list(quantizers(recipe("bf16")))) == 3
    assert {q.format for q in quantizers(recipe("coat"))} >= {"e4m3", "e5m2", "bfloat16"}

"""run_suite for matrix products: every named model passes against itself and differs from its neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.conformance import run_suite
from lpref.ref.errors import ShapeError
from lpref.ref.linalg import ACCUMULATORS, HighPrecision, gemm

SLOW = {"bf16_kahan", "bf16_sequential", "fp16_sequential", "ibm_chunk64", "bf16_chunk64"}


def operand_format(name: str) -> str:
    core = ACCUMULATORS[name].model.core
    return core.inputs[0] if core else "int8" if name.startswith("int") else "bfloat16"


def product(model: str):
    return lambda a, b: gemm(HighPrecision(a), HighPrecision(b), model)


@pytest.mark.parametrize("name", [n for n in ACCUMULATORS if n not in SLOW])
def test_the_definition_passes_against_itself(name: str) -> None:
    report = run_suite(product(name), accumulate=name, format=operand_format(name))
    assert report.passed, report
    assert report.cases > 500


OTHERS = [
    ("sequential", "pairwise"), ("sequential", "kahan"), ("sequential", "blocked_64"), ("blocked_64", "blocked_128"), ("sequential", "exact"),
    ("hopper_bf16", "ampere_bf16"), ("hopper_bf16", "sequential"), ("hopper_fp8_fast", "hopper_fp8_promote128"), ("hopper_fp16", "turing_fp16"),
    ("int16_wrap", "int16_saturate"), ("bf16_chunk64", "ibm_chunk64"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "other"), OTHERS)
def test_models_are_told_apart(model: str, other: str) -> None:
    report = run_suite(product(other), accumulate=model, format=operand_format(model))
    assert not report
    assert "the definition gives" in report.counterexample


def test_float32_operands_tell_a_fused_multiply_add() -> None:
    assert run_suite(product("sequential"), accumulate="sequential", format="float32")
    assert not run_suite(product("fused"), accumulate="sequential", format="float32")


def test_a_product_must_have_the_shape() -> None:
    with pytest.raises(ShapeError, match="return a b"):
        run_suite(lambda a, b: np.zeros((1, 2), np.float32), accumulate="exact")

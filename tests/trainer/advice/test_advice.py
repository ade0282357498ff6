"""Memory, bit operations and gradient errors of a recipe."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lpref.ref.quantize import lookup
from lpref.ref.recipes import LinearRecipe
from lpref.specs import recipe
from lpref.trainer.advice.formula import bit_operations, figures, operand_bits, saved_bits, tensor_bits
from lpref.trainer.advice.measured import gradient_errors, measured
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.setup import prepare
from lpref.trainer.spec import load_spec


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        (None, 64 * 128 * 32),
        ("bf16", 64 * 128 * 16),
        ("fp8_tensor", 64 * 128 * 8 + 32),
        ("int8_row", 64 * 128 * 8 + 64 * 32),
        ("mxfp8_e4m3", 64 * 128 * 8 + 64 * 4 * 8),
        ("nvfp4", 64 * 128 * 4 + 64 * 8 * 8 + 32),
        ("fp8_block128", 64 * 128 * 8 + 32),
    ],
)
def test_bits_of_a_tensor(name: str | None, bits: int) -> None:
    assert tensor_bits(None if name is None else lookup(name), (64, 128), 1) == bits


def test_bit_operations() -> None:
    assert bit_operations(LinearRecipe(), 2, 3, 5) == 3 * 2 * 3 * 5 * 32 * 32
    nvfp4 = recipe("nvfp4").linear
    assert [operand_bits(nvfp4, f"{gemm}.{side}") for gemm in ("fprop", "dgrad", "wgrad") for side in "ab"] == [4] * 6
    switchback = recipe("int8_switchback").linear
    assert operand_bits(switchback, "fprop.a") == 8
    assert operand_bits(switchback, "wgrad.a") > 8


def test_what_float32_saves_is_x() -> None:
    assert saved_bits(LinearRecipe(), 7, 3, 5) == 7 * 5 * 32


@pytest.fixture(scope="module")
def data() -> Any:
    return load_data("stdlib")


@pytest.mark.parametrize("name", ["fp32", "bf16", "nvfp4", "mxfp8", "fp8_block", "fp8_current", "int8_switchback"])
def test_the_formula_is_what_lies_in_arrays(name: str, data: Any) -> None:
    """Masks are left out: they are stored as bytes, and recipes that keep them are not in the list."""
    spec = load_spec("train/ci_gpt", {"recipe": name, "backend": "reference", "train.batch": 1})
    prepared = prepare(spec, data=data)
    batch = train_batch(data, prepared.length, 1, 1, 0, 0, 1)
    found = measured(prepared, batch)
    state = prepared.rules.optimizer.init(prepared.model.arrays(), prepared.backend)
    formula = figures(prepared.model, prepared.recipe.weights, state, 1)
    assert found["activations"] == pytest.approx(formula["activations"], abs=4 * len(prepared.model.sites) * 3)  # tensor scales
    assert formula["optimizer"] == 2 * formula["weights"]
    assert formula["gradients"] == formula["weights"] == 4 * prepared.model.num_params()


def test_gradients_of_fewer_bits_are_further_off(data: Any) -> None:
    found = {}
    for name in ("fp32", "bf16", "mxfp8", "nvfp4"):
        prepared = prepare(load_spec("train/ci_gpt", {"recipe": name, "backend": "reference", "train.batch": 1}), data=data)
        found[name] = measured(prepared, train_batch(data, prepared.length, 1, 1, 0, 0, 1))
    assert found["fp32"]["snr_db"] == math.inf
    assert found["fp32"]["cosine"] == pytest.approx(1.0, abs=1e-12)
    assert found["bf16"]["snr_db"] > found["mxfp8"]["snr_db"] > found["nvfp4"]["snr_db"] > 0


def test_gradient_errors() -> None:
    found = gradient_errors({"w": np.array([1.0, 0.0]), "z": np.zeros(2)}, {"w": np.array([1.0, 1.0]), "z": np.zeros(2)})
    assert found["w"]["cosine"] == pytest.approx(1 / math.sqrt(2))
    assert found["w"]["snr_db"] == pytest.approx(10 * math.log10(2))
    assert math.isnan(found["z"]["cosine"])

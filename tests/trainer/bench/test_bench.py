"""`lpref bench`: what is timed is right, and what is wrong is not timed."""

from __future__ import annotations

import dataclasses
import json
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lpref.accel import backend
from lpref.accel.cuda.device import usable
from lpref.cli.main import main
from lpref.ref.errors import BackendError, UnknownNameError
from lpref.trainer.bench.kernels import cases, kernel_rows, verify
from lpref.trainer.bench.models import model_row
from lpref.trainer.bench.run import peer_rows
from lpref.trainer.spec import load_spec


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_every_case_is_held_to_its_contract(name: str, numerics: str) -> None:
    verify(cases()[name], backend("cpu", numerics))


class Wrong:
    """A backend whose amax is one unit off."""

    name, numerics = "cpu", "exact"

    def __init__(self) -> None:
        ops = backend("cpu", "exact")
        self.arrays = ops.arrays
        self.kernels = MappingProxyType({**ops.kernels, "amax": dataclasses.replace(ops.kernels["amax"], function=self.amax)})

    def amax(self, x: Any) -> Any:
        return np.nextafter(np.float32(np.max(np.abs(x))), np.float32(np.inf))


def test_what_differs_is_not_timed() -> None:
    with pytest.raises(BackendError, match="amax is not timed: output"):
        verify(cases()["amax"], Wrong())


def test_rows() -> None:
    copy, quantize, gemm = kernel_rows(["quantize nvfp4", "gemm nvfp4"], backend("cpu", "exact"), 64)
    assert copy["share of copy"] == 1.0
    moved = 4 * 64 * 64 + 64 * 32 + 64 * 4 + 4  # x; codes, block scales, tensor scale
    assert quantize["GB/s"] == pytest.approx(moved / quantize["us"] / 1e3)
    assert gemm["T mult/s"] == pytest.approx(64**3 / gemm["us"] / 1e6)
    with pytest.raises(UnknownNameError):
        list(kernel_rows(["speed"], backend("cpu", "exact"), 64))


def test_steps_of_a_model() -> None:
    row = model_row(load_spec("train/ci_gpt", {"backend": "cpu", "recipe": "bf16"}), 2)
    assert row["tokens/s"] == pytest.approx(128 / row["queued ms"] * 1000)
    assert np.isfinite(row["loss"])


def test_the_command() -> None:
    done = CliRunner().invoke(main, ["bench", "amax", "train/ci_gpt", "--backend", "cpu", "-n", "64", "--steps", "1", "-s", "recipe=fp32", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [row["name"] for row in found["kernels"]] == ["copy", "amax"]
    assert [(row["name"], row["recipe"]) for row in found["models"]] == [("ci_gpt", "fp32")]
    assert CliRunner().invoke(main, ["bench", "speed"]).exit_code == 2


@pytest.mark.parametrize(("way", "library"), [("whole_step", "torch"), ("jax", "jax")])
def test_a_peer_that_cannot_run_here_is_named(way: str, library: str) -> None:
    pytest.importorskip(library)
    if usable():
        pytest.skip("there is a GPU, which would train")
    with pytest.raises(BackendError, match=f"run on a GPU, and {library} sees none"):
        peer_rows(load_spec("bench/micro"), [way], 1)

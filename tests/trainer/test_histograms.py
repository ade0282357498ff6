"""Histograms on the format's grid: of which tensors, and that they count what was quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lpref
from lpref.ref.formats import FORMATS
from lpref.ref.quantize import quantize
from lpref.trainer.checkpoint import newest
from lpref.trainer.histograms import code_histogram


@pytest.mark.parametrize("name", ["fp8_tensor", "mxfp4", "int4_group", "nf4", "uint4_affine_group", "dynamic8"])
def test_shares_are_those_of_the_codes(name: str) -> None:
    x = np.linspace(-2, 3, 512, dtype=np.float32).reshape(2, 256)
    t = quantize(x, lpref.quantizer(name))
    h = code_histogram(t)
    values = FORMATS[t.quantizer.format].decode(t.unpacked()).reshape(-1)
    assert h["share"] == [float(np.mean(values == v)) for v in h["grid"]]


def test_inputs_weights_and_gradients_are_there(tiny: dict[str, Any], tmp_path: Path) -> None:
    spec = {**tiny, "recipe": "int8_switchback", "train": {**tiny["train"], "steps": 2, "stats_every": 1}}
    run = lpref.train(spec, out=tmp_path / "run", quiet=True)
    histograms = run.records[-1]["histograms"]
    site = next(iter(histograms)).rsplit("/", 2)[0]
    assert {f"{site}/fprop/a", f"{site}/fprop/b", f"{site}/dgrad/a"} <= set(histograms)
    for h in histograms.values():
        assert h["format"] == "int8"
        assert sum(h["share"]) == pytest.approx(1.0)
        assert h["share"][0] == 0.0  # narrow: -128 is not used
    weights = np.asarray(newest(run.folder.checkpoints)[0].params[f"{site}.weight"])
    expected = code_histogram(quantize(weights, lpref.recipe("int8_switchback").linear.fprop.b.quantizer))
    assert histograms[f"{site}/fprop/b"] == expected


def test_no_statistics_no_histograms(tiny: dict[str, Any], tmp_path: Path) -> None:
    spec = {**tiny, "recipe": "int8_switchback", "train": {**tiny["train"], "steps": 1, "stats_every": 0}}
    assert "histograms" not in lpref.train(spec, out=tmp_path / "run", quiet=True).records[-1]

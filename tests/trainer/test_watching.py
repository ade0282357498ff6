"""Records of the tensors of every layer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lpref.ref.analysis import tensor_statistics
from lpref.ref.errors import ShapeError
from lpref.ref.optim import LossScaleState
from lpref.trainer.api import train
from lpref.trainer.data.batches import train_batch
from lpref.trainer.loop import start_state
from lpref.trainer.setup import prepare
from lpref.trainer.spec import load_spec
from lpref.trainer.watching import tensor_record

SMALL = {"recipe": "nvfp4", "backend": "cpu", "train.steps": 3, "train.stats_every": 0, "data.valid_windows": 1}


def test_statistics_of_known_distributions() -> None:
    draw = np.random.default_rng(0)
    normal = tensor_statistics(draw.standard_normal((4096, 64)))
    assert normal["kurtosis"] == pytest.approx(3, abs=0.1)
    assert normal["rms"] == pytest.approx(1, abs=0.01)
    assert normal["outlier_channels"] == 0
    assert tensor_statistics(draw.uniform(-1, 1, (4096, 64)))["kurtosis"] == pytest.approx(1.8, abs=0.02)
    spiked = draw.standard_normal((4096, 64))
    spiked[:, :4] *= 50
    assert tensor_statistics(spiked)["outlier_channels"] == 4 / 64
    assert tensor_statistics(2 * spiked)["kurtosis"] == pytest.approx(tensor_statistics(spiked)["kurtosis"])


def test_special_tensors() -> None:
    assert np.isnan(tensor_statistics(np.ones((3, 3), np.float32))["kurtosis"])
    assert np.isnan(tensor_statistics(np.zeros((0, 3), np.float32))["amax"])
    assert tensor_statistics(np.float32([[np.inf, 1]]))["amax"] == np.inf
    assert np.isnan(tensor_statistics(np.float32([[np.nan, 1]]))["amax"])
    with pytest.raises(ShapeError):
        tensor_statistics(np.float32(1))


def test_a_record_has_every_layer_and_the_loss_scale_taken_out() -> None:
    prepared = prepare(load_spec("train/ci_gpt", SMALL))
    state, batch = start_state(prepared), train_batch(prepared.data, prepared.length, 2, 1, 0, 0, 2)
    found = tensor_record(prepared, state, batch)
    assert list(found) == list(prepared.model.sites)
    w = prepared.model.params["h.0.mlp.up.weight"].data
    assert found["h.0.mlp.up"]["w"] == tensor_statistics(w)
    plain = prepare(load_spec("train/ci_gpt", SMALL | {"recipe": "fp32"}))
    one = tensor_record(plain, start_state(plain), batch)
    eight = tensor_record(plain, replace(start_state(plain), loss_scale=LossScaleState(8.0)), batch, one)
    for site in one:
        assert one[site]["dy"]["amax"] == eight[site]["dy"]["amax"]
        assert eight[site]["x"]["drift"] == 0.0
    assert plain.model.watch is None


def test_a_watched_run_has_the_same_weights(tmp_path: Path) -> None:
    plain = train("train/ci_gpt", out=tmp_path / "plain", quiet=True, **{k.replace(".", "__"): v for k, v in SMALL.items()})
    seen = train("train/ci_gpt", out=tmp_path / "seen", quiet=True, train__tensors_every=2, **{k.replace(".", "__"): v for k, v in SMALL.items()})
    assert list(plain.metrics["loss"]) == list(seen.metrics["loss"])
    assert "tensors.head.dy.kurtosis" in seen.metrics
    lines = [json.loads(line) for line in (tmp_path / "seen" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "tensors" in line] == [2]

"""Whole runs: what they leave, that they continue bit for bit, and how they end."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lpref
from lpref.ref.errors import CheckpointError, DataError, DivergedError, OutputError
from lpref.ref.optim import LossScaleState
from lpref.trainer import api
from lpref.trainer.run import Run
from lpref.trainer.setup import prepare
from lpref.trainer.spec import load_spec
from lpref.trainer.step import TrainState

from .conftest import lpref as start


def weights(path: Path, step: int = 6) -> str:
    """SHA-256 of a checkpoint's tensors, weights and every state."""
    folder = path / "checkpoints" / f"step-{step}"
    return hashlib.sha256(
        b"".join((folder / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer"))
    ).hexdigest()


def losses(path: Path) -> list[tuple[int, float]]:
    return [(r["step"], r["loss"]) for r in Run(path).records if "loss" in r]


def train(tiny: dict[str, Any], out: Path, **overrides: Any) -> Run:
    return lpref.train(tiny, out=out, quiet=True, **overrides)


def test_a_run_folder_has_what_it_should(tiny: dict[str, Any], tmp_path: Path) -> None:
    run = train(tiny, tmp_path / "run")
    assert sorted(p.name for p in run.path.iterdir() if p.name[0] != ".") == [
        "checkpoints",
        "env.json",
        "metrics.jsonl",
        "report.html",
        "spec.yaml",
    ]
    assert sorted(p.name for p in (run.path / "checkpoints").iterdir()) == ["step-4", "step-6"]
    assert run.status == "done"
    assert run.env["data"]["sha256"] == hashlib.sha256(Path(tiny["data"]["name"][5:]).read_bytes()).hexdigest()
    assert {"lpref", "numerics_hash", "python", "cpu", "backend", "numerics", "packages"} <= set(run.env)
    assert run.metrics["loss"].shape == run.metrics["step"].shape
    assert np.isfinite(run.last("valid.bits_per_byte"))
    assert run.last("loss") < run.metrics["loss"][0]
    layers = [r["layers"] for r in run.records if "layers" in r]
    assert len(layers) == 2
    place = "h.0.mlp.up/fprop/a"
    assert layers[0][place]["sqnr_db"] > 20  # E4M3 with a scale per 32: about 30 dB
    assert {"x", "w", "dy"} == set(next(r for r in run.records if "quantizers" in r)["quantizers"])
    assert load_spec(run.folder.spec).recipe["name"] == "mxfp8"  # type: ignore[index]
    assert "Run(" in repr(run)
    assert "<svg" in run._repr_html_()
    assert [r.path for r in lpref.runs(str(tmp_path / "*"))] == [run.path]


def test_the_resolved_spec_gives_the_same_run(tiny: dict[str, Any], tmp_path: Path) -> None:
    first = train(tiny, tmp_path / "a")
    again = lpref.train(first.folder.spec, out=tmp_path / "b", quiet=True)
    assert weights(first.path) == weights(again.path)
    assert first.folder.spec.read_text() == again.folder.spec.read_text()


@pytest.mark.parametrize("recipe", ["fp16_loss_scaled", "fp8_delayed", "nvfp4", "lsq", "tetrajet_qema", "lns_madam", "double_rounding_hasb"])
def test_a_resumed_run_ends_in_the_same_bits(tiny: dict[str, Any], tmp_path: Path, recipe: str) -> None:
    """States of every sort: loss scale, amax histories, stochastic rounding, learned steps."""
    whole = train(tiny, tmp_path / "whole", recipe=recipe)
    cut = tmp_path / "cut"
    train(tiny, cut, recipe=recipe)
    for step in ("step-6",):
        shutil.rmtree(cut / "checkpoints" / step)
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    api.resume_run(cut, quiet=True)
    assert weights(cut) == weights(whole.path)
    assert losses(cut) == losses(whole.path)
    assert [r["step"] for r in Run(cut).records] == [r["step"] for r in Run(whole.path).records]


def test_micro_batches_share_the_streams_of_their_step(tiny: dict[str, Any]) -> None:
    """N1: words belong to the global batch, so a micro-batch is a range of a stream and no stream of its own."""
    prepared = prepare(load_spec(tiny))
    state = TrainState(5, 5, None, {}, LossScaleState())
    contexts = [prepared.context_of(state, collect=False)(micro).at("head") for micro in (0, 1)]
    assert [c.micro for c in contexts] == [0, 1]
    assert contexts[0].words("dgrad.a", "rounding") == contexts[1].words("dgrad.a", "rounding")


def test_micro_batches_change_the_order_of_sums_only(tiny: dict[str, Any], tmp_path: Path) -> None:
    one = train(tiny, tmp_path / "one", recipe="fp32", train__batch=4)
    two = train(tiny, tmp_path / "two", recipe="fp32", train__batch=4, train__micro_batches=2)
    assert weights(one.path) != weights(two.path)
    assert np.allclose(one.metrics["loss"], two.metrics["loss"], rtol=1e-4)
    assert one.metrics["loss"][0] == pytest.approx(two.metrics["loss"][0], rel=1e-6)


def test_kill_9_at_seeded_times_loses_nothing(tiny_file: Path, tmp_path: Path) -> None:
    start("train", str(tiny_file), "-o", "whole", cwd=tmp_path).communicate()
    dice = random.Random(5)
    kills = 0
    process = start("train", str(tiny_file), "-o", "cut", cwd=tmp_path)
    for _ in range(12):
        deadline = time.monotonic() + 60
        while process.poll() is None and not (tmp_path / "cut" / "env.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(dice.uniform(0.0, 1.2))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
        if kills == 4:
            break
        process = start("train", "--resume", "cut", cwd=tmp_path)
    process.communicate()
    final = start("train", "--resume", "cut", cwd=tmp_path)
    final.communicate()
    assert final.returncode == 0
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert not [p for p in (tmp_path / "cut").rglob(".tmp-*")]


def test_ctrl_c_saves_and_exits_130(tiny_file: Path, tmp_path: Path) -> None:
    process = start(
        "train", str(tiny_file), "-o", "run", "-s", "train.steps=100000", "-s", "train.checkpoint_every=0", cwd=tmp_path
    )
    deadline = time.monotonic() + 60
    while not Run_records(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "checkpoint saved" in err
    assert "Traceback" not in err
    run = Run(tmp_path / "run")
    assert run.status == "interrupted"
    step = run.records[-1]["step"]
    assert (run.path / "checkpoints" / f"step-{step}" / "state.json").exists()
    more = start("train", "--resume", "run", "-s", f"train.steps={step + 2}", cwd=tmp_path)
    more.communicate()
    assert more.returncode == 0
    assert Run(tmp_path / "run").status == "done"


def Run_records(path: Path) -> list[str]:
    metrics = path / "metrics.jsonl"
    return metrics.read_text().splitlines() if metrics.exists() else []


def test_the_first_line_comes_early(tiny_file: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    process = start("train", str(tiny_file), "-o", "run", cwd=tmp_path)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert time.monotonic() - begun < 10
    assert "recipe mxfp8, reference backend, numerics exact" in line
    process.communicate()


def test_a_diverged_run_keeps_the_last_good_checkpoint_and_names_the_culprit(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    good = train(tiny, tmp_path / "run", recipe="fp32", train__steps=2)
    poison(good.path, "h.0.mlp.down.weight")
    with pytest.raises(DivergedError) as caught:
        api.resume_run(good.path, overrides=["train.steps=6"], quiet=True)
    assert "first non-finite tensor: parameter h.0.mlp.down.weight" in str(caught.value)
    assert "step 2" in str(caught.value)
    run = Run(good.path)
    assert run.status == "diverged"
    assert "Diverged at step 3" in run.folder.report.read_text()
    assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["step-2"]


def poison(path: Path, name: str) -> None:
    """Puts a NaN into a weight of the newest checkpoint, hashes adjusted: a checkpoint that a foreign tool wrote."""
    from safetensors.numpy import load, save

    folder = path / "checkpoints" / "step-2"
    tensors = load((folder / "model.safetensors").read_bytes())
    tensors[name] = tensors[name].copy()
    tensors[name][0, 0] = np.nan
    raw = save(tensors)
    (folder / "model.safetensors").write_bytes(raw)
    state = json.loads((folder / "state.json").read_text())
    state["sha256"]["model.safetensors"] = hashlib.sha256(raw).hexdigest()
    (folder / "state.json").write_text(json.dumps(state))


def test_the_first_bad_operation_is_named(tiny: dict[str, Any], tmp_path: Path) -> None:
    """A learning rate of 1e30 gives finite weights, whose first product overflows."""
    spec = {
        **tiny,
        "model": {"kind": "mlp", "hidden": [8, 8]},
        "data": {"name": "digits"},
        "optimizer": {"kind": "sgd", "lr": 1e30},
    }
    with pytest.raises(DivergedError, match=r"first non-finite tensor: the result of operation \d+, \w+"):
        train(spec, tmp_path / "run", recipe="fp32")


def test_policy_skip_goes_on_until_too_many(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lpref.trainer import step

    real, calls = step.gradients, []

    def sometimes(model: Any, batches: Any, context: Any, scale: float) -> Any:
        loss, grads, observed = real(model, batches, context, scale)
        calls.append(1)
        return (float("nan") if len(calls) == 3 else loss), grads, observed

    monkeypatch.setattr(step, "gradients", sometimes)
    run = train(tiny, tmp_path / "run", train__on_nonfinite="skip")
    assert run.status == "done"
    assert run.records[-2]["update"] == 5
    assert [r["step"] for r in run.records if r.get("skipped")] == [3]
    assert "step 3 skipped" in capsys.readouterr().err
    monkeypatch.setattr(step, "gradients", lambda *a: (float("nan"), real(*a)[1], {}))
    with pytest.raises(DivergedError, match="3 skipped steps in a row"):
        train(tiny, tmp_path / "other", train__on_nonfinite="skip", train__max_skips=2)


def test_loss_scaling_searches_without_ending_the_run(tiny: dict[str, Any], tmp_path: Path) -> None:
    recipe = {"base": "fp16_loss_scaled", "set": {"loss_scale.init": 2.0**24}}
    run = train(tiny, tmp_path / "run", recipe=recipe, train__steps=12)
    scales = run.metrics["loss_scale"]
    assert run.status == "done"
    assert scales[0] <= 2.0**24
    assert np.all(np.frexp(scales)[0] == 0.5)


def test_resume_refuses_other_data_and_other_specs(tiny: dict[str, Any], text_file: Path, tmp_path: Path) -> None:
    run = train(tiny, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"model\.layers.*may change"):
        api.resume_run(run.path, overrides=["model.layers=2"], quiet=True)
    text_file.write_text(text_file.read_text() + "!")
    with pytest.raises(CheckpointError, match="data_sha256"):
        api.resume_run(run.path, quiet=True)


def test_resume_falls_back_past_a_damaged_checkpoint_and_says_so(
    tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tiny, tmp_path / "run")
    before = weights(run.path)
    damaged = run.path / "checkpoints" / "step-6" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    api.resume_run(run.path, quiet=True)
    assert "damaged checkpoint" in capsys.readouterr().err
    assert weights(run.path) == before
    shutil.rmtree(run.path / "checkpoints")
    api.resume_run(run.path, quiet=True)
    assert weights(run.path) == before


def test_output_rules(tiny: dict[str, Any], tmp_path: Path) -> None:
    run = train(tiny, tmp_path / "run", train__steps=2)
    with pytest.raises(OutputError, match="holds"):
        train(tiny, tmp_path / "run")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="in the way"):
        train(tiny, tmp_path / "file")
    bad = {**tiny, "data": {"name": "text:none.txt"}}
    with pytest.raises(DataError):
        lpref.train(bad, out=tmp_path / "never", quiet=True)
    assert not (tmp_path / "never").exists()  # nothing written half
    assert lpref.train(tiny, out=run.path, overwrite=True, quiet=True).records[-1]["step"] == 6


def test_a_full_disk_ends_the_run_typed(tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lpref.trainer import checkpoint

    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoint, "write_bytes", full)
    with pytest.raises(OutputError, match="no space left"):
        train(tiny, tmp_path / "run")

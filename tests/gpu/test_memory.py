"""The GPU's memory: a report before the capture, and what does not fit is named, before a run begins or with its checkpoints intact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cupy as cp
import pytest

from lpref.accel.cuda import backend as cuda_backend
from lpref.accel.cuda import lines
from lpref.ref.errors import SpecError
from lpref.trainer import checkpoint as checkpoints
from lpref.trainer import loop
from lpref.trainer.api import resume_run, train
from lpref.trainer.data import load_data
from lpref.trainer.device_step import DeviceStep
from lpref.trainer.setup import prepare
from lpref.trainer.spec import load_spec

OPTIONS = {"backend": "cuda", "recipe": "bf16", "train__steps": 8, "train__checkpoint_every": 2, "train__eval_every": 0, "train__stats_every": 0}


@pytest.fixture(autouse=True)
def no_limit() -> Iterator[None]:
    pool = cp.get_default_memory_pool()
    pool.free_all_blocks()
    yield
    pool.set_limit(size=0)
    pool.free_all_blocks()


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path) -> None:
    data, pool = load_data("stdlib"), cp.get_default_memory_pool()
    pool.set_limit(size=pool.used_bytes() + (4 << 20))
    with pytest.raises(SpecError, match=r"Out of memory allocating .* of the GPU's .* are free\); train\.batch=64 .*, gpt") as found:
        train("train/ci_gpt", out=tmp_path / "run", quiet=True, data=data, train__batch=64, **OPTIONS)
    assert "lower train.batch" in str(found.value)
    assert not (tmp_path / "run").exists()


def test_cuda_is_not_replaced_where_memory_is_short() -> None:
    pool = cp.get_default_memory_pool()
    pool.set_limit(size=pool.used_bytes() + (4 << 20))
    with pytest.raises(MemoryError):
        prepare(load_spec("train/ci_gpt", ["backend=auto", "train.batch=64"]), data=load_data("stdlib"))


class Narrow(DeviceStep):
    """From step 5 on its pool gives nothing more, and what it holds for the next steps was freed."""

    def steps(self, state, count, batches_of, *, collect=False):
        if state.step >= 4:
            self.kinds = {}
            self.place.pool.free_all_blocks()
            self.place.pool.set_limit(size=self.place.pool.used_bytes() + 512)
        return super().steps(state, min(count, 2), batches_of, collect=collect)


def test_a_run_that_runs_out_keeps_its_checkpoints(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    data = load_data("stdlib")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "stepper", Narrow)
        with pytest.raises(SpecError, match=r"Out of memory allocating .*; the last good checkpoint is step 4"):
            train("train/ci_gpt", out=tmp_path / "run", quiet=True, data=data, **OPTIONS)
    assert checkpoints.newest(tmp_path / "run" / "checkpoints")[0].step == 4
    resumed = resume_run(tmp_path / "run", quiet=True, data=data)
    whole = train("train/ci_gpt", out=tmp_path / "whole", quiet=True, data=data, **OPTIONS)
    assert resumed.last("loss") == whole.last("loss")
    assert "memory: weights" in capsys.readouterr().err


GPT2 = ("model={kind: gpt, layers: 2, d_model: 64, heads: 2, ffn: 128, context: 32, vocab: 256, norm: layernorm, activation: gelu, "
        "positions: learned, bias: true}")  # fmt: skip


@pytest.mark.parametrize("change", [GPT2, "model.layers=2"], ids=["gpt2", "llama"])
@pytest.mark.parametrize("recipe", ["bf16", "nvfp4"])
def test_what_saves_memory_changes_no_bit(recipe: str, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results made again, gradients in place of logits, bounds of what pieces under way hold: against none of these, on one line."""
    found = []
    for held, options in ((2, {"again": 0, "overwrites": True}), (lines.DEPTH, {"again": 0}), (1, {"again": None, "overwrites": False})):
        with monkeypatch.context() as patch:
            patch.setattr(lines, "DEPTH", held)
            patch.setenv(lines.ONE, "1" if held == 1 else "2")
            patch.setattr(cuda_backend, "ARRAYS", replace(cuda_backend.ARRAYS, **options))
            run = prepare(load_spec("train/ci_gpt", ["backend=cuda", "numerics=fast", f"recipe={recipe}", change]), data=load_data("stdlib"))
            by, state, s = DeviceStep(run), loop.start_state(run), run.spec.train
            batches = [loop.train_batch(run.data, run.length, s.batch, s.seed, i, 0, s.batch) for i in range(8)]
            while state.step < 8:
                state = by.steps(state, min(4, 8 - state.step), lambda step, made=batches: [made[step % 8]])[-1][0]
            assert all(kind.captured is not None for kind in by.kinds.values())
            found.append({name: run.backend.arrays.host(a).tobytes() for name, a in run.model.arrays().items()})
    assert found[0] == found[1] == found[2]


def test_what_ran_before_the_capture_is_given_back() -> None:
    """Beside the steps' own memory stay weights, moments and what is small."""
    run = prepare(load_spec("train/ci_gpt", ["backend=cuda", "recipe=bf16", "train.batch=64"]), data=load_data("stdlib"))
    by, state, s = DeviceStep(run), loop.start_state(run), run.spec.train
    for _ in range(2):
        ((state, _),) = by.steps(state, 1, lambda step: [loop.train_batch(run.data, run.length, s.batch, s.seed, step, 0, s.batch)])
    mib = by.memory()
    assert cp.get_default_memory_pool().total_bytes() < (mib["weights"] + mib["optimizer"] + 24) * 2**20 < by.place.memory()


def test_the_report_comes_before_the_capture() -> None:
    run = prepare(load_spec("train/ci_gpt", ["backend=cuda"]), data=load_data("stdlib"))
    by, state, notes = DeviceStep(run), loop.start_state(run), []
    asked = loop.train_batch
    captured = by.place.capture
    by.place.capture = lambda function: (notes.extend(by.notes), captured(function))[1]

    def batches_of(step: int) -> list:
        s = run.spec.train
        return [asked(run.data, run.length, s.batch, s.seed, step, 0, s.batch)]

    for _ in range(2):
        ((state, _),) = by.steps(state, 1, batches_of)
    found = by.memory()
    assert len(notes) == 1
    assert notes[0].startswith("memory: weights ")
    assert found["step"] >= found["gradients"] > 0
    assert found["optimizer"] == pytest.approx(2 * found["weights"], rel=0.1)
    assert found["step"] == by.facts()["step_mib"]  # the graph took no more than the warm-up

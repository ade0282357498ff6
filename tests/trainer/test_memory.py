"""Allocations that fail: named with what was asked for and what to change, before anything is written or with the checkpoints intact."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lpref.accel.cuda import device
from lpref.ref.errors import SpecError
from lpref.trainer import checkpoint as checkpoints
from lpref.trainer import loop, memory
from lpref.trainer.api import resume_run, train
from lpref.trainer.spec import load_spec
from lpref.trainer.stepping import HostStep

SMALL = {
    "model__layers": 1, "model__d_model": 32, "model__ffn": 48, "model__context": 16, "train__batch": 2, "data__valid_windows": 2, "train__sample": 0,
    "backend": "cpu", "recipe": "fp32", "train__checkpoint_every": 2, "train__steps": 6,
}  # fmt: skip


class Full(HostStep):
    """Has no memory for step 5."""

    def steps(self, state, count, batches_of, *, collect=False):
        if state.step == 4:
            raise MemoryError("Unable to allocate 3.00 GiB for an array")
        return super().steps(state, count, batches_of, collect=collect)


def test_the_checkpoints_of_a_run_that_runs_out_are_whole(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "stepper", Full)
        with pytest.raises(SpecError, match=r"3\.00 GiB.*train\.batch=2 .*, gpt layers=1.*last good checkpoint is step 4") as found:
            train("train/ci_gpt", out=place, quiet=True, **SMALL)
    assert "lower train.batch" in str(found.value)
    assert checkpoints.newest(place / "checkpoints")[0].step == 4
    whole = train("train/ci_gpt", out=tmp_path / "whole", quiet=True, **SMALL)
    resumed = resume_run(place, quiet=True)
    assert resumed.last("loss") == whole.last("loss")


def test_before_anything_is_written(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(spec, *, data=None):
        raise MemoryError

    monkeypatch.setattr("lpref.trainer.setup.prepare", prepare)
    with pytest.raises(SpecError, match=r"allocation failed; train\.batch=2"):
        train("train/ci_gpt", out=tmp_path / "run", quiet=True, **SMALL)
    assert not (tmp_path / "run").exists()


class OutOfMemoryError(MemoryError):
    """CuPy's."""


OutOfMemoryError.__module__ = "cupy.cuda.memory"


@pytest.mark.parametrize(
    "error", [OutOfMemoryError("Out of memory allocating 9,663,676,416 bytes"), RuntimeError("cudaErrorMemoryAllocation: out of memory")]
)
def test_of_the_gpu_it_says_what_is_free(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(cuda=SimpleNamespace(Device=lambda: SimpleNamespace(mem_info=(2**29, 2**34))))
    monkeypatch.setattr(device, "cupy", lambda: module)
    with pytest.raises(SpecError, match=r"0\.50 of the GPU's 16\.0 GiB are free"), memory.typed_memory_errors("here", load_spec("train/ci_gpt")):
        raise error


def test_other_failures_pass() -> None:
    with pytest.raises(RuntimeError, match="broken"), memory.typed_memory_errors("here", load_spec("train/ci_gpt")):
        raise RuntimeError("broken")


def test_what_a_step_takes_in_words() -> None:
    weights, moments = [np.zeros(2**20, np.float32)], [np.zeros(2**21, np.float32)]
    found = memory.parts(weights, moments, 10 * 2**20, 2**30)
    assert found == {"weights": 4.0, "optimizer": 8.0, "gradients": 4.0, "step": 10.0, "free": 1024.0}
    assert memory.text(found).startswith("memory: weights 4 MiB, optimizer 8 MiB, a step 10 MiB (gradients 4 of them)")

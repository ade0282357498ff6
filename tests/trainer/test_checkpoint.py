"""Checkpoints: whole or absent, verified before use."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from lpref.ref.errors import CheckpointError, OutputError
from lpref.trainer import checkpoint as checkpoints
from lpref.trainer import files
from lpref.trainer.checkpoint import Checkpoint
from lpref.trainer.tree import flatten, unflatten

STATES = {
    "optimizer": {"w/m": np.float32([1, np.nan, -0.0]), "w/v.codes": np.uint8([1, 2])},
    "quantizers": {"h.0/fprop/a": {"scale": np.float32(3.5), "history": np.zeros(4, np.float32)}},
    "loss_scale": {"scale": 0.1, "good": 3, "flag": True, "none": None, "list": [1, (2.5, "x")]},
}


def make(step: int) -> Checkpoint:
    params = {"w": np.arange(6, dtype=np.float32).reshape(2, 3) * step, "s": np.array(2.0, np.float32)}
    return Checkpoint(step, step - 1, params, STATES, {"data_sha256": "ab"})


def same(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))  # type: ignore[arg-type]
    if isinstance(a, (np.ndarray, np.generic)):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()  # type: ignore[attr-defined]
    return type(a) is type(b) and a == b


def test_tree_comes_back_bit_for_bit() -> None:
    arrays, skeleton = flatten(STATES)
    assert same(unflatten(arrays, json.loads(json.dumps(skeleton))), STATES)
    with pytest.raises(CheckpointError, match="cannot be stored"):
        flatten({"x": object()})


def test_save_load_keep(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        checkpoints.save(tmp_path, make(step), keep=2)
    assert checkpoints.list_steps(tmp_path) == [3, 10]
    found = checkpoints.load(tmp_path / "step-10")
    assert (found.step, found.update, found.facts) == (10, 9, {"data_sha256": "ab"})
    assert same(dict(found.params), dict(make(10).params))
    assert same(found.states, STATES)
    assert sorted(p.name for p in (tmp_path / "step-10").iterdir()) == [
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]


def test_same_step_again_replaces_it(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, make(4), keep=1)
    checkpoints.save(tmp_path, make(4), keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-4"]


@pytest.mark.parametrize("victim", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "empty"])
def test_damage_is_noticed_and_the_older_one_is_used(tmp_path: Path, victim: str, harm: str) -> None:
    checkpoints.save(tmp_path, make(1), keep=5)
    checkpoints.save(tmp_path, make(2), keep=5)
    path = tmp_path / "step-2" / victim
    raw = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    elif harm == "flip" and victim == "state.json":
        path.write_text(path.read_text().replace('"sha256"', '"sha265"'))
    else:
        raw[len(raw) // 2] ^= 1
        path.write_bytes({"truncate": bytes(raw[:-7]), "flip": bytes(raw), "empty": b""}[harm])
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load(tmp_path / "step-2")
    assert caught.value.remedy
    found, passed = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert len(passed) == 1
    assert "step-2" in passed[0]


def test_a_crash_at_any_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every system call of a save in turn is where the process dies; the newest whole checkpoint is always step 1 or step 2."""
    checkpoints.save(tmp_path, make(1), keep=1)
    real = {name: getattr(os, name) for name in ("fsync", "rename", "replace", "open")}
    crashes = 0
    for fatal in range(40):
        count = 0

        def call(name: str, *args: object, fatal: int = fatal, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count > fatal:
                raise KeyboardInterrupt  # stands for the end of the process: nothing of ours catches it
            return real[name](*args, **kwargs)

        for name in real:
            monkeypatch.setattr(os, name, lambda *a, name=name, **k: call(name, *a, **k))
        try:
            checkpoints.save(tmp_path, make(2), keep=1)
            done = True
        except KeyboardInterrupt:
            done = False
        for name, function in real.items():
            monkeypatch.setattr(os, name, function)
        found, _ = checkpoints.newest(tmp_path)
        assert found is not None
        assert found.step in (1, 2)
        if done:
            assert found.step == 2
            break
        crashes += 1
    assert crashes >= 5
    files.clean_temporaries(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["step-2"]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EIO, "cannot be written")]
)
def test_full_and_read_only_disks_are_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    checkpoints.save(tmp_path, make(1), keep=1)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=words):
        checkpoints.save(tmp_path, make(2), keep=1)
    monkeypatch.undo()
    assert checkpoints.list_steps(tmp_path) == [1]

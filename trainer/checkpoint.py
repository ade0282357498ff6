"""Checkpoints: ``checkpoints/step-N/{model,optimizer}.safetensors`` and ``state.json``, whole or absent.

Everything is written under ``.tmp-…``, fsynced, then the folder is renamed: a ``kill -9`` at any moment leaves the older
checkpoints and perhaps a temporary folder, which the next run removes. ``state.json`` carries the SHA-256 of both tensor files, so
that a truncated or exchanged file is noticed before a single value is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lpref.ref.errors import CheckpointError
from lpref.trainer.files import fsync_folder, typed_os_errors, write_bytes
from lpref.trainer.tree import flatten, unflatten

LAYOUT = 1  # version of the layout of state.json
_FILES = ("model.safetensors", "optimizer.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next step depends on, after `step` global batches.

    `states` holds every other state: optimizer, quantizers by ``site/gemm/slot``, loss scale, controllers. `facts` are the hashes of
    spec, data and numerics, checked on resume. There is no data position and no generator state: both are functions of `step`.
    """

    step: int
    update: int
    params: Mapping[str, np.ndarray]
    states: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes ``folder/step-N`` and removes all but the newest `keep`; returns the new path."""
    from safetensors.numpy import save as serialize

    final = folder / f"step-{checkpoint.step}"
    temporary, replaced = (folder / f".tmp-{os.getpid()}-{what}" for what in (f"step-{checkpoint.step}", "replaced"))
    arrays, skeleton = flatten(checkpoint.states)
    model = {name: np.asarray(value, order="C") for name, value in checkpoint.params.items()}
    payloads = {_FILES[0]: serialize(model), _FILES[1]: serialize(arrays)}
    state = {
        "lpref_checkpoint": LAYOUT,
        "step": checkpoint.step,
        "update": checkpoint.update,
        "facts": dict(checkpoint.facts),
        "sha256": {name: hashlib.sha256(payload).hexdigest() for name, payload in payloads.items()},
        "states": skeleton,
    }
    with typed_os_errors(folder):
        folder.mkdir(exist_ok=True)
        for stale in (temporary, replaced):
            shutil.rmtree(stale, ignore_errors=True)
        temporary.mkdir()
        for name, payload in payloads.items():
            write_bytes(temporary / name, payload)
        write_bytes(temporary / "state.json", (json.dumps(state, indent=1) + "\n").encode())
        fsync_folder(temporary)
        if final.exists():  # the same step once more, after falling back past a damaged one
            os.rename(final, replaced)
        os.rename(temporary, final)
        fsync_folder(folder)
        shutil.rmtree(replaced, ignore_errors=True)
        for old in list_steps(folder)[:-keep] if keep > 0 else []:
            shutil.rmtree(folder / f"step-{old}")
    return final


def list_steps(folder: Path) -> list[int]:
    """The steps that have a folder, ascending; nothing is said about their being whole."""
    if not folder.is_dir():
        return []
    names = (
        entry.name.removeprefix("step-")
        for entry in folder.iterdir()
        if entry.name.startswith("step-") and entry.is_dir()
    )
    return sorted(int(name) for name in names if name.isdigit())


def load(path: Path) -> Checkpoint:
    """Reads and verifies one checkpoint folder; CheckpointError names what is wrong with it."""
    from safetensors.numpy import load as deserialize

    state = _read_state(path)
    arrays = []
    for name in _FILES:
        try:
            payload = (path / name).read_bytes()
        except OSError as error:
            raise CheckpointError(
                f"{name} cannot be read: {error.strerror}", where=str(path), remedy="resume from an older step"
            ) from None
        digest = hashlib.sha256(payload).hexdigest()
        if digest != state["sha256"].get(name):
            raise CheckpointError(
                f"{name} ({len(payload)} bytes) has SHA-256 {digest[:12]}…, state.json says {str(state['sha256'].get(name))[:12]}…",
                where=str(path), remedy="the file is truncated or changed; resume from an older step",
            )  # fmt: skip
        arrays.append(deserialize(payload))
    return Checkpoint(state["step"], state["update"], arrays[0], unflatten(arrays[1], state["states"]), state["facts"])


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads((path / "state.json").read_text())
    except OSError as error:
        raise CheckpointError(
            f"state.json cannot be read: {error.strerror}", where=str(path), remedy="resume from an older step"
        ) from None
    except ValueError as error:
        raise CheckpointError(
            f"state.json is not JSON: {error}", where=str(path), remedy="resume from an older step"
        ) from None
    needed = {"lpref_checkpoint", "step", "update", "facts", "sha256", "states"}
    if not isinstance(state, dict) or needed - set(state):
        missing = sorted(needed - set(state)) if isinstance(state, dict) else sorted(needed)
        raise CheckpointError(
            f"state.json lacks {', '.join(missing)}", where=str(path), remedy="resume from an older step"
        )
    if state["lpref_checkpoint"] != LAYOUT:
        raise CheckpointError(
            f"checkpoint layout {state['lpref_checkpoint']}, this lpref reads {LAYOUT}",
            where=str(path),
            remedy="use the lpref that wrote it",
        )
    return state


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """(newest whole checkpoint or None, one line for every newer one that had to be passed over)."""
    passed: list[str] = []
    for step in reversed(list_steps(folder)):
        try:
            return load(folder / f"step-{step}"), passed
        except CheckpointError as error:
            passed.append(str(error))
    return None, passed

"""The run folder: who may write it, and what lies where.

``spec.yaml`` (resolved) ``env.json`` ``metrics.jsonl`` ``checkpoints/step-N/`` ``report.html``. A folder with something in it is refused
unless the run is resumed or overwritten; overwriting removes a run's own files and nothing else.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lpref.ref.errors import CheckpointError, OutputError
from lpref.trainer.files import clean_temporaries, is_temporary, typed_os_errors

OWN = ("spec.yaml", "env.json", "metrics.jsonl", "checkpoints", "report.html", ".lock")


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder."""

    path: Path

    @property
    def spec(self) -> Path:
        return self.path / "spec.yaml"

    @property
    def env(self) -> Path:
        return self.path / "env.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def lock(self) -> IO[str]:
        """Held while a process writes the run; the system frees it when that process ends, however it ends."""
        with typed_os_errors(self.path):
            handle = open(self.path / ".lock", "w")
        try:
            import fcntl
        except ImportError:  # Windows has no flock; two writers are then the user's to avoid
            return handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise OutputError(
                "another process is writing this run",
                where=str(self.path),
                remedy="wait for it, or choose another folder with -o DIR",
            ) from None
        return handle


def default_path(label: str, root: Path = Path("runs")) -> Path:
    """``runs/<label>-<n>`` with the smallest n that is free."""
    n = 1
    while (root / f"{label}-{n}").exists():
        n += 1
    return root / f"{label}-{n}"


def check_free(path: Path, *, overwrite: bool = False) -> None:
    """OutputError where a run cannot begin at `path`: a file, or a folder with something in it.

    What a run leaves that was killed before its first file was whole (a lock, an empty `checkpoints`, temporary names) is nothing.
    """
    if path.exists() and not path.is_dir():
        raise OutputError("a file is in the way", where=str(path), remedy="choose another folder with -o DIR")
    if overwrite or not path.is_dir():
        return
    with typed_os_errors(path):
        present = sorted(entry.name for entry in path.iterdir())
        begun = [name for name in present if name not in (".lock", "checkpoints") and not is_temporary(name)]
        if begun or ("checkpoints" in present and any((path / "checkpoints").iterdir())):
            remedy = "use --resume, --overwrite or another -o DIR"
            raise OutputError(f"exists and holds {', '.join(present[:4])}", where=str(path), remedy=remedy)


def create(path: Path, *, overwrite: bool = False) -> RunFolder:
    """A new, empty run folder at `path`."""
    check_free(path, overwrite=overwrite)
    if path.is_dir():
        folder = RunFolder(path)
        with folder.lock(), typed_os_errors(path):
            for name in OWN[:-1]:
                entry = path / name
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
            clean_temporaries(path)
    with typed_os_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise OutputError("cannot be written", where=str(path), remedy="choose another folder with -o DIR")
        (path / "checkpoints").mkdir()
    return RunFolder(path)


def other_folder(path: Path) -> str:
    """The remedy where `path` is a folder of runs, such as `lpref compare` writes, and no run itself; "" where it is neither."""
    runs = sorted(str(spec.parent) for spec in path.glob("*/spec.yaml"))
    return f"it holds {len(runs)} runs: name them, {' '.join(runs[:4])}{' …' if len(runs) > 4 else ''}" if runs else ""


def reopen(path: Path) -> RunFolder:
    """The folder of a run to resume, with what a killed process left behind removed."""
    folder = RunFolder(path)
    if not path.is_dir():
        raise CheckpointError(
            "no such run folder", where=str(path), remedy="name the folder that the run was started with"
        )
    if not folder.spec.exists():
        raise CheckpointError(
            "not a run folder: spec.yaml is missing", where=str(path), remedy=other_folder(path) or "start the run anew with --overwrite"
        )
    with typed_os_errors(path):
        clean_temporaries(path)
        folder.checkpoints.mkdir(exist_ok=True)
        clean_temporaries(folder.checkpoints)
    return folder

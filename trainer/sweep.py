"""``lpref sweep``: the points of a grid one after the other, each in a process of its own."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lpref.ref.errors import SpecError
from lpref.trainer.run import Run
from lpref.trainer.spec import load_spec


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """`grid` maps paths of `base` to the values they take; every combination is a run."""

    base: str
    grid: dict[str, list[Any]]
    name: str = "sweep"
    set: dict[str, Any] = field(default_factory=dict)


def points(grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """All combinations, the last path fastest.

    >>> points({"a": [1, 2], "b": [3]})
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def folder_name(point: dict[str, Any]) -> str:
    """A readable, stable folder name: ``recipe=bf16,optimizer.lr=0.001``, shortened with a hash where it is too long."""
    text = ",".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in point.items())
    safe = "".join(c if c.isalnum() or c in "=,.+-_" else "_" for c in text)
    return safe if safe == text and len(safe) <= 100 else f"{safe[:90]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def read_sweep(path: str) -> SweepSpec:
    """The sweep file; its base and every point are validated before the first run."""
    from lpref.specs.building import build
    from lpref.specs.reading import parse, read_text

    mapping = parse(read_text(path), path)
    mapping.pop("lpref", None)
    spec = build(SweepSpec, mapping, path)
    empty = [key for key, values in spec.grid.items() if not values]
    if not spec.grid or empty:
        raise SpecError([f"grid.{key}: no values" for key in empty] or ["grid: no paths"], where=path)
    for point in points(spec.grid):
        load_spec(spec.base, {**spec.set, **point})
    return spec


def sweep(
    path: str, *, out: Path | None = None, dry_run: bool = False, echo: Callable[[str], Any] | None = None
) -> tuple[list[dict[str, Any]], int]:
    """(one row per point, exit code): finished points are skipped, started ones resumed; a failed point does not stop the others."""
    spec = read_sweep(path)
    root = out or Path("runs") / f"sweep-{spec.name}"
    rows, code = [], 0
    for point in points(spec.grid):
        folder = root / folder_name(point)
        status = Run(folder).status if (folder / "spec.yaml").exists() else "new"
        if not dry_run and status not in ("done", "diverged"):
            if echo:
                echo(f"{folder}: {'starting' if status == 'new' else 'resuming'}")
            process = subprocess.run(
                command(spec, point, folder, started=status != "new"), env=child_environment(),
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            status = (
                Run(folder).status if (folder / "spec.yaml").exists() and process.returncode in (0, 1) else "failed"
            )
            if status == "failed" and echo:
                echo(process.stderr.strip())
        code = max(code, 1 if status in ("diverged", "failed") and not dry_run else 0)
        figures = Run(folder).summary() if (folder / "spec.yaml").exists() and (folder / "env.json").exists() else {}
        kept = {key: value for key, value in figures.items() if key.startswith("valid.") or key == "loss"}
        rows.append({"run": str(folder), "status": status, **point, **kept})
    return rows, code


def child_environment() -> dict[str, str]:
    """This environment, in which the child finds the same lpref, installed or not."""
    import lpref

    paths = [str(Path(lpref.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def command(spec: SweepSpec, point: dict[str, Any], folder: Path, *, started: bool) -> list[str]:
    """The child's command line."""
    head = [sys.executable, "-m", "lpref.cli", "train"]
    if started:
        return [*head, "--resume", str(folder)]
    sets = [part for key, value in {**spec.set, **point}.items() for part in ("-s", f"{key}={json.dumps(value)}")]
    return [*head, spec.base, *sets, "-o", str(folder)]

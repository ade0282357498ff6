"""What ``lpref train`` and ``lpref report`` do, apart from parsing their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpref.ref.errors import BackendError, OutputError, SpecError, UnknownNameError
from lpref.trainer.api import resume_run, start_run
from lpref.trainer.export import FORMATS, export
from lpref.trainer.run import ENERGY, Run
from lpref.trainer.runfolder import default_path
from lpref.trainer.spec import load_spec


@dataclass(frozen=True)
class CommandResult:
    """Exit code and what ``--json`` prints."""

    code: int
    summary: dict[str, Any]


def train_command(
    spec: str | None, *, overrides: Sequence[str] = (), out: Path | None = None, backend: str | None = None, ranks: int = 1,
    resume: Path | None = None, overwrite: bool = False, quiet: bool = False,
) -> CommandResult:  # fmt: skip
    """One run, a resumed one, or (no SPEC, no resume) the default pair."""
    if ranks != 1:
        raise BackendError(
            f"--ranks {ranks}: data-parallel runs are not part of this version",
            where="train",
            remedy="leave --ranks out",
        )
    if resume is not None:
        if spec is not None or out is not None or overwrite:
            raise SpecError(["--resume DIR takes the spec from DIR; leave SPEC, -o and --overwrite out"], where="train")
        from lpref.trainer.pair import begun_pair, train_pair

        pair = begun_pair(resume)
        if pair is not None:
            return train_pair(pair, resume, resume=True, quiet=quiet)
        return _finished(resume_run(resume, overrides=overrides, backend=backend, quiet=quiet), quiet)
    assignments = list(overrides) + ([f"backend={backend}"] if backend else [])
    resolved = load_spec(spec or "train/default", assignments)
    if spec is None:
        from lpref.trainer.pair import BASELINE, train_pair

        if resolved.recipe_name != BASELINE:
            return train_pair(resolved, out, overwrite=overwrite, quiet=quiet)
    path = out or default_path(f"{resolved.name}-{resolved.recipe_name}-{resolved.train.seed}")
    return _finished(start_run(resolved, path, overwrite=overwrite, quiet=quiet), quiet)


def _finished(run: Run, quiet: bool) -> CommandResult:
    summary = {**run.summary(), "report": str(run.folder.report)}
    if not quiet:
        figures = (
            f"{key} {value:.4f}" for key, value in summary.items() if isinstance(value, float) and key not in ("tokens_per_s", *ENERGY[1:])
        )
        print(f"done: {run.path}  {'  '.join(figures)}")
        print(summary["report"])
    return CommandResult(0, summary)


def report_command(paths: Sequence[Path], *, out: Path | None, form: str | None, force: bool, overwrite: bool) -> Path:
    """Writes a report of the runs in `paths`; returns where."""
    found = [Run(path) for path in paths]
    if form is None:
        form = (out.suffix[1:] if out is not None else "") or "html"
        if form not in FORMATS:
            raise UnknownNameError("report format", form, FORMATS, where=str(out))
    if out is None:
        out = (found[0].path if len(found) == 1 else Path()) / f"report.{form}"
        overwrite = overwrite or len(found) == 1  # a run's own report may always be written anew
    if out.exists() and not overwrite:
        raise OutputError("exists", where=str(out), remedy="use --overwrite or another -o FILE")
    return export(found, out, form, force=force)

"""``lpref.train``: from a spec to a finished run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lpref.ref.errors import CheckpointError, DivergedError
from lpref.trainer import checkpoint as checkpoints
from lpref.trainer import metrics, runfolder
from lpref.trainer.files import write_atomic, write_json
from lpref.trainer.interrupt import Interrupted
from lpref.trainer.memory import typed_memory_errors
from lpref.trainer.progress import Progress
from lpref.trainer.report import write_report
from lpref.trainer.run import Run
from lpref.trainer.spec import TrainSpec, load_spec, to_yaml


def train(
    spec: str | Path | Mapping[str, Any] | TrainSpec = "train/default", *, out: str | Path | None = None, overwrite: bool = False,
    resume: bool = False, quiet: bool = False, data: Any = None, **overrides: Any,
) -> Run:  # fmt: skip
    """Trains `spec` (a name, path, mapping or TrainSpec) and returns its Run; everything is on disk under `out`.

    `overrides` are fields of the spec by path, dots written as double underscores: ``lpref.train("train/ci_gpt", recipe="mxfp8",
    train__steps=20)``. `resume` continues what lies in `out`, if anything does. `data` spares reading a data set again.
    Raises DivergedError (the folder keeps the last good checkpoint), Interrupted after Ctrl-C, and what bad input raises.
    """
    assignments = {path.replace("__", "."): value for path, value in overrides.items()}
    resolved = load_spec(spec, assignments)
    if resume and out is not None and (Path(out) / "spec.yaml").exists():
        return resume_run(Path(out), quiet=quiet, data=data)
    label = f"{resolved.name}-{resolved.recipe_name}-{resolved.train.seed}"
    path = Path(out) if out is not None else runfolder.default_path(label)
    return start_run(resolved, path, overwrite=overwrite, quiet=quiet, data=data)


def start_run(spec: TrainSpec, path: Path, *, overwrite: bool = False, quiet: bool = False, data: Any = None) -> Run:
    """A new run of `spec` in the folder `path`."""
    from lpref.trainer.loop import start_state
    from lpref.trainer.setup import prepare

    runfolder.check_free(path, overwrite=overwrite)
    with _reporting(spec, quiet) as progress:
        prepared = prepare(spec, data=data)  # bad input is found before anything is written
        folder = runfolder.create(path, overwrite=overwrite)
        write_atomic(folder.spec, to_yaml(prepared.spec))
        write_json(folder.env, prepared.environment())
        progress.begin(prepared.describe())
        return _loop(prepared, folder, start_state(prepared), progress)


def resume_run(
    path: Path, *, overrides: Sequence[str] = (), backend: str | None = None, quiet: bool = False, data: Any = None
) -> Run:
    """Continues the run in `path` from its newest whole checkpoint, or from the start when it has none."""
    from lpref.trainer.loop import resumed_state, start_state
    from lpref.trainer.setup import prepare

    folder = runfolder.reopen(path)
    spec = load_spec(folder.spec, list(overrides) + ([f"backend={backend}"] if backend else []))
    _check_unchanged(load_spec(folder.spec), spec, path)
    with _reporting(spec, quiet) as progress:
        prepared = prepare(spec, data=data)
        found, passed = checkpoints.newest(folder.checkpoints)
        for line in passed:
            progress.note(f"passed over a damaged checkpoint: {line}")
        if found is None:
            progress.note("no whole checkpoint: starting from step 0")
            state = start_state(prepared)
        else:
            check_facts(found, prepared.facts, path)
            state = resumed_state(prepared, found)
            progress.note(f"resuming after step {state.step}")
        metrics.truncate(folder.metrics, state.step)
        if not folder.env.exists():
            write_json(folder.env, prepared.environment())
        progress.begin(prepared.describe())
        return _loop(prepared, folder, state, progress)


def continued_run(
    spec: TrainSpec, path: Path, *, resume: bool, overwrite: bool = False, quiet: bool = False, data: Any = None
) -> Run:
    """The run of `spec` in `path`: with `resume` a finished one as it is and a begun one continued, else a new one."""
    if resume and (path / "spec.yaml").exists():
        run = Run(path)
        return run if run.status in ("done", "diverged") else resume_run(path, quiet=quiet, data=data)
    return start_run(spec, path, overwrite=overwrite, quiet=quiet, data=data)


@contextmanager
def _reporting(spec: TrainSpec, quiet: bool) -> Iterator[Progress]:
    """The progress of a run from before its preparation on."""
    label = f"{spec.name} {spec.recipe_name} seed {spec.train.seed}"
    with typed_memory_errors(label, spec), Progress(label, spec.train.steps, quiet=quiet) as progress:
        yield progress


def _loop(prepared: Any, folder: runfolder.RunFolder, state: Any, progress: Progress) -> Run:
    from lpref.trainer.loop import Loop

    run = Run(folder.path)
    with folder.lock():
        try:
            with typed_memory_errors(str(folder.path), prepared.spec, folder.checkpoints):
                Loop(prepared, folder, state, progress).run()
        except (DivergedError, Interrupted):
            write_report([run.refresh()], folder.report)
            raise
        write_report([run.refresh()], folder.report)
    return run


def check_facts(found: checkpoints.Checkpoint, facts: Mapping[str, Any], path: Path) -> None:
    """A checkpoint continues only on the data and the definitions that it was made with."""
    for key, remedy in (
        ("data_sha256", "use the data that the run was started with"),
        ("numerics_hash", "use the lpref that wrote it"),
        ("start_sha256", "leave the run that train.start names as it was"),
    ):
        if found.facts.get(key) != facts.get(key):
            raise CheckpointError(
                f"{key} is {str(found.facts.get(key))[:16]}… in the checkpoint, {str(facts.get(key))[:16]}… now",
                where=str(path),
                remedy=remedy,
            )


RESUMABLE = frozenset({"backend", "train.steps", "train.eval_every", "train.checkpoint_every", "train.keep", "train.log_every", "train.stats_every",
                       "train.tensors_every",
                       "train.sample", "train.max_skips", "train.on_nonfinite", "data.valid_windows"})  # fmt: skip


def _check_unchanged(old: TrainSpec, new: TrainSpec, path: Path) -> None:
    """A resumed run may change where it runs, how long, and how often it reports; not what it computes."""
    from lpref.trainer.spec import leaves

    before, after = leaves(old), leaves(new)
    changed = sorted(
        key for key in before.keys() | after.keys() if before.get(key) != after.get(key) and key not in RESUMABLE
    )
    if changed:
        raise CheckpointError(
            f"{', '.join(changed)} differ(s) from the run's own spec",
            where=str(path),
            remedy=f"only {', '.join(sorted(RESUMABLE))} may change",
        )

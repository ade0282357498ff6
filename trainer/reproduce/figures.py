"""The figure of one arm and one seed: a measurement's value, or a metric of a training run."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lpref.ref.errors import DivergedError, SpecError
from lpref.trainer.environment import commit, cores, cpu_name
from lpref.trainer.reproduce.experiment import Experiment
from lpref.trainer.reproduce.ledger import Found
from lpref.trainer.reproduce.measures import MEASURES
from lpref.trainer.run import Run

REDUCTIONS: Mapping[str, Callable[[Any], Any]] = {"": lambda values: values[-1], "sum": np.sum, "max": np.max, "mean": np.mean}


def check(experiment: Experiment, backend: str | None = None) -> dict[str, str]:
    """arm -> the hash of all that decides its figures but the seed: resolved spec, data, figure and numerics.

    Raises SpecError for an unknown measurement or parameter, and for a training spec that would not start.
    """
    if experiment.measure and experiment.measure not in MEASURES:
        raise SpecError([f"measure: {experiment.measure!r} is none of {', '.join(MEASURES)}"], where=experiment.name)
    return {arm: _decides(experiment, fields_of(experiment, arm, backend), backend) for arm in experiment.arms}


def fields_of(experiment: Experiment, arm: str, backend: str | None) -> dict[str, Any]:
    """The fields of an arm over `common`; of a measurement that says its `backend`, the one that is asked for, or that stands for `auto` here."""
    from lpref.trainer.setup import backend_name

    fields = {**experiment.common, **experiment.arms[arm]}
    return fields | ({"backend": backend_name(backend or fields["backend"])} if experiment.measure and "backend" in fields else {})


def _decides(experiment: Experiment, fields: Mapping[str, Any], backend: str | None) -> str:
    from lpref.conformance.numerics import numerics_hash
    from lpref.trainer.data import load_data
    from lpref.trainer.setup import check_spec, load_backend, load_recipe, plain_recipe
    from lpref.trainer.spec import load_spec, plain

    whole: dict[str, Any] = {"numerics": numerics_hash()}
    if experiment.measure:
        whole |= {"measure": experiment.measure, "fields": fields, "measures": _measures_hash()}
    else:
        spec = load_spec(experiment.train, {**fields, **({"backend": backend} if backend else {})})
        data = load_data(spec.data.name)
        check_spec(spec, data)
        resolved = {**plain(spec), "recipe": plain_recipe(load_recipe(spec)), "backend": load_backend(spec).name}
        whole |= {"spec": resolved, "data": data.sha256, "figure": experiment.figure}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


@cache
def _commit() -> str:
    return commit() or "unknown"


def _device(backend: str) -> str:
    """What a backend ran on."""
    from lpref.accel.cuda.device import describe

    return describe() if backend == "cuda" else f"{cpu_name()} ({cores()} cores)"


@cache
def _measures_hash() -> str:
    """Of the sources of all measurements."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "measures").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def figure(experiment: Experiment, arm: str, seed: int, folder: Path, backend: str | None = None) -> Found:
    """One number. A run that diverged has the figure infinity; what `folder` holds of a begun run is continued."""
    fields, started = fields_of(experiment, arm, backend), time.process_time()
    if experiment.measure:
        value, used = float(MEASURES[experiment.measure](seed, **fields)), str(fields.get("backend", "cpu"))
    else:
        value, used = _trained(experiment, fields, seed, folder, backend)
    return Found(value, time.process_time() - started, used, _device(used), _commit())


def _trained(experiment: Experiment, fields: Mapping[str, Any], seed: int, folder: Path, backend: str | None) -> tuple[float, str]:
    """(figure, backend)."""
    from lpref.trainer.api import continued_run
    from lpref.trainer.spec import load_spec

    chosen = {"backend": backend} if backend else {}
    spec = load_spec(experiment.train, {**fields, "train.seed": seed, **chosen})
    try:
        run = continued_run(spec, folder, resume=True, quiet=True)
    except DivergedError:
        run = Run(folder)
    used = str(run.env["backend"])
    return (math.inf if run.status == "diverged" else reduced(run, experiment.figure)), used


def reduced(run: Run, figure: str) -> float:
    """A metric of a run: ``NAME`` its last value, ``sum:NAME``, ``max:NAME`` or ``mean:NAME`` over all logged steps.

    Raises: SpecError for a metric that the run did not log.
    """
    how, _, name = figure.rpartition(":")
    values = run.metrics.get(name, np.array([]))
    values = values[~np.isnan(values)]
    if not values.size or how not in REDUCTIONS:
        raise SpecError([f"figure: {figure!r}; the run has {', '.join(run.metrics)}"], where=str(run.path))
    return float(REDUCTIONS[how](values))

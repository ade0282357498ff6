"""The figure of one arm and one seed: a measurement's value, or a metric of a training run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lpref.ref.errors import DivergedError, SpecError
from lpref.trainer.reproduce.experiment import Experiment
from lpref.trainer.reproduce.measures import MEASURES
from lpref.trainer.run import Run

REDUCTIONS: Mapping[str, Callable[[Any], Any]] = {"": lambda values: values[-1], "sum": np.sum, "max": np.max, "mean": np.mean}


def check(experiment: Experiment) -> None:
    """Raise SpecError for an unknown measurement or parameter, and for a training spec that would not start."""
    from lpref.trainer.data import load_data
    from lpref.trainer.setup import check_spec
    from lpref.trainer.spec import load_spec

    if experiment.measure and experiment.measure not in MEASURES:
        raise SpecError([f"measure: {experiment.measure!r} is none of {', '.join(MEASURES)}"], where=experiment.name)
    if experiment.train:
        specs = [load_spec(experiment.train, {**experiment.common, **fields}) for fields in experiment.arms.values()]
        data = {name: load_data(name) for name in {spec.data.name for spec in specs}}
        for spec in specs:
            check_spec(spec, data[spec.data.name])


def figure(experiment: Experiment, arm: str, seed: int, folder: Path, backend: str | None = None) -> float:
    """One number. A run that diverged has the figure infinity; its folder is kept and reused by the next call."""
    fields = {**experiment.common, **experiment.arms[arm]}
    if experiment.measure:
        return float(MEASURES[experiment.measure](seed, **fields))
    return _trained(experiment, fields, seed, folder / f"{arm}-{seed}", backend)


def _trained(experiment: Experiment, fields: Mapping[str, Any], seed: int, path: Path, backend: str | None) -> float:
    from lpref.trainer.api import continued_run
    from lpref.trainer.spec import load_spec

    chosen = {"backend": backend} if backend else {}
    spec = load_spec(experiment.train, {**fields, "train.seed": seed, **chosen})
    try:
        run = continued_run(spec, path, resume=True, quiet=True)
    except DivergedError:
        run = Run(path)
    if run.status == "diverged":
        return math.inf
    return reduced(run, experiment.figure)


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

"""A training step in lockstep: every op of it on the spec's backend held against another backend, and the graph of the step against its eager twin.

The step runs operation by operation (`step_of`), from the first weights of the run; its ops are judged by `lpref.conformance.diff.lockstep`. On the
cuda backend the same steps then run as they do in training, the first one eagerly and those behind it as the replays of a captured graph: losses,
norms and weights must be the bits of the eager ones, so that what was found out about each op of the eager step holds for the captured step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lpref.accel import backend
from lpref.autodiff.tensor import number
from lpref.conformance.diff.lockstep import Lockstep, Row, differences
from lpref.ref.errors import SpecError
from lpref.ref.recording import RecordingBackend
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import Batch, train_batch
from lpref.trainer.loop import start_state
from lpref.trainer.passes import step_of
from lpref.trainer.setup import Prepared, load_backend, prepare_on
from lpref.trainer.spec import TrainSpec
from lpref.trainer.stepping import looked_into

REPLAYED = 3
"""Steps of the graph check at least: one eager, two replays."""


@dataclass(frozen=True)
class Lockstepped:
    """What was found: the rows of the ops, and in a line each where the graph's steps differ from the eager ones.

    graph: how many steps of the graph were compared, or why none.
    """

    backend: str
    numerics: str
    against: str
    spec: str
    recipe: str
    steps: int
    rows: list[Row]
    graph: str
    graph_differs: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether every contract held, the graph's included."""
        return not self.graph_differs and not any(row.broken for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        rows = [row.as_dict() for row in self.rows]
        return {**vars(self), "good": self.good, "rows": rows, "graph_differs": list(self.graph_differs)}


def lockstep(spec: TrainSpec, against: str = "reference", steps: int = 1, *, data: Any = None) -> Lockstepped:
    """`steps` steps of `spec` on its backend, each op against the backend of that name in grade exact.

    Raises: what a run of the spec raises; SpecError where both backends are the same.
    """
    inner = load_backend(spec)
    if (inner.name, inner.numerics) == (against, "exact"):
        raise SpecError([f"--against: {against} is the backend under test, in the same grade"], where="lpref diff step")
    data = load_data(spec.data.name) if data is None else data
    seen = Lockstep(inner, backend(against, "exact"), number)
    run = prepare_on(RecordingBackend(inner, seen), spec, data)
    seen.rows.clear()  # what made the model
    state = start_state(run)
    reports: list[tuple[Any, ...]] = []
    with np.errstate(all="ignore"):
        for _ in range(steps):
            seen.next_step()
            state, result = step_of(run, state, batches(run, state.step), False)
            reports.append((repr(result.loss), repr(result.grad_norm), result.skipped))
    graph, differs = _graph(prepare_on(inner, spec, data), spec, data, steps, reports, _weights(run))
    return Lockstepped(inner.name, inner.numerics, against, spec.name, spec.recipe_name, steps, list(seen.rows.values()), graph, tuple(differs))


def batches(run: Prepared, step: int) -> list[Batch]:
    """The micro-batches of a step."""
    s = run.spec.train
    size = s.batch // s.micro_batches
    return [train_batch(run.data, run.length, s.batch, s.seed, step, i * size, size) for i in range(s.micro_batches)]


def _weights(run: Prepared) -> dict[str, np.ndarray]:
    return {name: np.array(run.backend.arrays.host(array)) for name, array in run.model.arrays().items()}


def _graph(
    run: Prepared, spec: TrainSpec, data: Any, judged: int, reports: list[tuple[Any, ...]], judged_weights: Mapping[str, np.ndarray]
) -> tuple[str, list[str]]:
    """(what was compared, where the steps as they are trained differ from those that were judged and go on as these)."""
    if run.backend.name != "cuda":
        return f"none: the steps of the {run.backend.name} backend run operation by operation", []
    why = looked_into(run)
    if why:
        return f"none: the steps run operation by operation ({why})", []
    from lpref.trainer.device_step import DeviceStep

    eager, steps = prepare_on(run.backend, spec, data), max(judged, REPLAYED)
    by, state, state_, found = DeviceStep(run), start_state(run), start_state(eager), []
    for step in range(steps):
        with np.errstate(all="ignore"):
            ((state, one),) = by.steps(state, 1, partial(batches, run))
            state_, other = step_of(eager, state_, batches(eager, state_.step), False)
        seen, said = ((repr(r.loss), repr(r.grad_norm), r.skipped) for r in (one, other))
        where = f"step {step + 1}, {'a replay' if any(kind.captured for kind in by.kinds.values()) else 'eager'}"
        if step < judged and said != reports[step]:
            found.append(f"step {step + 1}: operation by operation a second time: (loss, norm, skipped) {said}, before {reports[step]}")
        if seen != said:
            found.append(f"{where}: (loss, norm, skipped) {seen}, operation by operation {said}")
        found += _apart(where, _weights(eager), _weights(run))
        if step == judged - 1:
            found += _apart(f"step {step + 1}, operation by operation a second time", judged_weights, _weights(eager))
        if found:
            break
    replays = sum(kind.captured is not None for kind in by.kinds.values())
    return f"{steps} steps as they are trained, {replays} graph{'s' if replays != 1 else ''}", found


def _apart(where: str, expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> list[str]:
    """A line for each tensor whose bits differ."""
    lines = []
    for name, want in expected.items():
        _, count, most, first = differences(want, found[name], 0)
        if first is not None:
            lines.append(f"{where}: {name}: {count} of {want.size} differ by up to {most} ulps; {first.where}: {first.expected}, got {first.found}")
    return lines

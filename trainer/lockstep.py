"""A training step in lockstep: every op of it on the spec's backend held against another backend, and the graph of the step against its eager twin.

The step runs operation by operation, from the first weights of the run; its ops are judged by `lpref.conformance.diff.lockstep`. On the cuda backend
it is the eager step of `DeviceStep`, whose verdict and update, which are no op, are held against `guarded_step`. The same steps then run as they do
in training, the first one eagerly and those behind it as the replays of a captured graph: losses, norms and weights must be the bits of the eager
ones, so that what was found out about each op of the eager step holds for the captured step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lpref.accel import backend
from lpref.autodiff.tensor import number
from lpref.conformance.diff.lockstep import Lockstep, Row, differences
from lpref.ref.contracts import Bits
from lpref.ref.errors import NonFiniteError, SpecError
from lpref.ref.optim import OptimContext, guarded_step
from lpref.ref.recording import RecordingBackend
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import Batch, train_batch
from lpref.trainer.loop import start_state
from lpref.trainer.setup import Prepared, load_backend, prepare_on
from lpref.trainer.spec import TrainSpec
from lpref.trainer.step import Rules, StepResult, TrainState
from lpref.trainer.stepping import HostStep, looked_into

Arrays = Mapping[str, np.ndarray]
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
    why = f"the {inner.name} backend has no graph" if inner.name != "cuda" else looked_into(run)
    by = HostStep(run) if why else watched(run, seen)
    state, reports = start_state(run), []
    with np.errstate(all="ignore"):
        for _ in range(steps):
            seen.next_step()
            ((state, result),) = by.steps(state, 1, partial(batches, run))
            reports.append(_report(result))
    graph, differs = f"none: the steps run operation by operation ({why})", list[str]()
    if not why:
        graph, differs = _graph(lambda: prepare_on(inner, spec, data), max(steps, REPLAYED), reports, _weights(run))
    return Lockstepped(inner.name, inner.numerics, against, spec.name, spec.recipe_name, steps, list(seen.rows.values()), graph, tuple(differs))


def watched(run: Prepared, seen: Lockstep) -> Any:
    """The eager step of the device, whose update is judged too."""
    from lpref.trainer.device_step import DeviceStep

    class Watched(DeviceStep):
        """Holds what the device makes of weights and moments against `guarded_step`."""

        def steps(self, state: TrainState, *args: Any, **kwargs: Any) -> list[tuple[TrainState, StepResult]]:
            self.before = state
            return super().steps(state, *args, **kwargs)

        def _end(self, grads: Mapping[str, Any], losses: Sequence[Any], words: Any, observed: Any) -> bool:
            host, p, state = self.p.backend.arrays.host, self.p, self.before
            params, made, moments = ({name: np.array(host(a)) for name, a in held.items()} for held in (p.model.arrays(), grads, self.moments))
            mirrored = super()._end(grads, losses, words, observed)
            if self.whole:
                finite = all(bool(np.isfinite(host(loss)).all()) for loss in losses)
                found = {"params": _weights(p), "moments": {name: np.array(host(a)) for name, a in self.moments.items()}}
                expected = updated(p.rules, state, params, made, moments, finite, seen.against)
                seen.compare("update", "", "guarded_step", Bits(), expected, found)
            return mirrored

    by = Watched(run)
    by.eager = True
    return by


def updated(
    rules: Rules, state: TrainState, params: Arrays, grads: Arrays, moments: Arrays, finite: bool, ops: Any
) -> dict[str, Mapping[str, np.ndarray]]:
    """Weights and moments after `guarded_step` on a backend of the host."""
    ctx = OptimContext(state.step, state.update, rules.seed, float(rules.schedule(state.update)), rules.schedule.lr, rules.steps)
    try:
        done = guarded_step(
            rules.optimizer, params, grads, moments, ctx, loss_scale=rules.loss_scale, scale=state.loss_scale, clip=rules.clip, backend=ops,
            finite=finite,
        )  # fmt: skip
    except NonFiniteError:  # finite gradients whose squares overflow
        return {"params": params, "moments": moments}
    return {"params": done.params, "moments": done.state}


def batches(run: Prepared, step: int) -> list[Batch]:
    """The micro-batches of a step."""
    s = run.spec.train
    size = s.batch // s.micro_batches
    return [train_batch(run.data, run.length, s.batch, s.seed, step, i * size, size) for i in range(s.micro_batches)]


def _weights(run: Prepared) -> dict[str, np.ndarray]:
    return {name: np.array(run.backend.arrays.host(array)) for name, array in run.model.arrays().items()}


def _report(result: StepResult) -> tuple[str, str, bool]:
    return repr(result.loss), repr(result.grad_norm), result.skipped


def _graph(
    fresh: Callable[[], Prepared], steps: int, reports: Sequence[tuple[str, str, bool]], judged: Mapping[str, np.ndarray]
) -> tuple[str, list[str]]:
    """(what was compared, where steps as they are trained differ from eager ones). reports, judged: of the eager steps that were judged."""
    from lpref.trainer.device_step import DeviceStep

    run, eager = fresh(), fresh()
    by, twin, state, state_ = DeviceStep(run), DeviceStep(eager), start_state(run), start_state(eager)
    twin.eager, found = True, []
    for step in range(steps):
        with np.errstate(all="ignore"):
            ((state, one),) = by.steps(state, 1, partial(batches, run))
            ((state_, other),) = twin.steps(state_, 1, partial(batches, eager))
        replay = any(kind.captured for kind in by.kinds.values())
        where = f"step {step + 1}, {'a replay' if replay else 'before the capture'}"
        if step < len(reports) and _report(other) != reports[step]:
            found.append(f"step {step + 1} once more, eagerly: (loss, norm, skipped) {_report(other)}, before {reports[step]}")
        if step == len(reports) - 1:
            found += _apart(f"step {step + 1} once more, eagerly", judged, _weights(eager))
        if _report(one) != _report(other):
            found.append(f"{where}: (loss, norm, skipped) {_report(one)}, eagerly {_report(other)}")
        found += _apart(where, _weights(eager), _weights(run))
        if found:
            break
    graphs = sum(kind.captured is not None for kind in by.kinds.values())
    return f"{steps} steps as they are trained, {graphs} graph{'s' if graphs != 1 else ''}", found


def _apart(where: str, expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> list[str]:
    """A line for each tensor whose bits differ."""
    lines = []
    for name, want in expected.items():
        _, count, most, first = differences(want, found[name], 0)
        if first is not None:
            lines.append(f"{where}: {name}: {count} of {want.size} differ by up to {most} ulps; {first.where}: {first.expected}, got {first.found}")
    return lines

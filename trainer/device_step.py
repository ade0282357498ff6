"""The training step on the device: forward, backward, verdict and update as one CUDA graph; the host feeds numbers and reads what it is told.

`DeviceStep.steps` is `step_of` with its results and its bits. The first step of a kind (recipe phase, phases of quantizer states, shapes) runs
eagerly, which compiles kernels and fills caches; then it is captured and replayed: one copy in and one launch a step, one wait for all that are
queued. Steps that collect statistics run eagerly; so do all under LPREF_CUDA_GRAPH=0. Weights and moments change in place, unless the verdict says
no: then the state before the step is intact. An optimizer whose states are stored in fewer bits updates after the graph, from its gradients.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lpref.accel.cuda import device, doubt, feed, graph, lines, noted, qtensor, update
from lpref.accel.cuda.copies import Copies
from lpref.ref.optim import update_loss_scale
from lpref.trainer import memory
from lpref.trainer.data.batches import Batch
from lpref.trainer.fed_context import FedContext
from lpref.trainer.fed_states import FedStates
from lpref.trainer.readings import Readings
from lpref.trainer.step import StepResult, TrainState, applied, both_passes, mean_loss, seed_of, skipped

EAGER = "LPREF_CUDA_GRAPH"
GRAPHS = 8
"""Kinds of steps whose graphs are kept."""


@dataclass
class Outcome:
    """What a step left for the host: observations, the pages that they count in, gradients where the host updates."""

    observed: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    pages: Sequence[Any] = ()
    grads: Mapping[str, Any] = field(default_factory=dict)
    mirrored: bool = False
    """Whether the states on the device followed the step."""


@dataclass(eq=False)
class Kind:
    """Steps of one phase and shape: their batches in the feed; whether one ran; the graph once there is one, and what it leaves."""

    batches: list[Batch]
    warm: bool = False
    captured: Any = None
    outcome: Outcome = field(default_factory=Outcome)


@dataclass(frozen=True, eq=False)
class Queued:
    """A step under way: the state before it, its learning rate, what it will leave, the event of its end."""

    state: TrainState
    lr: float
    outcome: Outcome
    end: Any


class DeviceStep:
    """The steps of one run on the cuda backend."""

    def __init__(self, prepared: Any) -> None:
        self.p, self.place = prepared, graph.Place()
        self.eager = os.environ.get(EAGER, "1") == "0"
        self.whole = update.covers(prepared.rules.optimizer)
        micro, fed = prepared.spec.train.micro_batches, self.place.feed
        self.seed, self.inverse = fed.array((), np.float32), fed.array((1,), np.float32)
        self.rules, self.queue = fed.array((2, update.WORDS), np.uint32), fed.array((2,), np.uint32)
        self.zeros = fed.array((2,), np.uint32)
        """What a step begins with as its doubt and as what is not finite: fed, not cleared by one more launch."""
        self.states = FedStates(fed, prepared.rules.quantizers.places)
        self.peaks = any(noted.reads(q) for q in prepared.rules.quantizers.places.values())
        self.turns: noted.Turns = {}
        self.kinds: dict[Any, Kind] = {}
        self.weights: list[Any] = []
        self.moments: Any = None
        self.weight_copies = Copies(())
        cp, words = device.cupy(), update.TOLD + micro
        self.amaxes, words = words, words + len(self.states.delayed.places)  # a row: verdict, losses, amaxes
        self.told, self.halt = cp.zeros((feed.TURNS, words), np.uint32), cp.zeros(2, np.uint32)
        self.heard = feed.pinned(4 * feed.TURNS * words).view(np.uint32).reshape(feed.TURNS, words)
        self.copies: list[np.ndarray] = []
        self.notes: list[str] = []
        """What a person should know of how the steps run; the loop shows it."""

    def steps(
        self, state: TrainState, count: int, batches_of: Callable[[int], Sequence[Batch]], *, collect: bool = False
    ) -> list[tuple[TrainState, StepResult]]:
        """`step_of` of `state`, whose moments are this run's, and of the states after it: up to `count` steps, one at least.

        Steps whose numbers the host can foretell, or the device knows (states of delayed scaling; no others may depend on what a step observes), are
        queued, and reported while those behind them run. It foretells that each is applied: behind one that is not the device skips the rest, which
        is not reported. Only the last one reports observations. batches_of: the micro-batches of a step; also asked for those of the step after
        the last, while the device works.
        """
        deep = min(count, feed.TURNS) if self.whole and not (collect or self.eager) and self.states.delayed.holds(state.quantizers) else 1
        queue: list[Queued] = []
        while len(queue) < deep:
            batches = batches_of(state.step)
            self.p.bind(state)
            self._bind(state)
            if not queue:
                self.weight_copies.renew()  # whoever wrote to a weight since the last call; in this one only updates will
            kind = self._kind(state, batches)
            if queue and kind.captured is None:
                break
            lr = self._fill(kind, state, batches, len(queue))
            outcome = self._start(kind, collect, len(queue))
            queue.append(Queued(state, lr, outcome, device.cupy().cuda.get_current_stream().record()))
            state = self._foretold(state)
            if kind.captured is None or (state.quantizers and not outcome.mirrored):
                break
        if state.step < self.p.spec.train.steps:
            batches_of(state.step)
        return self._reports(queue, batches_of, collect)

    def _start(self, kind: Kind, collect: bool, turn: int) -> Outcome:
        """Sets the device to work on a step."""
        if collect or self.eager or not kind.warm:
            outcome = self._run(kind, collect)
            if not (collect or self.eager or kind.warm):
                self.notes.append(memory.text(self.memory()))
            kind.warm |= not collect
            return outcome
        if kind.captured is None:
            try:
                kind.captured = self.place.capture(lambda: self._region(kind.batches, kind.outcome, False))
            except graph.NotCapturedError as error:
                self.eager, self.notes = True, [f"steps run operation by operation: {error}"]
                return self._run(kind, collect)
        kind.captured.launch(turn)
        return kind.outcome

    def _reports(self, queue: Sequence[Queued], batches_of: Callable[[int], Sequence[Batch]], collect: bool) -> list[tuple[TrainState, StepResult]]:
        """What became of the steps, up to the first that was skipped."""
        found: list[tuple[TrainState, StepResult]] = []
        for turn, one in enumerate(queue):
            if found:  # what the states of quantizers became was not foretold
                one = replace(one, state=replace(one.state, quantizers=found[-1][0].quantizers))
            last = turn == len(queue) - 1
            (self._wait if last else one.end.synchronize)()
            told, outcome = self.heard[turn].copy(), one.outcome
            if not (told[0] or last):
                self._wait()  # those behind it come to nothing
            if told[2]:  # a kernel doubts its input: the step once more, now with errors
                self.queue[0] += 1
                batches = batches_of(one.state.step)
                kind = self._kind(one.state, batches)
                self._fill(kind, one.state, batches, 0)
                outcome = self._run(kind, collect)
                self._wait()
                found.append(self._report(one, self.heard[0].copy(), outcome))
                break  # those behind it did not happen
            found.append(self._report(one, told, outcome, last))
            if found[-1][1].skipped:
                break
        self.states.delayed.known = found[-1][0].quantizers if outcome.mirrored and self.whole else None
        return found

    def compile_ahead(self, state: TrainState, batches: Sequence[Batch]) -> None:
        """Compiles the kernels of a step, all at once, where they are not in the cache. Of `state`, moments are not read."""
        weights, roles = self.p.model.arrays(), self.p.rules.optimizer.rule.states()
        stand_in = {f"{name}/{role.name}": array for name, array in weights.items() for role in roles}
        self._bind(replace(state, optimizer=stand_in))
        kind = self._kind(state, batches)
        self._fill(kind, state, batches, 0)
        with doubt.collected(device.cupy().zeros(1, np.uint32)):
            device.compile_ahead(lambda: self.place.eager(lambda: self._region(kind.batches, Outcome(), False)))
        self._wait()
        self.place.close()

    def memory(self) -> dict[str, float]:
        """MiB: `memory.parts`."""
        return memory.parts(self.p.model.arrays().values(), self.moments.values(), self.place.memory(), self.place.free())

    def facts(self) -> dict[str, Any]:
        """MiB of the device that steps take beside weights and moments; whether they were a graph."""
        return {"step_mib": round(self.place.memory() / 2**20, 1), "graph": not self.eager}

    def _wait(self) -> None:
        device.cupy().cuda.get_current_stream().synchronize()

    def _bind(self, state: TrainState) -> None:
        """Weights and moments that are not those of the graphs: these are dropped."""
        model = self.p.model
        if [id(a) for a in model.arrays().values()] != [id(a) for a in self.weights] or self.moments is not state.optimizer:
            if not all(a.flags.c_contiguous for a in model.arrays().values()):
                model.set_arrays({name: device.cupy().ascontiguousarray(a) for name, a in model.arrays().items()})
            self.weights, self.moments, self.kinds = list(model.arrays().values()), state.optimizer, {}
            self.weight_copies = Copies(self.weights)

    def _kind(self, state: TrainState, batches: Sequence[Batch]) -> Kind:
        p, fed = self.p, self.place.feed
        phase = p.in_force(state).key if p.recipes.changes else ""
        key = (phase, self.states.phases(state.quantizers), tuple(a.shape for batch in batches for a in (batch.inputs, batch.targets)))
        if key not in self.kinds:
            if len(self.kinds) == GRAPHS:
                del self.kinds[next(iter(self.kinds))]
            held = [Batch(fed.array(b.inputs.shape, b.inputs.dtype), fed.array(b.targets.shape, b.targets.dtype)) for b in batches]
            self.kinds[key] = Kind(held)
        return self.kinds[key]

    def _fill(self, kind: Kind, state: TrainState, batches: Sequence[Batch], turn: int) -> float:
        """Puts what this step is about into the feed; returns the learning rate."""
        self.queue[1] = turn
        p, fed, scale = self.p, self.place.feed, state.loss_scale.scale
        lr = float(p.rules.schedule(state.update))
        fed.number("step", state.step)
        fed.number("update", state.update)
        self.seed[...], self.inverse[...] = seed_of(scale, len(batches)), 1.0 / scale
        if self.whole:
            self.rules[...] = update.coefficients(p.rules.optimizer.rule, state.update + 1, lr)
        for held, batch in zip(kind.batches, batches, strict=True):
            held.inputs[...], held.targets[...] = batch.inputs, batch.targets
        self.states.fill(state.quantizers)
        return lr

    def _run(self, kind: Kind, collect: bool) -> Outcome:
        """The step, eagerly. Where it made copies of weights, the updates of the graphs there are do not write them: these are dropped."""
        outcome, known = Outcome(), len(self.weight_copies.made)
        self.place.eager(lambda: self._region(kind.batches, outcome, collect))
        if len(self.weight_copies.made) > known:
            for other in self.kinds.values():
                other.captured = None
        return outcome

    def _region(self, batches: Sequence[Batch], outcome: Outcome, collect: bool) -> None:
        """All that the device does in a step."""
        p, words = self.p, feed.upload(feed.same, self.zeros)
        doubts = doubt.collected(words[:1]) if feed.capturing() else nullcontext()
        with doubts, qtensor.own_pages() as pages, self.weight_copies.reading(), noted.noting(self.peaks, self.turns):
            losses, observed = both_passes(p.model, batches, lambda micro: self._context(micro, collect), self.seed)
            grads = update.contiguous(p.model.grads())
            for tensor in p.model.params.values():
                tensor.grad = None
            lines.BRANCH(lambda: self._copy(pages))
            outcome.mirrored = self._end(grads, [loss.data for loss in losses], words, observed)
        outcome.observed, outcome.pages, outcome.grads = observed, pages, {} if self.whole else grads

    def _copy(self, pages: Sequence[Any]) -> None:
        """What was counted, to the host."""
        while len(self.copies) < len(pages):
            self.copies.append(feed.pinned(pages[0].rows.nbytes).view(np.uint64).reshape(pages[0].rows.shape))
        for copy, page in zip(self.copies, pages, strict=False):
            feed.copy_to_host(copy, page.rows)

    def _end(self, grads: Mapping[str, Any], losses: Sequence[Any], words: Any, observed: Any) -> bool:
        """Verdict and update; beside the update the host is told. Returns whether the states of quantizers on the device follow."""
        p, (by, queue) = self.p, [feed.upload(feed.same, source) for source in (self.inverse, self.queue)]
        verdict = update.judge(list(grads.values()), losses, words, queue, by, p.rules.clip, self.halt, self.told)
        mirrored = self.states.delayed.update(observed, verdict, queue, self.told, self.amaxes)
        lines.BRANCH(lambda: feed.copy_to_host(self.heard, self.told))
        if self.whole:
            rules, weights = feed.upload(feed.same, self.rules), p.model.arrays()
            update.update(p.rules.optimizer, weights, grads, self.moments, rules, by, verdict, self.weight_copies.made)
        return mirrored

    def _context(self, micro: int, collect: bool) -> FedContext:
        numbers = self.place.feed.numbers
        step, update_ = (self.place.feed.number(name, numbers[name]) for name in ("step", "update"))
        return FedContext(
            self.p.spec.train.seed, step, update_, micro=micro, state=self.states.now, observed={}, collect=collect, feed=self.place.feed
        )

    def _foretold(self, state: TrainState) -> TrainState:
        """The state after a step that is applied; quantizer states as they were."""
        scale = update_loss_scale(self.p.rules.loss_scale, state.loss_scale, overflow=False)
        return replace(state, step=state.step + 1, update=state.update + 1, loss_scale=scale)

    def _report(self, one: Queued, told: np.ndarray, outcome: Outcome, last: bool = True) -> tuple[TrainState, StepResult]:
        """The state after the step, and its report, from what the device told; observations of the last step alone are there to be read."""
        rules, state, (done, finite) = self.p.rules, one.state, (bool(word) for word in told[:2])
        norm, losses = float(told[4:5].view(np.float32)[0]), told[update.TOLD : self.amaxes].view(np.float32)
        loss = mean_loss([float(value) for value in losses])
        pages = {page: copy.copy() for page, copy in zip(outcome.pages, self.copies, strict=False)} if last else {}
        observed = Readings(outcome.observed if last else {}, pages)
        if not done:
            self.queue[0] += 1  # the next step is none of those that wait behind this one
            return skipped(state, rules), StepResult(loss, one.lr, float("inf") if finite else float("nan"), True, observed)
        if not self.whole:
            return self._host_update(state, outcome, loss, observed)
        by = self.states.delayed
        seen = by.seen(outcome.observed, told[self.amaxes :]) if outcome.mirrored and by.holds(state.quantizers) else observed
        after = replace(self._foretold(state), quantizers=rules.quantizers.update(state.quantizers, seen))
        return after, StepResult(loss, one.lr, norm, False, observed)

    def _host_update(self, state: TrainState, outcome: Outcome, loss: float, observed: Any) -> tuple[TrainState, StepResult]:
        """The update of an optimizer with stored states, which the verdict allows; the weights change in place."""
        model, held = self.p.model, self.p.model.params
        after, result = applied(model, state, self.p.rules, None, loss, outcome.grads, observed)
        for name, tensor in held.items():
            tensor.data[...] = model.params[name].data
        model.params = held
        self.moments = after.optimizer
        return after, result

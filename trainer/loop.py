"""The run: steps, evaluations, checkpoints, metrics, until the last step, a divergence or an interrupt."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lpref.ref.errors import DivergedError
from lpref.trainer import checkpoint as checkpoints
from lpref.trainer.controllers import on
from lpref.trainer.data.batches import Batch, train_batch, valid_batches
from lpref.trainer.divergence import first_nonfinite
from lpref.trainer.energy import meter
from lpref.trainer.evaluate import evaluate
from lpref.trainer.generate import generate
from lpref.trainer.interrupt import Interrupt, Interrupted
from lpref.trainer.metrics import MetricsWriter, read_records
from lpref.trainer.progress import Progress
from lpref.trainer.runfolder import RunFolder
from lpref.trainer.setup import Prepared
from lpref.trainer.step import StepResult, TrainState, gradients
from lpref.trainer.stepping import stepper
from lpref.trainer.watching import Record, tensor_record


@dataclass
class Clock:
    """Seconds and predictions spent in steps since the last record, and since the start."""

    seconds: float = 0.0
    tokens: int = 0
    total_seconds: float = 0.0
    total_tokens: int = 0

    def add(self, seconds: float, tokens: int) -> None:
        self.seconds += seconds
        self.tokens += tokens
        self.total_seconds += seconds
        self.total_tokens += tokens

    def rate(self) -> float:
        """Tokens (or images) a second since the last record."""
        value = self.tokens / self.seconds if self.seconds else 0.0
        self.seconds, self.tokens = 0.0, 0
        return value


class Loop:
    """One run in one folder. Everything that decides a bit is in `prepared` and `state`; this class only sequences."""

    def __init__(self, prepared: Prepared, folder: RunFolder, state: TrainState, progress: Progress) -> None:
        self.p, self.folder, self.state, self.progress = prepared, folder, state, progress
        self.settings = prepared.spec.train
        self.begun = state.step * prepared.tokens_per_step
        """Predictions of the steps before this process's first."""
        self.clock = Clock(total_tokens=self.begun)
        self.valid = valid_batches(
            prepared.data, prepared.length, prepared.spec.data.valid_windows, self.settings.batch
        )
        self.saved = state.step if checkpoints.list_steps(folder.checkpoints) else -1
        self.stepper = stepper(prepared)
        self.meter = meter(prepared.backend)
        self.meter.goes_on(read_records(folder.metrics))
        self.tensors: Record = {}
        self.made: tuple[int, list[Batch]] = (-1, [])
        """The batches that were made last, and their step."""

    def run(self) -> None:
        """Up to the last step; raises DivergedError or Interrupted after saving what is good."""
        steps = self.settings.steps
        with (
            Interrupt() as interrupt,
            np.errstate(all="ignore"),
        ):  # what overflows is found by the finite check, not by warnings
            self.metrics = MetricsWriter(self.folder.metrics)
            try:
                while self.state.step < steps:
                    self.some_steps()
                    if interrupt.requested:
                        self.interrupted()
                self.finish()
            finally:
                self.metrics.close()

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of the global batch of `step`."""
        if self.made[0] != step:
            p, s, size = self.p, self.settings, self.settings.batch // self.settings.micro_batches
            batches = [train_batch(p.data, p.length, s.batch, s.seed, step, i * size, size) for i in range(s.micro_batches)]
            self.made = (step, batches)
        return self.made[1]

    def until_due(self) -> tuple[int, bool]:
        """(steps to the next after which something is due, whether the next one collects statistics): such a step goes alone."""
        s, due, first = self.settings, self.due, self.state.step + 1
        if first == 1 or due(s.stats_every, first):
            return 1, due(s.stats_every, first)
        every = (s.log_every, s.eval_every, s.checkpoint_every, s.tensors_every)
        step = first
        while step < s.steps and not any(due(each, step) for each in every) and not due(s.stats_every, step + 1):
            step += 1
        return step - self.state.step, False

    def some_steps(self) -> None:
        """Steps, and what is due after each."""
        count, collect = self.until_due()
        started, before = time.perf_counter(), self.state
        done = self.stepper.steps(before, count, self.batches, collect=collect)
        self.clock.add(time.perf_counter() - started, len(done) * self.p.tokens_per_step)
        while self.stepper.notes:
            self.progress.note(self.stepper.notes.pop())
        for self.state, result in done:
            if result.skipped:
                self.judge(before, self.batches(before.step), result)
            before = self.state
            self.conclude(result, collect)

    def conclude(self, result: StepResult, collect: bool) -> None:
        """The record of a step, and what else is due after it."""
        due, step = self.due, self.state.step
        last = step == self.settings.steps
        judged = due(self.settings.eval_every, step) or last
        watched = due(self.settings.tensors_every, step)
        if due(self.settings.log_every, step) or judged or collect or watched or result.skipped or step == 1:
            record = self.record(result, collect)
            if watched:
                self.tensors = tensor_record(self.p, self.state, self.batches(step - 1)[0], self.tensors)
                record["tensors"] = self.tensors
            if judged:
                self.p.bind(self.state, evaluation=True)
                record |= {"valid": self.evaluated(), **self.evaluated_average()}
            record["tokens_per_s"] = self.clock.rate()
            self.metrics.write(record)
            self.progress.show(record)
        if due(self.settings.checkpoint_every, step) or last:
            self.save()

    def evaluated(self) -> dict[str, float]:
        """The figures of the model's weights on the held-out data."""
        return evaluate(self.p.model, self.p.data, self.valid, self.p.evaluation_context(self.state))

    def evaluated_average(self) -> dict[str, Any]:
        """The same of the running mean of the weights, where the recipe keeps one and it has begun."""
        weights = self.p.model.arrays()
        mean = self.p.rules.optimizer.averages(weights, self.state.optimizer, self.state.update, self.settings.steps)
        if not mean:
            return {}
        self.p.model.set_arrays(mean)
        try:
            return {"valid_average": self.evaluated()}
        finally:
            self.p.model.set_arrays(weights)

    @staticmethod
    def due(every: int, step: int) -> bool:
        """Whether something that happens every so many steps happens after this one (0: never)."""
        return every > 0 and step % every == 0

    def record(self, result: StepResult, collect: bool) -> dict[str, Any]:
        """The line of metrics.jsonl of this step."""
        out: dict[str, Any] = {
            "step": self.state.step, "update": self.state.update, "loss": result.loss, "lr": result.lr, "grad_norm": result.grad_norm,
            "tokens": self.clock.total_tokens, "seconds": round(self.clock.total_seconds, 3),
        }  # fmt: skip
        if self.p.rules.loss_scale.kind != "none":
            out["loss_scale"] = self.state.loss_scale.scale
        if result.skipped:
            out["skipped"] = True
        shares = self.p.rules.quantizers.shares(result.observed)
        if shares:
            out["quantizers"] = shares
        if collect:
            out["layers"] = self.p.rules.quantizers.layers(result.observed)
        return out | self.energy(sparing=True)

    def energy(self, sparing: bool = False) -> dict[str, float]:
        """What the run took until now, where the device counts that; sparing: nothing shortly after the last time."""
        return self.meter.read(self.clock.total_tokens - self.begun, sparing)

    def judge(self, before: TrainState, batches: list[Batch], result: StepResult) -> None:
        """After a skipped step: goes on (loss scaling's search, policy `skip`) or ends the run with the culprit's name."""
        searching = self.p.rules.loss_scale.kind != "none" and bool(np.isfinite(result.loss))
        in_a_row = self.state.loss_scale.in_a_row
        if in_a_row <= self.settings.max_skips and (searching or self.settings.on_nonfinite == "skip"):
            self.progress.note(
                f"step {self.state.step} skipped: {'gradient overflow' if searching else 'not finite'}, loss scale {self.state.loss_scale.scale:g}"
            )
            return
        context = self.p.context_of(before, collect=False)
        params = self.p.model.arrays()

        def replay(backend: Any) -> dict[str, Any]:
            model = self.p.rebuild(backend)
            return gradients(model, batches, context, before.loss_scale.scale)[1]

        culprit = first_nonfinite(params, replay, self.p.backend)
        skips = f" after {in_a_row} skipped steps in a row" if in_a_row > 1 else ""
        self.diverged(f"loss {result.loss:g}{skips}; first non-finite tensor: {culprit}")

    def diverged(self, reason: str) -> None:
        """Writes the last record and raises; no checkpoint of this state is made."""
        step = self.state.step
        self.metrics.write(
            {"step": step, "end": "diverged", "reason": reason, "seconds": round(self.clock.total_seconds, 3)}
        )
        kept = checkpoints.list_steps(self.folder.checkpoints)
        good = f"the last good checkpoint is step {kept[-1]}" if kept else "there is no earlier checkpoint"
        raise DivergedError(
            f"diverged at step {step}: {reason}; {good}",
            where=str(self.folder.path),
            remedy="lower optimizer.lr, or train.on_nonfinite=skip",
        )

    def save(self) -> None:
        """A checkpoint of now, if its weights are finite."""
        if self.saved == self.state.step:
            return
        params = self.p.model.arrays()
        if not self.p.backend.all_finite(list(params.values())):
            bad = first_nonfinite(params, None, self.p.backend)
            self.diverged(f"first non-finite tensor: {bad}")
        self.metrics.sync()
        checkpoints.save(self.folder.checkpoints, self.p.to_checkpoint(self.state, params), self.settings.keep)
        self.saved = self.state.step

    def interrupted(self) -> None:
        """Saves and raises."""
        if self.state.step == self.settings.steps:
            return
        self.save()
        self.metrics.write({"step": self.state.step, "end": "interrupted"})
        raise Interrupted(
            f"interrupted after step {self.state.step}, checkpoint saved",
            where=str(self.folder.path),
            remedy=f"continue with --resume {self.folder.path}",
        )

    def finish(self) -> None:
        """The closing record: histograms of the codes, and a sample of a byte model."""
        end: dict[str, Any] = {"step": self.state.step, "end": "done", "seconds": round(self.clock.total_seconds, 3)}
        end |= self.energy() | self.stepper.facts()
        if self.settings.stats_every and self.state.step:
            self.p.bind(self.state)
            histograms = self.p.histograms(self.state, self.batches(self.state.step - 1)[0])
            if histograms:
                end["histograms"] = histograms
        if self.p.data.kind == "tokens" and self.p.data.byte_level and self.settings.sample:
            self.p.bind(self.state, evaluation=True)
            context = self.p.evaluation_context(self.state)
            made = generate(
                self.p.model,
                self.p.length,
                context,
                prompt=b"def ",
                count=self.settings.sample,
                temperature=0.8,
                seed=self.settings.seed,
            )
            end["sample"] = "def " + made.decode("utf-8", errors="replace")
        self.metrics.write(end)


def start_state(prepared: Prepared) -> TrainState:
    """Before the first step; the model gets its first weights as the recipe keeps them."""
    rules = prepared.rules
    backend = prepared.backend
    first, moments = rules.optimizer.start(prepared.model.arrays(), rules.seed, backend)
    prepared.model.set_arrays(first)
    controllers = rules.controllers.start(prepared.model.arrays(), backend)
    return TrainState(0, 0, moments, rules.quantizers.start(), rules.loss_scale.start(), controllers)


def resumed_state(prepared: Prepared, found: checkpoints.Checkpoint) -> TrainState:
    """The state of a checkpoint; its weights go into the model."""
    states = found.states
    base = start_state(prepared)
    prepared.model.set_arrays(found.params)
    moments = {name: prepared.backend.arrays.make(array) for name, array in states["optimizer"].items()}
    controllers = on(states.get("controllers", {}), prepared.backend.arrays.make)
    return replace(
        base, step=found.step, update=found.update, optimizer=moments, quantizers=states["quantizers"],
        loss_scale=type(base.loss_scale)(**states["loss_scale"]), controllers=controllers,
    )  # fmt: skip

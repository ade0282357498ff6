"""A captured step is the eager step and, in grade exact, the CPU's: weights, reports, skipped steps; whatever else lies in memory."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache, partial

import cupy as cp
import numpy as np
import pytest

from lpref.accel.cuda import backend as cuda_backend
from lpref.accel.cuda.lines import Lines
from lpref.ref.optim import LossScale
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import Batch, train_batch
from lpref.trainer.device_step import DeviceStep
from lpref.trainer.loop import start_state
from lpref.trainer.setup import Prepared, prepare
from lpref.trainer.spec import load_spec
from lpref.trainer.step import StepResult, TrainState
from lpref.trainer.stepping import HostStep

RECIPES = (
    "bf16", "bitnet_b158", "fp16_loss_scaled", "fp32", "fp4_dge_occ", "fp8_block", "fp8_current", "fp8_delayed", "halo", "int8_switchback", "lsq",
    "mxfp4", "mxfp8", "nvfp4",
)  # fmt: skip
OTHERS = ("in_hindsight", "flexpoint", "dynamic_fixed_point", "actnn", "s2fp8", "quest", "swalp", "jetfire")
"""Recipes with states of other kinds, and scales of other rules."""
STEPS = 10


@cache
def data():
    return load_data("stdlib")


def prepared(place: str, recipe: str, *changes: str) -> Prepared:
    return prepare(load_spec("train/ci_gpt", [f"backend={place}", f"recipe={recipe}", "schedule.warmup=3", *changes]), data=data())


def batches(run: Prepared, step: int) -> list[Batch]:
    s = run.spec.train
    size = s.batch // s.micro_batches
    return [train_batch(run.data, run.length, s.batch, s.seed, step, i * size, size) for i in range(s.micro_batches)]


def digest(run: Prepared) -> str:
    sha = hashlib.sha256()
    for name, array in run.model.arrays().items():
        sha.update(name.encode() + np.ascontiguousarray(run.backend.arrays.host(array)).tobytes())
    return sha.hexdigest()


class Steps:
    """A run that goes on by a stepper; eager: never by a graph."""

    def __init__(self, run: Prepared, kind=DeviceStep, eager: bool = False) -> None:
        self.run, self.by, self.state = run, kind(run), start_state(run)
        if eager:
            self.by.eager = True

    def __call__(self, count: int = 1, between=lambda: None) -> list[tuple]:
        """After each step its digest and report."""
        found = []
        with np.errstate(all="ignore"):
            for _ in range(count):
                between()
                ((self.state, result),) = self.by.steps(self.state, 1, partial(batches, self.run), collect=False)
                found.append((digest(self.run), *report(self.state, result)))
        return found

    def queued(self, count: int) -> list[tuple]:
        """The reports of steps that are queued as far as they can be."""
        found: list[tuple] = []
        while len(found) < count:
            done = self.by.steps(self.state, count - len(found), partial(batches, self.run), collect=False)
            found += [report(*one)[:7] for one in done]
            self.state = done[-1][0]
        return found


def report(state: TrainState, r: StepResult) -> tuple:
    keys = ("amax", "count", "overflowed", "underflowed")
    seen = {place: [{key: repr(one.get(key)) for key in keys} for one in held] for place, held in r.observed.items()}
    return state.step, state.update, state.loss_scale, repr(r.loss), repr(r.grad_norm), r.lr, r.skipped, seen


def check_equal(one: list[tuple], other: list[tuple], what: str) -> None:
    for step, (a, b) in enumerate(zip(one, other, strict=True)):
        assert a[1:8] == b[1:8], f"{what}: reports of step {step + 1} differ"
        assert a[0] == b[0], f"{what}: weights after step {step + 1} differ"
        assert a[8] == b[8], f"{what}: observations of step {step + 1} differ"


@pytest.mark.parametrize("recipe", RECIPES)
def test_graph_is_the_cpu(recipe: str) -> None:
    graph, host = Steps(prepared("cuda", recipe)), Steps(prepared("cpu", recipe), HostStep)
    check_equal(graph(STEPS), host(STEPS), recipe)
    assert all(kind.captured is not None for kind in graph.by.kinds.values())


@pytest.mark.parametrize("recipe", OTHERS)
def test_graphs_of_other_rules(recipe: str) -> None:
    """Some states change the kind of the step: a first step has no range yet."""
    graph, host = Steps(prepared("cuda", recipe)), Steps(prepared("cpu", recipe), HostStep)
    check_equal(graph(5), host(5), recipe)
    assert any(kind.captured is not None for kind in graph.by.kinds.values())


@pytest.mark.parametrize("recipe", RECIPES)
def test_graph_is_eager_in_grade_fast(recipe: str) -> None:
    graph, eager = (Steps(prepared("cuda", recipe, "numerics=fast", "train.micro_batches=2"), eager=e) for e in (False, True))
    check_equal(graph(STEPS), eager(STEPS), recipe)
    assert not any(kind.captured for kind in eager.by.kinds.values())


def test_what_changes_between_replays_is_read() -> None:
    """Learning rate, loss scale and step of a replay are those of the call, not those of the capture."""
    runs = [Steps(prepared("cuda", "nvfp4"), eager=eager) for eager in (False, True)]
    check_equal(runs[0](4), runs[1](4), "before")
    changes = [
        lambda r: replace(r.state, update=r.state.update + 50),
        lambda r: replace(r.state, step=r.state.step + 1000),
        lambda r: replace(r.state, loss_scale=replace(r.state.loss_scale, scale=8.0)),
    ]
    for change in changes:
        for run in runs:
            run.state = change(run)
        check_equal(runs[0](2), runs[1](2), "after a change")


@pytest.mark.parametrize("recipe", ["fp32", "nvfp4", "fp16_loss_scaled", "fp8_delayed"])
def test_queued_steps_are_the_same_steps(recipe: str) -> None:
    """In fp16 the loss scale grows until a step is skipped, and those behind it do not happen."""
    runs = [prepared("cuda", recipe) for _ in range(2)]
    scaled = LossScale("dynamic", init=2.0**10, growth=2.0**14, interval=6, backoff=2.0**-12, maximum=2.0**40)
    if recipe == "fp16_loss_scaled":
        runs = [replace(run, rules=replace(run.rules, loss_scale=scaled)) for run in runs]
    queued, one = Steps(runs[0]), Steps(runs[1])
    assert queued.queued(40) == [found[1:8] for found in one(40)]
    assert digest(runs[0]) == digest(runs[1])
    assert recipe != "fp16_loss_scaled" or one.state.loss_scale.skipped > 1


@pytest.mark.parametrize("grade", ["exact", "fast"])
def test_states_of_delayed_scaling_do_not_hold_up_the_queue(grade: str) -> None:
    """They are updated on the device; the host's, which count, follow from what it is told, also behind a skipped step and under new states."""
    runs = [prepared("cuda", "fp8_delayed", f"numerics={grade}", "train.micro_batches=2") for _ in range(2)]
    queued, one = (Steps(run) for run in runs)
    one.by.eager = True

    def check(count: int) -> None:
        with np.errstate(all="ignore"):
            assert queued.queued(count) == [found[1:8] for found in one(count)]
        for place, state in one.state.quantizers.items():
            held, there = queued.state.quantizers[place], cp.asnumpy(queued.by.states.delayed.scale(place))[0]
            np.testing.assert_array_equal([held["scale"], there], [state["scale"]] * 2, place)
            np.testing.assert_array_equal(held["history"], state["history"], place)
        assert digest(runs[0]) == digest(runs[1])

    check(3)
    done = queued.by.steps(queued.state, 4, partial(batches, queued.run))
    assert len(done) == 4
    queued.state = done[-1][0]
    one(4)
    check(12)
    for factor in (7.0, np.nan, 1.0):  # NaN: what it makes is not applied
        state = one.state.quantizers
        changed = {place: {**held, "scale": np.float32(factor)} for place, held in state.items()}
        queued.state, one.state = (replace(steps.state, quantizers=changed) for steps in (queued, one))
        check(2)
    assert one(1)[0][7] is False


def poison(steps: Steps) -> None:
    """0xFF in all memory that is free: of the steps' own pool, and of the general one."""
    for pool in (steps.by.place.pool, cp.get_default_memory_pool()):
        pool.set_limit(size=max(pool.total_bytes(), 1))
        place, held = steps.by.place, []
        for stream in (place.stream, place.lines.side) if pool is place.pool else (cp.cuda.Stream.null,):
            size = 1 << 26
            with cp.cuda.using_allocator(pool.malloc), stream:
                while size >= 512:
                    try:
                        held.append(cp.empty(size, np.uint8))
                        held[-1].fill(255)
                    except cp.cuda.memory.OutOfMemoryError:
                        size //= 2
                stream.synchronize()
        del held
        pool.set_limit(size=0)


@pytest.mark.parametrize("grade", ["exact", "fast"])
@pytest.mark.parametrize("recipe", ["nvfp4", "fp8_delayed", "lsq", "mxfp4"])
def test_nothing_is_left_over_from_before(recipe: str, grade: str) -> None:
    plain, poisoned = (Steps(prepared("cuda", recipe, f"numerics={grade}")) for _ in range(2))
    check_equal(plain(6), poisoned(6, between=lambda: poison(poisoned)), recipe)
    assert poisoned.by.facts()["step_mib"] > 0


SPIN = 'extern "C" __global__ void spin(long long cycles) { for (long long from = clock64(); clock64() - from < cycles;) {} }'


@pytest.mark.parametrize("model", ["small", "tied"])
@pytest.mark.parametrize("recipe", ["bf16", "fp8_current", "lsq", "nvfp4"])
def test_whichever_line_is_faster(recipe: str, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, two, and two of which one is held up at each piece of work: the same weights, losses and observations."""
    spin, run = cp.RawKernel(SPIN, "spin"), Lines.run
    monkeypatch.setattr(cuda_backend, "ARRAYS", replace(cuda_backend.ARRAYS, again=0))  # what can be made again is
    changes = ["numerics=fast", "train.micro_batches=2"]
    if model == "tied":
        changes.append("model={kind: gpt, layers: 2, d_model: 64, heads: 2, ffn: 256, context: 64, vocab: 256, norm: layernorm, activation: gelu, "
                       "positions: learned, bias: true, tied: true}")  # fmt: skip

    def steps(held_up: str, two: bool = True) -> list[tuple]:
        def slow(lines: Lines, work, reads=()):
            def held() -> object:
                spin((1,), (1,), (np.int64(200_000),))
                return work()

            made = run(lines, held if held_up == "side" else work, reads)
            if held_up == "main":
                spin((1,), (1,), (np.int64(200_000),))
            return made

        monkeypatch.setattr(Lines, "run", slow)
        made = Steps(prepared("cuda", recipe, *changes))
        made.by.place.lines.two = two
        return made(6)

    one = steps("", two=False)
    for held_up in ("", "side", "main"):
        check_equal(one, steps(held_up), f"{recipe}, held up: {held_up or 'none'}")


def test_a_skipped_step_leaves_everything() -> None:
    run = prepared("cuda", "fp16_loss_scaled")
    run = replace(run, rules=replace(run.rules, loss_scale=LossScale("dynamic", init=2.0**40, backoff=2.0**-3, maximum=2.0**40)))
    steps = Steps(run)
    before = digest(run)
    moments = {name: cp.asnumpy(a) for name, a in steps.state.optimizer.items()}
    first = steps(3)
    assert [r[7] for r in first] == [True] * 3
    assert {r[0] for r in first} == {before}
    assert all(np.array_equal(moments[name], cp.asnumpy(a)) for name, a in steps.state.optimizer.items())
    host = prepared("cpu", "fp16_loss_scaled")
    host = Steps(replace(host, rules=replace(host.rules, loss_scale=run.rules.loss_scale)), HostStep)
    check_equal(first + steps(9), host(12), "loss scaling")
    assert not steps(1)[0][7]


def test_an_optimizer_with_stored_states() -> None:
    change = "optimizer={kind: adamw, lr: 1e-3, storage_of: {m: dynamic8, v: bfloat16_sr, param: bfloat16_sr}}"
    check_equal(Steps(prepared("cuda", "bf16", change))(6), Steps(prepared("cpu", "bf16", change), HostStep)(6), "stored")


@pytest.mark.parametrize("change", ["{kind: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov: true}", "{kind: lion, lr: 1e-3}"])
def test_other_rules(change: str) -> None:
    change = f"optimizer={change}"
    check_equal(Steps(prepared("cuda", "fp32", change))(5), Steps(prepared("cpu", "fp32", change), HostStep)(5), change)


def test_phases_of_a_recipe_have_graphs_of_their_own() -> None:
    changed = ("recipe={base: nvfp4, set: {schedule: [{start: 3, stop: 6, set: {linear.fprop.a.quantizer: null}}]}}",)
    runs = [Steps(prepared("cuda", "nvfp4", *changed)), Steps(prepared("cpu", "nvfp4", *changed), HostStep)]
    check_equal(runs[0](9), runs[1](9), "phases")
    assert len(runs[0].by.kinds) == 2

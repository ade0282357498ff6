"""The step of the cuda backend without a GPU (host_gpu): its weights are `train_step`'s, eager and replayed.

The graph that stands in runs the step's Python again as it was captured, with the numbers of that time: what is right all the same was read
from memory.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import host_gpu
import numpy as np
import pytest

from lpref.accel import backend
from lpref.accel.cuda import feed, graph, lines, quantize
from lpref.accel.cuda.backend import CudaBackend
from lpref.cli.diff_step import text
from lpref.ref.backend import Backend
from lpref.ref.errors import BackendError, SpecError
from lpref.ref.optim import LossScale
from lpref.ref.random import WordAddress
from lpref.trainer import lockstep
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import Batch, train_batch
from lpref.trainer.device_step import DeviceStep
from lpref.trainer.loop import start_state
from lpref.trainer.setup import prepare_on
from lpref.trainer.spec import load_spec
from lpref.trainer.stepping import HostStep

MOVING = SimpleNamespace(
    concatenate=lambda parts: host_gpu.put(np.concatenate(parts)), zeros_like=lambda x: host_gpu.put(np.zeros_like(x)),
    repeat=lambda x, n, axis: host_gpu.put(np.repeat(x, n, axis)), asarray=lambda x, dtype: x,
    broadcast_to=lambda x, shape: host_gpu.put(np.broadcast_to(x, shape)),
)  # fmt: skip
TIED = ("model={kind: gpt, layers: 1, d_model: 32, heads: 2, ffn: 64, context: 16, vocab: 256, norm: layernorm, activation: gelu, "
        "positions: learned, bias: true, tied: true}")  # fmt: skip
SMALL = ("model.layers=1", "model.d_model=32", "model.ffn=48", "model.context=16", "train.batch=4", "data.valid_windows=1", "schedule.warmup=2")


class Again:
    """Stands for a graph."""

    def __init__(self, function) -> None:
        self.function = function
        (self.place,) = (place for place in PLACES if place.feed.constants is not None)  # the one that captures

    def launch(self) -> None:
        self.place.feed.constants = []
        with self.place._inside():
            self.function()
        self.place.feed.constants = None


PLACES: list[graph.Place] = []


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory):
    with host_gpu.in_place(tmp_path_factory.mktemp("host")) as patch:
        patch.setattr(host_gpu.ndarray, "__array_namespace__", lambda self: MOVING, raising=False)
        patch.setattr(quantize, "_fast", lambda job: None)
        patch.setattr(graph, "record", lambda stream, function: Again(function))
        made = graph.Place.__init__
        patch.setattr(graph.Place, "__init__", lambda self: (made(self), PLACES.append(self))[0])
        yield


def prepared(made, *changes: str, spec: str = "train/ci_gpt", **rules):
    own = SMALL if spec == "train/ci_gpt" else ("train.batch=4", "numerics=exact")
    resolved = load_spec(spec, [*own, *changes])
    run = prepare_on(made, resolved, load_data(resolved.data.name))
    return replace(run, rules=replace(run.rules, **rules))


def batches(run, step: int) -> list[Batch]:
    s = run.spec.train
    size = s.batch // s.micro_batches
    return [train_batch(run.data, run.length, s.batch, s.seed, step, i * size, size) for i in range(s.micro_batches)]


def trained(run, steps: int, kind, together: int = 1):
    """together: steps that may be queued."""
    state, by, results = start_state(run), kind(run), []
    with np.errstate(all="ignore"):
        while state.step < steps:
            done = by.steps(state, min(together, steps - state.step), partial(batches, run), collect=state.step == 3)
            results += [result for _, result in done]
            state = done[-1][0]
    return state, results, {name: np.array(run.backend.arrays.host(a)) for name, a in run.model.arrays().items()}


def check(*changes: str, steps: int = 6, grown: float = 1.0, together: int = 1, **rules) -> list:
    runs = [prepared(place, *changes, **rules) for place in (CudaBackend("exact"), backend("cpu", "exact"))]
    for run in runs:
        if grown != 1.0:
            run.model.params["head.weight"].data[...] *= np.float32(grown)
    found = [trained(run, steps, kind, together) for run, kind in zip(runs, (DeviceStep, HostStep), strict=True)]
    (state, results, weights), (state_, results_, weights_) = found
    assert (state.step, state.update, state.loss_scale) == (state_.step, state_.update, state_.loss_scale)
    for one, other in zip(results, results_, strict=True):
        assert (one.loss, one.lr, one.skipped) == (other.loss, other.lr, other.skipped)
        np.testing.assert_equal(one.grad_norm, other.grad_norm)
        if together > 1 and not one.observed:
            continue  # only the last step of a queue reports them
        for key in ("amax", "count", "overflowed", "underflowed"):
            gpu, cpu = ({place: [float(o[key]) for o in seen] for place, seen in r.observed.items()} for r in (one, other))
            np.testing.assert_equal(gpu, cpu)
    for name in weights_:
        np.testing.assert_array_equal(weights[name].view(np.uint32), weights_[name].view(np.uint32), name)
    for place, held in state_.quantizers.items():
        np.testing.assert_equal(state.quantizers[place], held)
    return results


MORE = ("nvfp4", "fp8_delayed", "lsq", "mxfp4", "int8_switchback")


@pytest.mark.parametrize("recipe", ["bf16", *(pytest.param(name, marks=pytest.mark.deep) for name in MORE)])
def test_replays_are_train_step(recipe: str) -> None:
    check(f"recipe={recipe}", "train.micro_batches=2")


@pytest.mark.parametrize("recipe", ["bf16", *(pytest.param(name, marks=pytest.mark.deep) for name in ("nvfp4", "fp8_delayed", "lsq"))])
def test_a_line_that_comes_late(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradients of parameters are made when somebody waits for them, and find in memory what they were to read."""
    init = lines.Lines.__init__
    told = []

    def late(self: lines.Lines) -> None:
        init(self)
        self.side.late = True
        self.side.do = lambda work: (told.append(work), self.side.told.append(work))  # type: ignore[method-assign]

    monkeypatch.setattr(lines.Lines, "__init__", late)
    check(f"recipe={recipe}", "train.micro_batches=2", steps=4)
    if recipe == "bf16":
        check(f"recipe={recipe}", TIED, steps=3)
    assert len(told) > 20


@pytest.mark.parametrize("kind", ["{kind: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.01}", "{kind: lion, lr: 1e-3}"])
def test_other_rules(kind: str) -> None:
    check("recipe=fp32", f"optimizer={kind}")


@pytest.mark.deep
def test_stored_states_are_updated_after_the_graph() -> None:
    check("recipe=fp32", "optimizer={kind: adamw, lr: 1e-3, storage_of: {m: dynamic8, v: bfloat16_sr}}")


def test_a_skipped_step_leaves_everything() -> None:
    """The loss scale overflows until it has fallen far enough."""
    results = check("recipe=fp16_loss_scaled", loss_scale=LossScale("dynamic", init=2.0**30, backoff=2.0**-3, maximum=2.0**30), steps=8)
    assert results[0].skipped
    assert not results[-1].skipped


def test_queued_steps_are_the_same_steps() -> None:
    """Also where one of them is skipped: those behind it do not happen."""
    check("recipe=fp32", steps=12, together=5)
    scaled = LossScale("dynamic", init=2.0**10, growth=2.0**12, interval=4, backoff=2.0**-10, maximum=2.0**30)
    results = check("recipe=fp16_loss_scaled", loss_scale=scaled, steps=14, together=9)
    assert [r.skipped for r in results].count(True) > 1


def test_states_of_delayed_scaling_do_not_hold_up_the_queue() -> None:
    """The device updates them; behind a step that collects they are the host's again."""
    results = check("recipe=fp8_delayed", steps=8, together=3)
    assert [bool(r.observed) for r in results].count(True) < len(results) - 2


def test_a_finite_gradient_whose_norm_overflows() -> None:
    results = check("recipe=fp32", steps=2, grown=1e24)
    assert all(r.grad_norm == float("inf") for r in results)


@pytest.mark.deep
def test_a_doubt_is_raised_by_the_eager_repetition() -> None:
    run = prepared(CudaBackend("exact"), "recipe=lsq")
    by, state = DeviceStep(run), start_state(run)
    for _ in range(3):
        ((state, _),) = by.steps(state, 1, partial(batches, run))
    name = next(n for n in run.model.params if n.endswith("w_step"))
    run.model.params[name].data[...] = np.nan
    with pytest.raises(SpecError, match="is not a positive number"):
        by.steps(state, 1, partial(batches, run))


def copying() -> Backend:
    """Grade exact, but casts of weights to bfloat16 are read from their copies, as in grade fast."""
    made = CudaBackend("exact")
    operand = replace(made.kernels["operand"], function=partial(made.kernels["operand"].function, numbers=True))
    return Backend("cuda", "exact", [operand if kernel.op == "operand" else kernel for kernel in made.kernels.values()], made.arrays)


PHASES = "recipe={base: bf16, set: {schedule: [{start: 3, stop: 6, set: {linear.fprop.b.quantizer: fp16}}]}}"


@pytest.mark.parametrize("change", ["recipe=bf16", pytest.param(PHASES, marks=pytest.mark.deep)])
def test_copies_of_weights_are_their_casts(change: str) -> None:
    """Eager, replayed and queued steps, two micro-batches each, with weights that somebody else changed, and other arrays in their place."""
    found = []
    for made, kind in ((copying(), DeviceStep), (backend("cpu", "exact"), HostStep)):
        run = prepared(made, change, "train.micro_batches=2")
        state, by = start_state(run), kind(run)
        while state.step < 12:
            if state.step in (4, 7):
                run.model.params["h.0.mlp.up.weight"].data[3] *= np.float32(1.5)
            if state.step == 9:
                run.model.set_arrays({name: made.arrays.host(a) for name, a in run.model.arrays().items()})
            until = next(stop for stop in (4, 7, 9, 12) if stop > state.step)
            state = by.steps(state, until - state.step, partial(batches, run))[-1][0]
            if kind is DeviceStep:
                held, weights = by.weight_copies.made, {a.data.ptr: a for a in run.model.arrays().values()}
                assert set(held) == {run.model.params[site.parameter].data.data.ptr for site in run.model.sites.values()}
                for at, copy in held.items():
                    np.testing.assert_array_equal(host_gpu.get(copy), made.arrays.host(made.cast(weights[at], "bfloat16")))
        found.append({name: np.array(made.arrays.host(a)) for name, a in run.model.arrays().items()})
    for name, want in found[1].items():
        np.testing.assert_array_equal(found[0][name].view(np.uint32), want.view(np.uint32), name)


def test_lockstep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every op and the update of the eager step, and the replays against it; then a graph that goes its own way."""
    monkeypatch.setattr(lockstep, "load_backend", lambda spec: CudaBackend("exact"))
    spec, data = load_spec("train/ci_gpt", [*SMALL, "recipe=bf16", "backend=cuda"]), load_data("stdlib")
    found = lockstep.lockstep(spec, "cpu", 2, data=data)
    assert found.good, text(found)
    assert found.graph == "3 steps as they are trained, 1 graph"
    assert {"gemm", "gemms", "guarded_step"} <= {row.op for row in found.rows}
    launched = DeviceStep._start

    def start(self, kind, collect, turn):
        outcome = launched(self, kind, collect, turn)
        if kind.captured is not None:
            self.weights[0][0, 0] += np.float32(1)
        return outcome

    monkeypatch.setattr(DeviceStep, "_start", start)
    found = lockstep.lockstep(spec, "cpu", data=data)
    assert not found.good
    assert found.graph_differs[0].startswith("step 2, a replay: wte.weight: 1 of ")


def test_a_number_of_a_step_is_not_read_outside() -> None:
    number = feed.Feed().number("step", 3)
    with pytest.raises(BackendError, match="outside of that step"):
        feed.word(number)
    assert int(host_gpu.get(feed.word(3))[0]) == 3


def test_what_the_host_makes_of_a_source_is_refused() -> None:
    made = feed.Feed()
    source = made.array((2, 3), np.float32)
    with made.reading():
        assert feed.fed(source.reshape(-1)[2:])
        assert feed.fed(np.asarray(source, np.float32).reshape(6))
        for copied in (source + 1, source.T.copy(), np.ascontiguousarray(source.T.reshape(2, 3))):
            with pytest.raises(BackendError, match="computed on the host"):
                feed.upload(feed.same, copied)


@pytest.mark.deep
@pytest.mark.parametrize("model", ["{kind: vit, layers: 1, d_model: 16, heads: 2, ffn: 32, image: 8, patch: 4}", "{kind: cnn, image: 8}"])
def test_images(model: str) -> None:
    check("recipe=fp32", f"model={model}", spec="train/digits_cnn")


def test_what_is_fed_keeps_its_place() -> None:
    made = feed.Feed()
    source, step = made.array((2, 3), np.int64), made.number("step", 1)
    with made.reading():
        there = feed.upload(feed.same, source.reshape(-1))
        word, signs = feed.word(step), made.made(sum_of, WordAddress(1, step, "a"))
        assert feed.fed(signs)
        assert feed.upload(feed.same, source.reshape(-1)) is there
        source[...] = 7
        made.number("step", 5)
        made.send()
        assert (there.tolist(), word.tolist(), signs.tolist()) == ([7] * 6, [5], [5])


def sum_of(address: WordAddress) -> np.ndarray:
    return np.array([address.step])

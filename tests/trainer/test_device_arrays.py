"""Nothing above the backend computes on its arrays: training on strict arrays gives the cpu backend's weights, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np
import pytest
from strict_arrays import StrictArray, StrictBackend

from lpref.accel import backend
from lpref.models import build
from lpref.ref.optim import LossScale
from lpref.ref.optim.optimizer import optimizer
from lpref.ref.recipes import Context
from lpref.trainer import checkpoint as checkpoints
from lpref.trainer import setup
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import Batch, train_batch, valid_batches
from lpref.trainer.evaluate import evaluate
from lpref.trainer.generate import generate
from lpref.trainer.loop import resumed_state, start_state
from lpref.trainer.spec import load_spec
from lpref.trainer.step import train_step

DATA = load_data("stdlib")
INTEGER = ("gupta", "swalp", "wage", "niti", "dqt", "dorefa", "in_hindsight", "ui8", "jetfire")  # weights on grids, scales with a memory
QAT = ("efficientqat", "l4q", "quest", "pact_sawb", "dsq", "ewgs", "llm_qat", "apiq_sapr", "lsq_plus")
SUMS = ("int4_hq_lss", "ifairy", "statquant_bhq", "int8_fallback", "fp4_dge_occ", "hlq")  # split, sampled, mixed and projected operands
SPEC = ("model.layers=1", "model.context=32", "data.valid_windows=2", "train.micro_batches=2")


@contextmanager
def arrays(monkeypatch: pytest.MonkeyPatch, strict: bool) -> Iterator[None]:
    """Backends that the trainer loads in here are strict, or the cpu's."""
    with monkeypatch.context() as patch:
        patch.setattr(setup, "load_backend", lambda spec: StrictBackend(spec.numerics) if strict else backend("cpu", spec.numerics))
        yield


def prepared(monkeypatch: pytest.MonkeyPatch, strict: bool, *changes: str, spec: str = "train/ci_gpt", data=DATA):
    """A run of a smaller ci_gpt, on the cpu backend or on strict arrays, with loss scaling."""
    resolved = load_spec(spec, [*(SPEC if spec == "train/ci_gpt" else ()), *changes])
    with arrays(monkeypatch, strict):
        made = setup.prepare(resolved, data=data)
    return replace(made, rules=replace(made.rules, loss_scale=LossScale("dynamic", init=1024.0)))


def trained(run, state, steps: int):
    """The state after more steps."""
    s = run.spec.train
    size = s.batch // s.micro_batches
    for _ in range(steps):
        run.bind(state)
        batches = [train_batch(run.data, run.length, s.batch, s.seed, state.step, i * size, size) for i in range(s.micro_batches)]
        state, result = train_step(run.model, state, batches, run.rules, run.context_of(state, collect=True))
        assert not result.skipped
        assert run.rules.quantizers.layers(result.observed) or not run.rules.quantizers.places
    return state


def weights(run) -> dict[str, np.ndarray]:
    return {name: run.backend.arrays.host(array) for name, array in run.model.arrays().items()}


def same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name].view(np.uint32), other[name].view(np.uint32), name)


@pytest.mark.parametrize("recipe", ["fp32", "bf16", "nvfp4", "fp8_delayed", "lsq", "coat", "actnn", *SUMS, *QAT, *INTEGER])
@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_the_same_weights(recipe: str, numerics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [prepared(monkeypatch, strict, f"recipe={recipe}", f"numerics={numerics}") for strict in (False, True)]
    states = [trained(run, start_state(run), 3) for run in runs]
    assert all(isinstance(a, StrictArray) for a in (*runs[1].model.arrays().values(), *states[1].optimizer.values()))
    same(*(weights(run) for run in runs))
    assert states[0].loss_scale == states[1].loss_scale
    same(*({name: run.backend.arrays.host(a) for name, a in s.optimizer.items()} for run, s in zip(runs, states, strict=True)))


@pytest.mark.parametrize("kind", ["adamw", "sgd", "lion"])
@pytest.mark.parametrize("kept", ["float32", "bfloat16_sr", "dynamic8", "nvfp4"])
def test_the_same_stored_moments(kind: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hyper = {"momentum": 0.9} if kind == "sgd" else {}
    moments = {"adamw": ("m", "v"), "sgd": ("b",), "lion": ("m",)}[kind]
    found = []
    for strict in (False, True):
        run = prepared(monkeypatch, strict, "recipe=fp32")
        rule = optimizer(kind, storage_of=dict.fromkeys((*moments, "param"), kept), roles=run.model.roles, **hyper)
        run = replace(run, rules=replace(run.rules, optimizer=rule))
        trained(run, start_state(run), 2)
        found.append(weights(run))
    same(*found)


def test_checkpoints_go_from_one_backend_to_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    whole = prepared(monkeypatch, False, "recipe=fp8_delayed")
    trained(whole, start_state(whole), 4)
    for first in (False, True):
        one, other = (prepared(monkeypatch, strict, "recipe=fp8_delayed") for strict in (first, not first))
        state = trained(one, start_state(one), 2)
        path = checkpoints.save(tmp_path / str(first), one.to_checkpoint(state, one.model.arrays()), keep=1)
        trained(other, resumed_state(other, checkpoints.load(path)), 2)
        same(weights(whole), weights(other))


def test_figures_text_and_histograms(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for strict in (False, True):
        run = prepared(monkeypatch, strict)
        state = start_state(run)
        context = run.evaluation_context(state)
        figures = evaluate(run.model, run.data, valid_batches(run.data, run.length, 2, 2), context)
        text = generate(run.model, run.length, context, prompt=b"def ", count=5, temperature=0.7, seed=3)
        with arrays(monkeypatch, strict):
            bars = run.histograms(state, train_batch(run.data, run.length, 2, 1, 0, 0, 2))
        found.append((figures, text, bars, asdict(state.loss_scale)))
    assert found[0] == found[1]


@pytest.mark.parametrize("spec", ["train/digits_cnn"])
def test_images(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data(load_spec(spec).data.name)
    runs = [prepared(monkeypatch, strict, "numerics=exact", "train.batch=4", spec=spec, data=data) for strict in (False, True)]
    for run in runs:
        trained(run, start_state(run), 2)
    same(*(weights(run) for run in runs))
    figures = [evaluate(run.model, data, valid_batches(data, 0, 1, 4)[:2], run.evaluation_context(start_state(run))) for run in runs]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("spec", [{"kind": "mlp"}, {"kind": "vit", "layers": 1}, {"kind": "gpt", "layers": 1, "context": 8, "positions": "learned"}])
def test_the_other_models_run(spec: dict) -> None:
    model = build(spec, None, 0, StrictBackend())
    images = np.random.default_rng(0).standard_normal((2, 1, 8, 8)).astype(np.float32)
    ids = np.arange(16).reshape(2, 8)
    batch = Batch(ids, ids[::-1]) if spec["kind"] == "gpt" else Batch(images, np.array([1, 2]))
    loss = model.loss(batch, Context())
    loss.backward(model.array(np.float32(1)))
    assert all(isinstance(g, StrictArray) for g in model.grads().values())

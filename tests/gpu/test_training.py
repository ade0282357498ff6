"""Training on the GPU: in grade exact the weights of the CPU, bit for bit; in grade fast the same bits run after run.

`python3 -m pytest tests/gpu/test_training.py` compares 10 steps of specs/train/ci_gpt.yaml for every recipe (more would not fit the
time of a device that runs them all); with `-m identity`, 50.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from served import fast, served

from lpref.accel import backend
from lpref.cli.main import main
from lpref.conformance.diff.lockstep import Lockstep
from lpref.models.gpt import GPT, GPTConfig
from lpref.ref.errors import BackendError, DivergedError, SpecError
from lpref.ref.optim import OptimContext, clip_global_norm, optimizer
from lpref.ref.recipes import Context
from lpref.ref.recipes.executable import missing_mechanisms
from lpref.ref.recording import RecordingBackend
from lpref.specs import recipe as recipe_named
from lpref.trainer import checkpoint as checkpoints
from lpref.trainer.api import train
from lpref.trainer.catalog import spec_names
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.loop import resumed_state, start_state
from lpref.trainer.quantizers import QuantizerStates, places_of
from lpref.trainer.run import Run
from lpref.trainer.setup import Prepared, prepare
from lpref.trainer.spec import load_spec
from lpref.trainer.step import TrainState, train_step

RECIPES = [n for n in spec_names("recipes") if not missing_mechanisms(recipe_named(n)) and served(recipe_named(n))]
SMALL = GPTConfig(vocab=40, context=32, layers=2, d_model=64, heads=2, kv_heads=1, ffn=96)


@cache
def data():
    return load_data("stdlib")


def prepared(place: str, recipe: str, *changes: str) -> Prepared:
    return prepare(load_spec("train/ci_gpt", [f"backend={place}", f"recipe={recipe}", *changes]), data=data())


def after(run: Prepared, state: TrainState, steps: int) -> TrainState:
    """The state `steps` steps later; the weights are in the run's model."""
    s = run.spec.train
    with np.errstate(all="ignore"):
        for _ in range(steps):
            run.bind(state)
            batch = train_batch(run.data, run.length, s.batch, s.seed, state.step, 0, s.batch)
            state, _ = train_step(run.model, state, [batch], run.rules, run.context_of(state, collect=False))
    return state


def weights(run: Prepared) -> dict[str, np.ndarray]:
    return {name: run.backend.arrays.host(array) for name, array in run.model.arrays().items()}


def digest(run: Prepared) -> str:
    """SHA-256 over the names and bytes of the weights."""
    sha = hashlib.sha256()
    for name, array in weights(run).items():
        sha.update(name.encode() + array.tobytes())
    return sha.hexdigest()


def equal_after(recipe: str, steps: int) -> None:
    """The same weights on cuda and cpu after each of `steps` steps; else the first step and the tensors that differ."""
    runs = [prepared(place, recipe) for place in ("cuda", "cpu")]
    states = [start_state(run) for run in runs]
    for step in range(steps):
        states = [after(run, state, 1) for run, state in zip(runs, states, strict=True)]
        if digest(runs[0]) != digest(runs[1]):
            gpu, cpu = (weights(run) for run in runs)
            wrong = {name: int((gpu[name] != cpu[name]).sum()) for name in cpu if gpu[name].tobytes() != cpu[name].tobytes()}
            raise AssertionError(f"{recipe}: after step {step + 1} these weights differ (in so many elements): {wrong}")
    assert states[0].loss_scale == states[1].loss_scale
    print(f"{recipe}: SHA-256 of the weights after {steps} steps {digest(runs[0])}")


@pytest.mark.parametrize("recipe", RECIPES)
def test_equal_weights(recipe: str) -> None:
    equal_after(recipe, 10)


@pytest.mark.identity
@pytest.mark.parametrize("recipe", RECIPES)
def test_equal_weights_for_long(recipe: str) -> None:
    equal_after(recipe, 50)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("name", RECIPES)
def test_every_op_of_a_step_keeps_its_contract(name: str, numerics: str) -> None:
    """Ops of a step on the GPU, each made again on the CPU from the same inputs: tells which one breaks training.

    Grade fast refuses sums that are coarser than float32's, and says which grade makes them.
    """
    cuda = backend("cuda", numerics)
    seen = Lockstep(cuda, backend("cpu", "exact"))
    ops = RecordingBackend(cuda, seen)
    model = GPT(SMALL, recipe_named(name), 0, ops)
    ids = np.random.default_rng(1).integers(0, 40, (2, 33))
    batch = SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:])
    state = QuantizerStates(places_of(model.recipes)).start()
    if numerics == "fast" and not fast(recipe_named(name)):
        with pytest.raises(SpecError, match="numerics: exact"):
            model.loss(batch, Context(init=True, state=state))
        return
    with np.errstate(all="ignore"):
        model.loss(batch, Context(init=True, state=state))
        model.loss(batch, Context(seed=0, step=3, update=3, state=state, collect=True)).backward()
        grads, _ = clip_global_norm({key: p.grad for key, p in model.params.items()}, 1.0, ops=ops)
        rule, params = optimizer("adamw"), {key: p.data for key, p in model.params.items()}
        rule.update(params, grads, rule.init(params, ops), OptimContext(step=3, update=3, seed=0, lr=1e-3), ops)
    assert {"gemm", "adamw_update"} <= {row.op for row in seen.rows.values()}
    assert not seen.broken(), "\n".join(f"{row.phase} {row.site}, {row.op}: {row.broken}" for row in seen.broken()[:8])


@pytest.mark.parametrize("first", ["cpu", "cuda"])
@pytest.mark.parametrize("recipe", ["nvfp4", "fp8_delayed", "fp16_loss_scaled"])
def test_a_checkpoint_continues_on_the_other(recipe: str, first: str, tmp_path) -> None:
    whole = prepared("cpu", recipe)
    after(whole, start_state(whole), 8)
    one, other = prepared(first, recipe), prepared("cuda" if first == "cpu" else "cpu", recipe)
    state = after(one, start_state(one), 4)
    path = checkpoints.save(tmp_path, one.to_checkpoint(state, one.model.arrays()), keep=1)
    after(other, resumed_state(other, checkpoints.load(path)), 4)
    assert digest(other) == digest(whole)


@pytest.mark.parametrize("recipe", ["bf16", "nvfp4", "fp8_delayed"])
def test_grade_fast_repeats_itself(recipe: str) -> None:
    found = []
    for _ in range(2):
        run = prepared("cuda", recipe, "numerics=fast")
        after(run, start_state(run), 20)
        found.append(digest(run))
    assert found[0] == found[1]


def test_images() -> None:
    found = []
    for place in ("cuda", "cpu"):
        spec = load_spec("train/digits_cnn", [f"backend={place}", "numerics=exact"])
        run = prepare(spec)
        after(run, start_state(run), 3)
        found.append(digest(run))
    assert found[0] == found[1]


def test_a_run_that_diverges_names_the_operation(tmp_path) -> None:
    with pytest.raises(DivergedError, match=r"first non-finite tensor: the result of operation [0-9]+, "):
        train("train/ci_gpt", out=tmp_path / "run", quiet=True, data=data(), backend="cuda", optimizer__lr=1e30, recipe="fp32")


def command(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_commands(tmp_path) -> None:
    """train, eval and generate on the GPU; a run begun on the CPU goes on there."""
    begun = tmp_path / "begun"
    short = ["-s", "train.eval_every=0", "-s", "train.checkpoint_every=5", "-s", "train.sample=8", "-s", "data.valid_windows=4"]
    command("train", "train/ci_gpt", "--backend", "cpu", "-o", str(begun), "-s", "train.steps=5", *short)
    command("train", "--resume", str(begun), "--backend", "cuda", "-s", "train.steps=10")
    gpu, cpu = (command("eval", str(begun), "--backend", place, "--json") for place in ("cuda", "cpu"))
    assert gpu == cpu
    texts = {command("generate", str(begun), "-n", "8", "--backend", place) for place in ("cuda", "cpu")}
    assert len(texts) == 1
    command("train", "train/ci_gpt", "-o", str(tmp_path / "auto"), "-s", "train.steps=2", *short)
    assert Run(tmp_path / "auto").env["backend"] == "cuda"


def test_the_default_run(tmp_path) -> None:
    """The wall time of `lpref train --backend cuda`: two runs, nvfp4 and bf16."""
    started = time.perf_counter()
    shown = command("train", "--backend", "cuda", "-o", str(tmp_path / "default"))
    print(f"\nlpref train --backend cuda: {time.perf_counter() - started:.1f} s\n{shown}")


def test_more_than_the_memory_is_refused() -> None:
    with pytest.raises(SpecError, match="the GPU has"):
        prepared("cuda", "fp32", f"train.batch={2**24}", f"train.micro_batches={2**3}")


def test_what_has_no_kernel_is_refused_or_left_to_the_cpu() -> None:
    changed = {"base": "mxfp8", "set": {"linear.fprop.a.quantizer": "ternary_twn"}}
    odd = replace(load_spec("train/ci_gpt"), recipe=changed)
    with pytest.raises(BackendError, match="scale rule twn"):
        prepare(replace(odd, backend="cuda"), data=data())
    left = prepare(odd, data=data())
    assert left.backend.name == "cpu"
    assert "scale rule twn" in left.describe()

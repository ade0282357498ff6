"""Block by block: the loss of a block's output, what is trained meanwhile, runs that start from another run, and the saliency of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lpref.autodiff import no_grad
from lpref.conformance.proves import proves
from lpref.models.hooks import saliency, weight_error
from lpref.models.residual import summed
from lpref.ref.errors import CheckpointError, SpecError
from lpref.ref.reduce import tree_mean
from lpref.specs import recipe
from lpref.trainer import setup
from lpref.trainer.api import resume_run, train
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.loop import start_state
from lpref.trainer.passes import step_of
from lpref.trainer.spec import load_spec

DATA = load_data("stdlib")
SMALL = {
    "model.layers": 2, "model.context": 16, "data.valid_windows": 2, "train.batch": 2, "train.micro_batches": 1, "train.steps": 8, "backend": "cpu",
    "numerics": "exact", "train.stats_every": 0, "train.sample": 0,
}  # fmt: skip


def prepared(recipe_spec, **more):
    return setup.prepare(load_spec("train/ci_gpt", {**SMALL, "recipe": recipe_spec, **more}), data=DATA)


def batch_of(made, step: int):
    return train_batch(DATA, made.length, 2, 1, step, 0, 2)


@pytest.mark.parametrize("block", [0, 1])
@proves("recipe:efficientqat_block_ap", "oracle")
def test_the_loss_of_a_block_is_its_squared_error_behind_quantized_blocks(block: int) -> None:
    """mean (f_i(z) - f_i0(z_i0))^2, written out: the first blocks in float32 from the start, the quantized ones from their own outputs."""
    made = prepared({"base": "efficientqat", "loss_hooks": [{"kind": "block_output", "parameters": {"block": block}}]})
    state, model = start_state(made), made.model
    state, _ = step_of(made, state, [batch_of(made, 0)], False)  # the weights are not the first ones any more
    ctx, batch = made.context_of(state, collect=False)(0), batch_of(made, 1)
    loss = model.training_loss(batch, ctx)
    loss.backward()
    now, recipes = model.params, model.recipes
    with no_grad():
        model.params, model.recipes = {**now, **{n: type(now[n])(a, made.backend) for n, a in model.first.items()}}, None
        z0, plain = model.stream(batch.inputs, ctx)
        for i in range(block + 1):
            z0 = plain(i, z0)
        model.params, model.recipes = now, recipes
        z, quantized = model.stream(batch.inputs, ctx)
        for i in range(block + 1):
            z = quantized(i, z)
        error = (summed(z).data - summed(z0).data).reshape(-1)
    np.testing.assert_array_equal(np.float32(loss.item()), tree_mean(error * error))
    reached = {name for name, t in model.params.items() if t.grad is not None and np.any(t.grad)}
    assert reached
    assert all(name.startswith(f"h.{block}.") for name in reached)
    assert {name for name, rate in model.rates().items() if rate == 0} == {n for n in model.params if not n.startswith(f"h.{block}.")}


def test_phases_train_a_block_each_then_scales_alone() -> None:
    made = prepared("efficientqat_block_ap")
    state = start_state(made)
    for step in range(6):
        before = {name: a.copy() for name, a in made.model.arrays().items()}
        state, _ = step_of(made, state, [batch_of(made, step)], False)
        moved = {name for name, a in made.model.arrays().items() if (before[name] != a).any()}
        if step < 4:
            assert moved
            assert all(name.startswith(f"h.{step // 2}.") for name in moved)
            assert {n for n in moved if n.endswith("qkv.weight")}
        else:
            assert moved == {name for name in before if name.endswith(".w_step")}
    result = made.model.loss(batch_of(made, 6), made.context_of(state, collect=False)(0))
    assert float(result.item()) > 1  # evaluation is the labels' loss


def test_a_run_starts_from_another_and_resumes(tmp_path: Path) -> None:
    """The first weights are those of the other run, the teacher too; a resumed run ends in the bits of one that was not interrupted."""
    first = train(load_spec("train/ci_gpt", {**SMALL, "recipe": "fp32", "train.steps": 4}), out=tmp_path / "float", quiet=True, data=DATA)
    spec = load_spec("train/ci_gpt", {**SMALL, "recipe": "efficientqat_block_ap", "train.start": str(first.path), "train.checkpoint_every": 3})
    made = setup.prepare(spec, data=DATA)
    from lpref.trainer.checkpoint import newest

    trained = newest(first.path / "checkpoints")[0]
    assert trained is not None
    for name, a in trained.params.items():
        np.testing.assert_array_equal(made.model.arrays()[name], a)
        np.testing.assert_array_equal(made.model.first[name], a)
    whole = train(spec, out=tmp_path / "whole", quiet=True, data=DATA)
    for path in sorted((whole.path / "checkpoints").iterdir())[1:]:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    resumed = resume_run(whole.path, quiet=True, data=DATA)
    again = train(spec, out=tmp_path / "again", quiet=True, data=DATA)
    one, other = (newest(run.path / "checkpoints")[0] for run in (resumed, again))
    assert one is not None
    assert other is not None
    for name, a in other.params.items():
        np.testing.assert_array_equal(one.params[name], a)


def test_what_a_run_cannot_start_from(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"train\.start"):
        prepared("fp32", **{"train.start": str(tmp_path)})
    made = prepared({"base": "fp32", "loss_hooks": [{"kind": "block_output", "parameters": {"block": 2}}]})
    context = made.context_of(start_state(made), collect=False)
    with pytest.raises(SpecError, match="block_output of block 2, the gpt model has 2 blocks"):
        made.model.training_loss(batch_of(made, 0), context(0))
    with pytest.raises(SpecError, match=r"controllers\.0\.hook: loss_hooks\.0 is no block_output"):
        recipe({"base": "fp32", "controllers": [{"kind": "block_wise"}]})
    with pytest.raises(SpecError, match="each replace the labels' loss"):
        recipe({"base": "fp32", "loss_hooks": [{"kind": "distill"}, {"kind": "block_output"}]})


@pytest.mark.parametrize("kind", ["absolute", "squared"])
def test_saliency_weighs_the_error_of_weights(kind: str) -> None:
    """S = |g| / mean |g| or g^2 / mean g^2 of the float32 loss; the term is the sum of mean S (W - Q(W))^2."""
    made = prepared({"base": "apiq_sapr", "loss_hooks": [{"kind": "weight_error", "parameters": {"saliency": kind}}], "controllers": []})
    model, ctx = made.model, made.context_of(start_state(made), collect=False)(0)
    plain = prepared("fp32")
    plain.model.set_arrays({name: model.arrays()[name] for name in plain.model.params})
    plain.model.loss(batch_of(made, 0), plain.context_of(start_state(plain), collect=False)(0)).backward()
    assert set(model.saliency) == {site for site, linear in model.recipes.items() if linear.fprop.b.quantizer is not None}
    total = np.float32(0)
    for site, s in model.saliency.items():
        g = plain.model.params[f"{site}.weight"].grad
        size = np.abs(g) if kind == "absolute" else g * g
        np.testing.assert_array_equal(s, size / tree_mean(size.reshape(-1)))
        error = model.params[f"{site}.weight"].data - model.quantized_weight(site, ctx).data
        total = total + tree_mean((error * error * s).reshape(-1))
    np.testing.assert_array_equal(np.float32(weight_error(model, ctx).item()), total)
    assert saliency(prepared("lsq").model, batch_of(made, 0), ctx) == {}

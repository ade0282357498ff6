"""The torch peer is the same model: equal losses and gradients from the same weights."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lpref.cli.bench import PEERS  # noqa: E402
from lpref.models.gpt import GPT, GPTConfig  # noqa: E402
from lpref.ref.errors import SpecError  # noqa: E402
from lpref.ref.recipes import Context  # noqa: E402
from lpref.trainer.bench import torch_gpt, torch_steps  # noqa: E402
from lpref.trainer.data.batches import Batch  # noqa: E402
from lpref.trainer.setup import prepare  # noqa: E402
from lpref.trainer.spec import load_spec  # noqa: E402

pytestmark = pytest.mark.peer
SMALL = {"model.layers": 2, "model.d_model": 48, "model.heads": 4, "model.ffn": 64, "model.context": 16, "model.vocab": 256, "train.batch": 3}


@pytest.mark.parametrize("name", ["bench/micro", "bench/gpt2_163m"])
def test_the_same_function(name: str) -> None:
    spec = load_spec(name, {**SMALL, "backend": "cpu", "recipe": "fp32", "numerics": "exact", "model.init_std": 0.1})
    run = prepare(spec)
    config = GPTConfig(**{key: value for key, value in spec.model.items() if key != "kind"})
    peer = torch_gpt.GPT(config)
    peer.load(run.model.arrays())
    tokens = np.random.default_rng(1).integers(0, 256, (3, 17))
    loss = run.model.loss(Batch(tokens[:, :-1], tokens[:, 1:]), Context(seed=1, step=1))
    theirs = peer(torch.from_numpy(tokens[:, :-1].copy()), torch.from_numpy(tokens[:, 1:].copy()))
    loss.backward()
    theirs.backward()
    # both are sums of some ten thousand float32 terms in different orders; a model that differed in a norm or an angle is off by percents
    assert float(loss.item()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    for name, gradient in run.model.grads().items():
        wanted = peer.get_parameter(name).grad.numpy()
        assert np.abs(gradient - wanted).max() <= 1e-4 * np.abs(wanted).max(), name


def test_a_step_on_the_cpu_learns() -> None:
    spec = load_spec("bench/micro", SMALL)
    step = torch_steps.Step(spec, place="cpu")
    losses = []
    for _ in range(9):
        step.run()
        losses.append(step.loss())
    assert losses[8] < losses[0]  # the ninth step sees the first tokens again
    assert torch_steps.WAYS == tuple(way for way in PEERS if not way.startswith("jax"))


def test_what_it_does_not_have() -> None:
    with pytest.raises(SpecError, match="untied"):
        torch_gpt.GPT(GPTConfig(tied=True))
    assert GPT.kind == "gpt"

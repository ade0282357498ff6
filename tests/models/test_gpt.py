"""GPT: size, causality, shorter contexts, tied head, number of tape nodes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lpref.accel import backend
from lpref.autodiff import Tensor
from lpref.models.gpt import GPT, GPTConfig, default_config
from lpref.ref.backend import Backend
from lpref.ref.recipes import Context

SMALL = GPTConfig(vocab=11, context=8, layers=2, d_model=8, heads=2, ffn=12)
rng = np.random.default_rng(0)


def nodes(out: Tensor) -> int:
    """Recorded operations behind a tensor, leaves not counted."""
    seen, open_ = set(), [out.node]
    while open_:
        node = open_.pop()
        if node is not None and node not in seen:
            seen.add(node)
            open_.extend(node.parents)
    return sum(node.op is not None for node in seen)


def test_default_has_869504_parameters() -> None:
    shapes = GPT.shapes(default_config())
    assert sum(int(np.prod(s)) for s in shapes.values()) == 869_504
    layer = 3 * 128 * 128 + 128 * 128 + 2 * 352 * 128 + 352 * 128 + 2 * 128
    assert sum(int(np.prod(s)) for s in shapes.values()) == 2 * 256 * 128 + 4 * layer + 128


def test_the_default_step_is_a_short_tape(ops: Backend, ctx: Context) -> None:
    model = GPT(default_config(), None, 0, ops)
    ids = rng.integers(0, 256, (1, 9))
    loss = model.loss(SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:]), ctx)
    assert nodes(loss) == 5 + 4 * 10


@pytest.fixture(scope="module")
def exact() -> Backend:
    """Sums in the defined order: a zero more at the end changes no bit."""
    return backend("reference", numerics="exact")


@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_no_logit_sees_a_later_token(positions: str, exact: Backend, ctx: Context) -> None:
    cfg = GPTConfig(vocab=11, context=8, layers=2, d_model=8, heads=2, ffn=12, positions=positions)
    model = GPT(cfg, None, 0, exact)
    ids = rng.integers(0, 11, (2, 8))
    before = model.logits(ids, ctx).data
    for t in range(8):
        changed = ids.copy()
        changed[:, t] = (changed[:, t] + 1) % 11
        after = model.logits(changed, ctx).data
        assert np.array_equal(after[:, :t], before[:, :t])
        assert (after[:, t] != before[:, t]).any()


def test_shorter_contexts_are_prefixes(exact: Backend, ctx: Context) -> None:
    model = GPT(SMALL, None, 0, exact)
    ids = rng.integers(0, 11, (2, 8))
    whole = model.logits(ids, ctx).data
    for t in (1, 3, 7):
        assert np.array_equal(model.logits(ids[:, :t], ctx).data, whole[:, :t])


def test_tied_head_adds_both_gradients(ops: Backend, ctx: Context) -> None:
    """d/dW of the tied model = d/dW of the embedding + d/dW of the head of the untied model with the same values."""
    tied, untied = (GPT(GPTConfig(vocab=11, context=8, layers=1, d_model=8, heads=2, ffn=12, tied=t), None, 0, ops) for t in (True, False))
    arrays = {n: a.astype(np.float64) for n, a in tied.arrays().items()}
    tied.set_arrays(arrays)
    untied.set_arrays(arrays | {"head.weight": arrays["wte.weight"]})
    ids = rng.integers(0, 11, (3, 9))
    for model in (tied, untied):
        model.loss(SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:]), ctx).backward()
    both = untied.grads()["wte.weight"] + untied.grads()["head.weight"]
    assert np.array_equal(tied.grads()["wte.weight"], both)
    assert tied.num_params() == untied.num_params() - 11 * 8


def test_initial_loss_is_that_of_guessing(ops: Backend, ctx: Context) -> None:
    """Logits of a fresh model have variance d std^2 = 0.46 at most: the loss is within half of it of log(256)."""
    model = GPT(default_config(), None, 1, ops)
    ids = rng.integers(0, 256, (2, 33))
    loss = float(model.loss(SimpleNamespace(inputs=ids[:, :-1], targets=ids[:, 1:]), ctx))
    assert abs(loss - np.log(256)) < 0.5


def test_first_weights_are_recorded(ops: Backend) -> None:
    """Every platform must draw these."""
    w = GPT(default_config(), None, 1, ops).params["h.0.attn.qkv.weight"].data
    assert [float(x).hex() for x in w[0, :3]] == FIRST


FIRST = ["0x1.0255020000000p-5", "-0x1.53034e0000000p-4", "0x1.3e97f00000000p-9"]

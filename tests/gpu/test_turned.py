"""Codes along both axes from one read (kernels/turned.cu), in products and layers: the bits of codes that are turned afterwards."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import cupy as cp
import ml_dtypes
import numpy as np
import pytest
from device_cases import hard, same, wide

from lpref.accel.cuda import activation, arrays, fp8, loss, noted
from lpref.accel.cuda.backend import CudaBackend
from lpref.accel.cuda.operand import operand
from lpref.accel.cuda.quantize import quantize
from lpref.accel.cuda.unmade import NAME
from lpref.ref import quantize as ref
from lpref.ref.quantize import lookup
from lpref.ref.random import WordAddress
from lpref.ref.recipes import Context, linear_backward, linear_forward
from lpref.specs import recipe
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.device_step import DeviceStep
from lpref.trainer.loop import start_state
from lpref.trainer.setup import prepare
from lpref.trainer.spec import load_spec

WORDS = WordAddress(2**40 + 5, 9, "h.0.mlp.up/dgrad/a/round", start=64)
NAMES = [
    "fp8_tensor", "fp8_tensor:rounding=stochastic", "fp8_tensor:format=e5m2", "fp8_tensor:format=e5m2:rounding=stochastic", "int8_tensor",
    "fp8_tensor:history=delayed:window=16", "fp8_tensor:history=delayed:window=16:rounding=stochastic",
]  # fmt: skip


@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("name", NAMES)
def test_codes_along_both_axes(name: str, kind: Any, rough: bool) -> None:
    q, states = lookup(name), [{"scale": np.float32(s)} for s in ((3.7, 2.0**40) if "delayed" in name else (1,))]
    for rows, columns in ((16, 16), (16, 144), (272, 176), (3344, 1040)):
        x = hard(rows, columns, kind) if rough else wide(rows, columns).astype(kind)
        x = x if rough or np.issubdtype(kind, np.float32) else np.where(np.isfinite(x.astype(np.float32)), x, np.zeros((), kind)).astype(kind)
        for state in states:
            made, alone = (quantize(cp.asarray(x), q, words=WORDS, state=state, both=both) for both in (True, False))
            if rows < 1000:
                same(made.host(), ref.quantize(x, q, words=WORDS, state=state))
            same(made.host(), alone.host())
            assert alone.turned is None
            np.testing.assert_array_equal(made.turned.get(), alone.codes.get().T)


@pytest.mark.parametrize("more", [":history=delayed:window=16", ":history=delayed:window=16:rounding=stochastic", "", ":rounding=stochastic"])
def test_codes_of_what_is_not_written(more: str) -> None:
    q, scale = lookup(f"fp8_tensor:format=e5m2{more}"), cp.asarray([3e5], np.float32)
    with noted.noting(not more.startswith(":history")):
        _codes_of_what_is_not_written(q, scale)


def _codes_of_what_is_not_written(q: Any, scale: Any) -> None:
    for rows, columns in ((16, 16), (272, 176), (2064, 50304)):
        logits = arrays.short(cp.random.default_rng(1).standard_normal((rows, columns), dtype=np.float32))
        targets = np.arange(rows) * 7 % columns
        _, probs = loss.softmax_cross_entropy(logits, targets, near=True)
        for g in (
            loss.softmax_cross_entropy_backward(np.float32(1024), probs, targets, store=NAME), activation.gelu(logits, store=NAME, near=True),
        ):  # fmt: skip
            made, wanted = (operand(x, q, k_axis=1, words=WORDS, state={"scale": scale}, both=True) for x in (g, g.array()))
            assert bool((made.codes == wanted.codes).all())
            assert bool((made.turned == wanted.turned).all())
            assert dict(made.observed) == dict(wanted.observed)


def test_gelu_is_bounded_as_its_amax_assumes() -> None:
    """All of bfloat16, so that what gelu_tanh_peak leaves out is smaller than what it has seen; and its amax of parts of them."""
    x = cp.arange(1 << 16, dtype=np.uint16).reshape(256, 256).view(arrays.SIXTEEN)
    numbers, y = arrays.wide(x).get(), activation.gelu(x, near=True).get()
    finite = np.isfinite(numbers)
    assert (np.abs(y) <= np.where(numbers < 0, np.float32(0.18), np.abs(numbers)))[finite].all()
    for part in (*(x[i : i + 1] for i in range(0, 256, 5)), x[:1], x[60:64], x[128:200], x[128:], x):
        top = int(activation.gelu(part, store=NAME, near=True).peak().get()[0])
        wanted = int(np.abs(activation.gelu(part, near=True).get()).view(np.uint32).max())
        assert top == wanted or min(top, wanted) > 0x7F800000


def batches(run: Any, step: int) -> list[Any]:
    s = run.spec.train
    size = s.batch // s.micro_batches
    return [train_batch(run.data, run.length, s.batch, s.seed, step, i * size, size) for i in range(s.micro_batches)]


GELU = ("model={kind: gpt, layers: 2, d_model: 64, heads: 2, ffn: 256, context: 64, vocab: 256, norm: layernorm, activation: gelu, "
        "positions: learned, bias: true, tied: true}")  # fmt: skip


@pytest.mark.parametrize("model", [(), (GELU,)])
@pytest.mark.parametrize("name", ["fp8_current", "fp8_delayed"])
def test_training_with_codes_along_both_axes_and_without(name: str, model: tuple[str, ...]) -> None:
    """The same weights where nothing is made for both products at once, and every array is written."""
    found = []
    for both in (True, False):
        changes = ["backend=cuda", "numerics=fast", f"recipe={name}", "train.micro_batches=2", *model]
        run = prepare(load_spec("train/ci_gpt", changes), data=load_data("stdlib"))
        run.backend.arrays = replace(run.backend.arrays, both=both, unmade=both)
        by, state = DeviceStep(run), start_state(run)
        while state.step < 6:
            state = by.steps(state, 2, partial(batches, run))[-1][0]
        found.append({key: cp.asnumpy(a) for key, a in run.model.arrays().items()})
    for key, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][key], key)


@pytest.mark.parametrize("name", ["fp8_current", "fp8_delayed"])
def test_layers(name: str) -> None:
    """A layer with codes along both axes, and without: the same products, and nothing is turned."""
    rng, (M, N, K) = np.random.default_rng(7), (528, 272, 144)
    x, w, dy = (cp.asarray(rng.standard_normal(shape, np.float32)) for shape in ((M, K), (N, K), (M, N)))
    linear, with_both = recipe(name).linear, CudaBackend("fast")
    without = CudaBackend("fast")
    without.arrays = replace(without.arrays, both=False)
    turned, results = [], []
    plain = fp8.along_k
    state = {f"l/{path}": {"scale": np.float32(3), "history": np.zeros(4, np.float32)} for path in ("fprop/a", "fprop/b", "dgrad/a")}

    def watched(side: Any) -> Any:
        turned.append(not side.k_axis % 2 and side.codes.flags.c_contiguous)
        return plain(side)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fp8, "along_k", watched)
        for ops in (with_both, without):
            ctx = Context(1, 2, 3, site="l", state=state)
            y, saved = linear_forward(x, w, linear, ctx, ops)
            grads = linear_backward(dy, saved, linear, ctx, ops)
            results.append([ops.arrays.host(a) for a in (y, grads.dx, grads.dw)])
    assert sum(turned[: len(turned) // 2]) == 0
    assert sum(turned) == 3
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)

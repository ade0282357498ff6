"""Copies of weights in bfloat16, without a GPU (host_gpu): the bits of the casts, for whom they serve, and when they are made anew."""

from __future__ import annotations

from collections.abc import Iterator

import host_gpu
import ml_dtypes
import numpy as np
import pytest
from kernel_draw import Draw

from lpref.accel.cuda import copies, feed, operand, update
from lpref.accel.cuda.copies import Copies
from lpref.ref.optim.optimizer import optimizer
from lpref.ref.quantize import lookup
from lpref.ref.quantize import quantize as definition


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host")):
        yield


def wild(*shape: int) -> np.ndarray:
    """Patterns of every kind: subnormal, infinite, NaN, beyond the largest bfloat16."""
    x = np.random.default_rng(3).integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)
    x.reshape(-1)[:4] = np.float32([3.4e38, -3.4e38, np.inf, -0.0])[: x.size]
    return x


def cast(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(definition(x, lookup("bf16"), k_axis=1).codes)


SHAPES = ((1, 1), (3, 5), (8, 16), (33, 31), (64, 4096))


def test_one_launch_makes_the_casts_of_many() -> None:
    weights = [host_gpu.put(wild(*shape)) for shape in SHAPES]
    made = Copies(weights)
    made.renew()  # nothing yet
    with made.reading():
        held = [copies.of(w) for w in weights]
    for round_ in range(2):
        for w, copy in zip(weights, held, strict=True):
            np.testing.assert_array_equal(copy.view(np.uint16).get(), cast(w.get()))
            w[...] = wild(*w.shape)[::-1] if round_ else wild(*w.shape).T.reshape(w.shape)
        made.renew()
    with made.reading():
        assert all(copies.of(w).data.ptr == copy.data.ptr for w, copy in zip(weights, held, strict=True))


def test_for_whom_a_copy_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    w = host_gpu.put(Draw(1)(8, 16))
    made = Copies([w, host_gpu.put(np.zeros((0, 4), np.float32))])
    assert copies.of(w) is None
    with made.reading():
        assert copies.of(host_gpu.put(w.get())) is None
        assert copies.of(w[:4]) is None
        assert copies.of(w.T) is None
        with monkeypatch.context() as patch:
            patch.setattr(feed, "capturing", lambda: True)
            assert copies.of(w) is None
        assert not made.made
        assert copies.of(w.reshape(4, 32)).shape == (4, 32)
        assert copies.of(w).dtype == ml_dtypes.bfloat16
    assert copies.of(w) is None


def test_operands() -> None:
    w = host_gpu.put(Draw(1)(8, 16))
    made = Copies([w])
    with made.reading():
        for k_axis in (0, 1):
            got = operand.operand(w, lookup("bf16"), k_axis=k_axis, numbers=True)
            assert got.codes.ctypes.data == made.made[w.data.ptr].ctypes.data
            assert not got.observed
            want = definition(w.get(), lookup("bf16"), k_axis=k_axis)
            np.testing.assert_array_equal(got.host().dequantize(), want.dequantize())
        assert operand.rounded(w, "bfloat16", store="bfloat16").ctypes.data == made.made[w.data.ptr].ctypes.data
        assert operand.rounded(w, "bfloat16").dtype == np.float32
        plain = [operand.operand(w, lookup("bf16"), k_axis=1), operand.operand(w, lookup("bf16"), k_axis=1, numbers=True, collect=True)]
        for name in ("bf16:rounding=stochastic", "bf16:rounding=toward_zero", "fp16"):
            words = np.zeros((8, 16), np.uint32) if "stochastic" in name else None
            plain.append(operand.operand(w, lookup(name), k_axis=1, numbers=True, words=words))
        for got in plain:
            assert got.codes.ctypes.data != made.made[w.data.ptr].ctypes.data
            assert got.observed["count"] == 8 * 16


@pytest.mark.parametrize("kind", ["adamw", "sgd", "lion"])
@pytest.mark.parametrize("applied", [1, 0])
def test_the_update_writes_both_or_neither(kind: str, applied: int) -> None:
    chosen, draw = optimizer(kind, roles={}, weights={}), Draw(2)
    params = {str(i): host_gpu.put(draw(*shape)) for i, shape in enumerate(SHAPES)}
    grads = {name: host_gpu.put(draw(*p.shape)) for name, p in params.items()}
    moments = {f"{name}/{role.name}": host_gpu.put(np.zeros(p.shape, np.float32)) for name, p in params.items() for role in chosen.rule.states()}
    before, made = {name: p.get() for name, p in params.items()}, Copies(params.values())
    with made.reading():
        for name in ("0", "1", "3", "4"):
            copies.of(params[name])
    rules = host_gpu.put(update.coefficients(chosen.rule, 1, 0.5))
    verdict = host_gpu.put(np.array([applied, 1, 0, 0, 0, np.float32(1).view(np.uint32)], np.uint32))
    update.update(chosen, params, grads, moments, rules, host_gpu.put(np.ones(1, np.float32)), verdict, made.made)
    for name, p in params.items():
        assert np.array_equal(p.get(), before[name]) == (not applied)
        if p.data.ptr in made.made:
            np.testing.assert_array_equal(made.made[p.data.ptr].view(np.uint16).get(), cast(p.get()))
    assert len(made.made) == 4

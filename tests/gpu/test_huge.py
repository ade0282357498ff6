"""More than 2^31 elements: every family of kernels at an index that 32 bits do not hold, against the definition on slices of its output.

The input repeats 1021 rows of random numbers, so that an index that wrapped would read another row; what is free in the pool holds 0xFF, so that an
element that nobody wrote is seen. Sums over everything are of sparse powers of two, whose sum is exact in any order. About 100 GB of the device
are needed at most; on a smaller one these tests are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

import cupy as cp
import numpy as np
import pytest
from kernel_check import cuda_place
from kernel_draw import Draw

import lpref
from lpref.accel.cuda.loss import Softmax
from lpref.ref.contracts import Bits
from lpref.ref.optim import adamw_coefficients
from lpref.ref.quantize import quantize
from lpref.ref.random import WordAddress

CPU, CUDA = lpref.backend("cpu", "exact"), lpref.backend("cuda", "exact")
COLUMNS, PERIOD = 1024, 1021
ROWS = 2**21 + 128
EDGES = (0, 2**20, 2**21, ROWS - 2)
"""Rows at elements 0, 2^30 and 2^31, and the last."""
GIB = 2**30

pytestmark = pytest.mark.skipif(cp.cuda.Device().mem_info[1] < 110 * GIB, reason="needs a device of 110 GiB")


@pytest.fixture(scope="module")
def base() -> np.ndarray:
    return Draw(31)(PERIOD, COLUMNS)


@pytest.fixture(scope="module")
def x(base: np.ndarray) -> Iterator[cp.ndarray]:
    cp.get_default_memory_pool().free_all_blocks()
    made, once = cp.empty((ROWS, COLUMNS), np.float32), cp.asarray(base)
    for start in range(0, ROWS, PERIOD):
        made[start : start + PERIOD] = once[: ROWS - start]
    yield made
    del made
    cp.get_default_memory_pool().free_all_blocks()


@pytest.fixture(autouse=True)
def poisoned(x: cp.ndarray) -> Iterator[None]:
    """What a test allocates held 0xFF before."""
    cp.get_default_memory_pool().free_all_blocks()
    held = [cp.empty(size, np.uint8) for size in (x.nbytes, x.nbytes // 4)]
    for one in held:
        one.fill(0xFF)
    del held
    yield
    cp.get_default_memory_pool().free_all_blocks()


def near(rows: int = 2) -> Iterator[slice]:
    """Rows before and behind each edge."""
    for edge in EDGES:
        yield slice(max(edge - rows, 0), min(edge + rows, ROWS))


def rows_of(base: np.ndarray, where: slice) -> np.ndarray:
    """The rows of `x` there."""
    return base[np.arange(where.start, where.stop) % PERIOD]


def same(expected: object, actual: object) -> None:
    assert Bits().mismatch(expected, cuda_place().here(actual), (), {}) is None


@pytest.mark.parametrize("op", ["exp", "add", "greater", "silu", "where"])
def test_elementwise(op: str, x: cp.ndarray, base: np.ndarray) -> None:
    inputs = {"add": (x, x), "greater": (x, np.float32(0)), "where": (x > 0, x, np.float32(0))}.get(op, (x,))
    found = getattr(CUDA, op)(*inputs)
    for where in near():
        there = tuple(a[where].get() if isinstance(a, cp.ndarray) else a for a in inputs)
        same(getattr(CPU, op)(*there), found[where])


@pytest.mark.parametrize("name", ["e4m3", "bfloat16", "e3m2"])
def test_cast(name: str, x: cp.ndarray, base: np.ndarray) -> None:
    found = CUDA.cast(x, name)
    for where in near():
        same(CPU.cast(rows_of(base, where), name), found[where])


BLOCKS = ("mxfp8_e4m3", "mxfp4", "nvfp4", "fp8_tile1x128", "int8_row", "fp8_tensor", "fp8_block128", "nvfp4_2d", "nf4")
STOCHASTIC = ("mxfp8_e4m3", "nvfp4", "fp8_row")


@pytest.mark.parametrize("name", [*BLOCKS, *(f"{name}:rounding=stochastic" for name in STOCHASTIC)])
def test_quantize(name: str, x: cp.ndarray, base: np.ndarray) -> None:
    words = (5, 7, "huge") if "stochastic" in name else None
    found = CUDA.quantize(x, name, words=words and WordAddress(*words), k_axis=1)
    whole = found.quantizer.scale.rule == "nvfp4" or found.scales[0].size == 1
    amax = CPU.amax(base) if whole else None
    for edge in EDGES[:3]:
        where = slice(edge, edge + 128)  # whole blocks of every quantizer
        there = words and WordAddress(*words, start=edge * COLUMNS)
        part = quantize(rows_of(base, where), name, amax=amax, words=there, k_axis=1)
        same(part.codes, found.codes[where])
        if found.scales[0].shape[0] > 1:
            at = edge // found.block[0]
            same(part.scales[0], found.scales[0][at : at + part.scales[0].shape[0]])
    values = found.dequantize(np.float32)
    same(part.dequantize(np.float32), values[where])


def test_rows_of_norms(x: cp.ndarray, base: np.ndarray) -> None:
    w, b = Draw(1)(COLUMNS), Draw(2)(COLUMNS)
    y, rstd = CUDA.rmsnorm(x, cp.asarray(w), 1e-5)
    for where in near():
        same(CPU.rmsnorm(rows_of(base, where), w, 1e-5), (y[where], rstd[where]))
    del y
    found = CUDA.layernorm(x, cp.asarray(w), cp.asarray(b), 1e-5)
    for where in near():
        same(CPU.layernorm(rows_of(base, where), w, b, 1e-5), tuple(part[where] for part in found))


def test_backward_of_a_norm(x: cp.ndarray, base: np.ndarray) -> None:
    """dy is zero but for one row behind 2^31, which alone makes dw."""
    w = Draw(1)(COLUMNS)
    rstd = cp.full(ROWS, 0.5, np.float32)
    dy = cp.zeros_like(x)
    dy[2**21 + 1] = x[3]
    dx, dw = CUDA.rmsnorm_backward(dy, x, cp.asarray(w), rstd)
    where = slice(2**21, 2**21 + 2)
    expected = CPU.rmsnorm_backward(dy[where].get(), rows_of(base, where), w, np.full(2, 0.5, np.float32))
    same(expected[0], dx[where])
    np.testing.assert_array_equal(expected[1], dw.get())


def test_sums_of_rows_and_columns(x: cp.ndarray, base: np.ndarray) -> None:
    found = CUDA.tree_sum(x, -1)
    for where in near():
        same(CPU.tree_sum(rows_of(base, where), -1), found[where])
    few = np.ascontiguousarray(rows_of(base[:, -2:], slice(0, ROWS)))
    same(CPU.tree_sum(few, 0), CUDA.tree_sum(x, 0)[-2:])


def test_sums_of_everything() -> None:
    at = (0, 2**30 + 5, 2**31 - 1, 2**31, 2**31 + 77, ROWS * COLUMNS - 1)
    z = cp.zeros(ROWS * COLUMNS, np.float32)
    for power, i in enumerate(at):
        z[i] = 2.0**power
    assert float(CUDA.tree_sum(z, None)) == 2.0 ** len(at) - 1
    assert float(CUDA.amax(z)) == 2.0 ** (len(at) - 1)
    assert float(CUDA.global_norm([z])) == np.float32(np.sqrt(np.float64(sum(4.0**power for power in range(len(at))))))
    assert bool(CUDA.all_finite([z]))
    z[at[-1]] = np.nan
    assert not bool(CUDA.all_finite([z]))


def rows_in(probs: Softmax, where: slice) -> cp.ndarray:
    """The probabilities of these rows."""
    return Softmax(probs.logits[where], probs.tops[where], probs.sums[where]).array()


def test_cross_entropy(x: cp.ndarray, base: np.ndarray) -> None:
    """The mean over rows that repeat is that of their losses, in order."""
    targets = np.arange(ROWS) * 7 % COLUMNS
    loss, probs = CUDA.softmax_cross_entropy(x, targets)
    z = base - np.max(base, axis=1, keepdims=True)
    sums = CPU.log(CPU.tree_sum(CPU.exp(z), -1))
    every = np.arange(ROWS)
    same(np.asarray(CPU.tree_mean(sums[every % PERIOD] - z[every % PERIOD, targets], 0)), loss)
    for where in near():
        same(CPU.softmax_cross_entropy(rows_of(base, where), targets[where])[1], rows_in(probs, where))
    found = CUDA.softmax_cross_entropy_backward(0.5, probs, targets)
    for where in near():
        part = rows_in(probs, where).get()
        part[np.arange(len(part)), targets[where]] -= np.float32(1)
        same(part * (np.float32(0.5) / np.float32(ROWS)), found[where])


def test_tables(x: cp.ndarray, base: np.ndarray) -> None:
    ids = np.array([0, 2**20, 2**21 - 1, 2**21, 2**21 + 5, ROWS - 1, 2**21])
    same(base[ids % PERIOD], CUDA.embedding(x, ids))
    found = CUDA.embedding_backward(x[: len(ids)], ids, ROWS)
    few, place = np.unique(ids, return_inverse=True)
    same(CPU.embedding_backward(base[: len(ids)], place, len(few)), found[cp.asarray(few)])
    others = np.setdiff1d(np.arange(0, ROWS, 997), few)
    assert not found[cp.asarray(others)].any()


def test_optimizer(x: cp.ndarray, base: np.ndarray) -> None:
    p = x.reshape(-1)
    k = adamw_coefficients(3, 1e-3, 0.9, 0.99, 1e-8, 0.1, "before", "outside")
    found = CUDA.adamw_update(p, p, p, cp.abs(p), k)
    for where in near():
        one = rows_of(base, where).reshape(-1)
        span = slice(where.start * COLUMNS, where.stop * COLUMNS)
        same(CPU.adamw_update(one, one, one, np.abs(one), k), tuple(part[span] for part in found))

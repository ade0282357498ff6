"""The kernels for training without a GPU (host_gpu/): every case of every op, and sizes that take other ways through them."""

from __future__ import annotations

from collections.abc import Iterator

import host_gpu
import ml_dtypes
import numpy as np
import pytest
from kernel_check import Place, check, check_cases
from kernel_draw import Draw
from kernel_sizes import KERNELS, MORE

from lpref.accel.cuda import optim
from lpref.accel.cuda.backend import NATIVE as NATIVE_OPS
from lpref.accel.cuda.backend import NEAR, CudaBackend
from lpref.ref.contracts import Bits


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host")):
        yield Place(host_gpu.put, host_gpu.get)


@pytest.mark.parametrize("op", KERNELS)
def test_kernel_keeps_its_contract(place: Place, op: str) -> None:
    check(KERNELS[op], place)


@pytest.mark.parametrize("op", MORE)
def test_other_sizes(place: Place, op: str) -> None:
    check_cases(KERNELS[op], place, MORE[op](Draw(3)))


@pytest.mark.parametrize("op", NEAR)
def test_those_of_grade_fast_keep_their_bounds(place: Place, op: str) -> None:
    kernel = CudaBackend("fast").kernels[op]
    check(kernel, place)
    check_cases(kernel, place, MORE[op](Draw(3)) if op in MORE else ())


def test_squares_of_many(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel for more numbers than are made here."""
    monkeypatch.setattr(optim, "SMALL", 0)
    check_cases(KERNELS["global_norm"], place, [([Draw(3)(5000), Draw(4)(3), Draw(5)(300, 1000)],)])


NATIVE = sorted(set(MORE) & NATIVE_OPS)


@pytest.mark.parametrize("op", NATIVE)
def test_other_sizes_of_sixteen_bits(place: Place, op: str) -> None:
    """The bits that the op makes of float32 arrays of the same values."""
    for case in MORE[op](Draw(4)):
        narrow = [a.astype(ml_dtypes.bfloat16) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a for a in case]
        same = [a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype == ml_dtypes.bfloat16 else a for a in narrow]
        got, want = (KERNELS[op].function(*place.there(args)) for args in (narrow, same))
        assert Bits().mismatch(place.here(want), place.here(got), (), {}) is None, [getattr(a, "shape", a) for a in case]
        for first in range(len(narrow)):  # one of them float32
            mixed = KERNELS[op].function(*place.there([*narrow[:first], same[first], *narrow[first + 1 :]]))
            assert Bits().mismatch(place.here(want), place.here(mixed), (), {}) is None


def test_integers_are_compared(place: Place) -> None:
    ids = np.array([[3], [1]])
    assert (KERNELS["equal"].function(place.put(np.arange(4)), place.put(ids)) == (np.arange(4) == ids)).all()


def test_ids_and_targets_may_lie_on_the_host(place: Place) -> None:
    draw = Draw(5)
    table, dy, logits, ids = draw(9, 40), draw(70, 40), draw(70, 9), draw.source.integers(0, 9, 70)
    calls = (("embedding", (table, ids)), ("embedding_backward", (dy, ids, 9)), ("softmax_cross_entropy", (logits, ids)),
             ("softmax_cross_entropy_backward", (0.5, logits, ids)))  # fmt: skip
    for op, args in calls:
        kernel, there = KERNELS[op], [a if a is ids else place.there(a) for a in args]
        assert kernel.contract.mismatch(kernel.reference(*args), place.here(kernel.function(*there)), args, {}) is None, op


def test_the_gradient_takes_the_probabilities_that_forward_did_not_compute(place: Place) -> None:
    draw = Draw(6)
    for rows, n in ((70, 9), (3, 4100)):
        logits, targets = draw(rows, n) * np.float32(9), draw.source.integers(0, n, rows)
        forward, backward = KERNELS["softmax_cross_entropy"], KERNELS["softmax_cross_entropy_backward"]
        loss, probs = forward.function(place.put(logits), place.put(targets))
        expected = forward.reference(logits, targets)
        assert Bits().mismatch(expected, (place.here(loss), place.here(probs)), (), {}) is None
        there = backward.function(np.float32(0.7), probs, place.put(targets))
        assert Bits().mismatch(backward.reference(np.float32(0.7), expected[1], targets), place.here(there), (), {}) is None
        _, near = forward.function(place.put(logits), place.put(targets), near=True)
        there = backward.function(np.float32(0.7), near, place.put(targets))
        assert Bits().mismatch(backward.reference(np.float32(0.7), place.here(near), targets), place.here(there), (), {}) is None

"""The kernels for training without a GPU (host_gpu/): every case of every op, and sizes that take other ways through them."""

from __future__ import annotations

from collections.abc import Iterator

import host_gpu
import numpy as np
import pytest
from kernel_check import Place, check, check_cases
from kernel_draw import Draw
from kernel_sizes import KERNELS, MORE


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

"""The kernels for training without a GPU (host/): every case of every op, and sizes that take other ways through them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import host_gpu
import numpy as np
import pytest
from kernel_check import Place, check, check_cases
from kernel_draw import Draw

from lpref.accel.cuda import device
from lpref.accel.reference import reference_ops
from lpref.ref.backend import Bits, Kernel

PAGES = ("activation", "elementwise", "embedding", "hadamard", "image", "loss", "norm", "optim", "reduce", "rope")
DEFINITIONS = reference_ops("exact")
KERNELS = {
    op: Kernel(op, getattr(page, op), DEFINITIONS[op], Bits())
    for page in (import_module(f"lpref.accel.cuda.{name}") for name in PAGES)
    for op in DEFINITIONS
    if hasattr(page, op) and getattr(page, op).__module__ == page.__name__
}
LENGTHS = (0, 1, 2, 31, 32, 33, 64, 200, 511, 513, 3000, 5000, 9000)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "cupy", lambda: host_gpu.MODULE)
        patch.setattr(device, "function", host_gpu.Host(tmp_path_factory.mktemp("host")).function)
        patch.setattr(device, "processors", lambda: 2)
        yield Place(host_gpu.put, host_gpu.get)


@pytest.mark.parametrize("op", KERNELS)
def test_kernel_keeps_its_contract(place: Place, op: str) -> None:
    check(KERNELS[op], place)


def sums(draw: Draw) -> Iterator[tuple]:
    """Rows for every size of team, columns of a few and of many lane groups, axes apart, joined and out of order."""
    for n in LENGTHS:
        yield draw.wild(2, n), -1
        yield draw.wild(n, 5), 0
        yield draw.wild(2, n, 33), 1
    yield draw(3, 4, 5), (0, 1)
    yield draw(3, 4, 5), (1, 2), True
    yield draw(3, 4, 5).transpose(2, 1, 0), (1,)
    yield draw(3, 4, 5), (2, 0)
    yield draw(3, 4, 5), ()
    yield draw(), None
    yield -np.zeros((3, 4), np.float32), 0


def transforms(draw: Draw) -> Iterator[tuple]:
    """Runs shorter and longer than a tile, along the last axis and others, signs that repeat and that do not."""
    for size in (1, 2, 64, 1024, 4096, 8192, 16384):
        yield draw(3, size), size, 1, None
        yield draw(2 * size, 3), size, 0, np.sign(draw(2 * size))
        yield draw(2, size, 70 if size < 2000 else 2), size, 1, np.sign(draw(size))


def broadcasts(draw: Draw) -> Iterator[tuple]:
    x = draw.wild(4, 5, 6)
    for shape in ((6,), (5, 1), (4, 1, 1), (4, 1, 6), (5, 6), (1, 1, 1), ()):
        yield x, draw.wild(*shape)
        yield draw.wild(*shape), x
    yield draw(3, 1), draw(1, 7)
    yield draw(5, 4).T, draw(4, 5)
    yield np.float32(3), x


MORE: dict[str, Any] = {
    "tree_sum": sums, "tree_mean": sums, "hadamard": transforms, "hadamard_inverse": transforms, "sub": broadcasts,
    "where": lambda draw: ((np.asarray(draw(3, 1)) > 0, a, b) for a, b in ((draw(4), draw(3, 4)), (draw(3, 1), draw(2, 1, 4)))),
    "amax": lambda draw: iter([(draw.wild(3, 0, 4), 1), (draw.wild(300, 3), 0), (draw.wild(2, 70, 5), (0, 1), True), (draw(0),)]),
}  # fmt: skip


@pytest.mark.parametrize("op", MORE)
def test_other_sizes(place: Place, op: str) -> None:
    check_cases(KERNELS[op], place, MORE[op](Draw(3)))


def test_every_page_is_here() -> None:
    elsewhere = {"operand", "gemm", "gemms", "matmul", "quantize", "qdq", "cast"}
    assert set(DEFINITIONS) - set(KERNELS) == elsewhere | {op for op in DEFINITIONS if op.startswith("attention")}

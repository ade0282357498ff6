"""The cuda kernels that are no matrix products, and inputs for them whose sizes take other ways through them than `kernel_cases`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from kernel_draw import Draw

from lpref.accel.cuda.backend import CudaBackend

ELSEWHERE = {"operand", "gemm", "gemms", "matmul", "quantize", "qdq", "cast"}
KERNELS = {op: k for op, k in CudaBackend("exact").kernels.items() if op not in ELSEWHERE and not op.startswith("attention")}
LENGTHS = (0, 1, 2, 31, 32, 33, 64, 200, 511, 513, 3000, 5000, 9000)


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
    "tree_sum": sums, "tree_mean": sums, "hadamard": transforms, "hadamard_inverse": transforms, "sub": broadcasts, "greater": broadcasts,
    "where": lambda draw: ((np.asarray(draw(3, 1)) > 0, a, b) for a, b in ((draw(4), draw(3, 4)), (draw(3, 1), draw(2, 1, 4)))),
    "amax": lambda draw: iter([(draw.wild(3, 0, 4), 1), (draw.wild(300, 3), 0), (draw.wild(2, 70, 5), (0, 1), True), (draw(0),)]),
}  # fmt: skip

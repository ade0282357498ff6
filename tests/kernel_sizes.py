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
    yield draw(300, 6, 3), 0, True
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


def long_rows(draw: Draw) -> Iterator[tuple]:
    """Rows that a block reads by fours, within shared memory and beyond it, and lengths and values that it leaves to others."""
    for rows, n in ((3, 4096), (2, 5124), (3, 28100), (2, 4101)):
        for logits in (draw(rows, n) * np.float32(20), draw.wild(rows, n)):
            yield np.minimum(logits, 3e38), draw.source.integers(0, n, rows)
    for special in (np.inf, -np.inf, np.nan):
        logits = draw(2, 4100)
        logits[1, 4099] = special
        yield logits, np.array([4099, 0])
    yield np.full((2, 4096), -np.inf, np.float32), np.array([1, 2])
    yield draw(300, 200) - np.float32(100) * (draw(300, 200) > 1), draw.source.integers(0, 200, 300)


def gradients(draw: Draw) -> Iterator[tuple]:
    """dy and x, whole fours and not."""
    for n in (4, 1023, 2500):
        yield draw(3, n), draw.wild(3, n)


def rows_of_ids(draw: Draw) -> Iterator[tuple]:
    """Ids that come 31 to 33 times, often, once and never."""
    ids = np.repeat(np.arange(8), (31, 32, 33, 0, 1, 64, 1500, 2))
    for seed, n in enumerate((ids.size, 200)):
        chosen = np.random.default_rng(seed).permutation(ids)[:n]
        yield draw.wild(n, 70), chosen, 9
    yield draw(5000, 3), draw.source.integers(0, 4000, 5000), 4001


MORE: dict[str, Any] = {
    "softmax_cross_entropy": long_rows, "embedding_backward": rows_of_ids,
    "softmax_cross_entropy_backward": lambda draw: ((np.float32(0.3), *case) for case in long_rows(draw)),
    "gelu": lambda draw: ((x,) for _, x in gradients(draw)), "gelu_backward": gradients, "silu_backward": gradients,
    "swiglu": gradients, "swiglu_packed": lambda draw: ((draw.wild(30, 2 * n),) for n in (4, 6, 7, 128)),
    "swiglu_packed_backward": lambda draw: ((draw(30, n), draw.wild(30, 2 * n)) for n in (4, 6, 7, 128)),
    "global_norm": lambda draw: iter([([draw(5000), draw(3), draw(600000), draw(7, 9)],)]),
    "tree_sum": sums, "tree_mean": sums, "hadamard": transforms, "hadamard_inverse": transforms, "sub": broadcasts, "greater": broadcasts,
    "where": lambda draw: ((np.asarray(draw(3, 1)) > 0, a, b) for a, b in ((draw(4), draw(3, 4)), (draw(3, 1), draw(2, 1, 4)))),
    "amax": lambda draw: iter([(draw.wild(3, 0, 4), 1), (draw.wild(300, 3), 0), (draw.wild(2, 70, 5), (0, 1), True), (draw(0),)]),
}  # fmt: skip

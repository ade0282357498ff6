"""`lpref.ref.linalg.matmul` of CuPy arrays in grade exact, and the product kernel for whatever lies at regular strides.

An output is one chain of multiplications and additions, k ascending, so that a product has as much to do at once as it has outputs: the largest
tile of `TILES` is taken that still gives every multiprocessor one. Operands are read where they lie: transposed, sliced, broadcast, as heads of a
packed matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device
from lpref.ref.errors import ShapeError

TILES = {128: (8, 2), 64: (4, 2), 32: (2, 6)}
"""Outputs of a block along either axis -> outputs of a thread along either axis, blocks that a multiprocessor holds."""
DEPTH = 16
"""k of a step."""


@dataclass(frozen=True, eq=False)
class Strided:
    """Matrices [outer, k] in memory: element (i, k) of head h in batch b is `batch` b + `head` (h div group) + `outer` i + `inner` k numbers from the
    beginning of `array`."""

    array: Any
    outer: int
    inner: int
    batch: int = 0
    head: int = 0
    group: int = 1

    @property
    def along_k(self) -> int:
        """Whether k is what lies side by side."""
        return int(self.inner == 1 and self.outer != 1)


@dataclass(frozen=True, eq=False)
class Causal:
    """What a causal product leaves out (kernels/product.cu): part 1, 2 or 3, S - T, and whether it may, on the device."""

    part: int = 0
    shift: int = 0
    may: Any = 0


WHOLE = Causal()


def matmul(a: Any, b: Any) -> Any:
    """[..., M, K] @ [..., K, N]: `lpref.ref.linalg.matmul` in grade exact, for float32; leading axes broadcast."""
    left, right, lead = pair(a, b)
    (M, K), N = a.shape[-2:], b.shape[-1]
    out = device.cupy().empty((*lead, M, N), np.float32)
    batches, heads = lead if len(lead) == 2 else (1, math.prod(lead))
    product(out, (heads * M * N, M * N, N), left, right, (M, N, K), batches, heads)
    return out


def pair(a: Any, b: Any) -> tuple[Strided, Strided, tuple[int, ...]]:
    """The sides of a @ b, and the leading axes of the result; more than two of them are copied into one.

    Raises: ShapeError, BackendError.
    """
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"{a.shape} @ {b.shape}: needed [..., M, K] and [..., K, N]", where="matmul")
    arrays.check("matmul", a, b)
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return _side(a, lead, -2), _side(b, lead, -1), lead


def _side(x: Any, lead: tuple[int, ...], outer: int) -> Strided:
    cp = device.cupy()
    x = cp.broadcast_to(x, (*lead, *x.shape[-2:]))
    if len(lead) > 2:
        x = cp.ascontiguousarray(x).reshape(math.prod(lead), *x.shape[-2:])
    steps = [s // 4 if n > 1 else 0 for s, n in zip(x.strides, x.shape, strict=True)]
    batch, head = ([0, 0, *steps[:-2]])[-2:]
    inner = -3 - outer
    return Strided(x, steps[outer] or 1, steps[inner] or 1, batch, head)


def product(
    out: Any, steps: tuple[int, int, int], a: Strided, b: Strided, sizes: tuple[int, int, int], batches: int = 1, heads: int = 1,
    causal: Causal = WHOLE,
) -> None:  # fmt: skip
    """out[z][m, n] = sum_k a[z][m, k] b[z][n, k] for the batches x heads matrices z.

    sizes: M, N, K. steps: numbers from one batch, head and row of `out` to the next.
    """
    M, N, K = sizes
    count = batches * heads
    if not M * N * count:
        return
    size, macros = tile(M, N, count)
    run = device.function("product", "product", (*macros, ("LP_A_K", a.along_k), ("LP_B_K", b.along_k)))
    sides = [x for s in (a, b) for x in (s.array, s.outer, s.inner, s.batch, s.head, np.int32(s.group))]
    batch, head, row = steps
    shape = [np.int32(v) for v in (heads, M, N, K, causal.part, causal.shift)]
    run((tiles(M, N, size) * count,), ((size // TILES[size][0]) ** 2,), (*sides, out, row, batch, head, *shape, causal.may))


def tiles(M: int, N: int, size: int) -> int:
    """Tiles of an [M, N] product."""
    return -(-M // size) * -(-N // size)


def tile(M: int, N: int, count: int = 1, largest: int = 128) -> tuple[int, tuple[tuple[str, int], ...]]:
    """The tile for `count` products of [M, N], and its macros."""
    fits = [s for s in TILES if s <= largest and tiles(M, N, s) * count >= device.processors()]
    size = fits[0] if fits else min(TILES)
    each, resident = TILES[size]
    names = {"LP_BM": size, "LP_BN": size, "LP_TM": each, "LP_TN": each, "LP_BK": DEPTH, "LP_RESIDENT": resident}
    return size, tuple(names.items())

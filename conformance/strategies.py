"""Hypothesis strategies that aim at the rare: ties, edges, specials, blocks of different scale, random words.

All give NumPy arrays. Options are keyword-only; `size`/`shape` None draws one, a value pins it. Values are constructed,
never filtered.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lpref.conformance import inputs as pools
from lpref.ref.formats import format as format_of
from lpref.ref.quantize import Quantizer

MAX_SIZE = 32


def pick(pool: np.ndarray, size: int | None) -> st.SearchStrategy[np.ndarray]:
    """Arrays of elements of `pool` (ordered simple first: Hypothesis shrinks towards its front)."""
    length = st.integers(1, MAX_SIZE) if size is None else st.just(size)
    return length.flatmap(lambda n: hnp.arrays(np.int64, n, elements=st.integers(0, len(pool) - 1))).map(
        lambda i: pool[i]
    )


def values(format: Any, *, size: int | None = None, dtype: type = np.float32) -> st.SearchStrategy[np.ndarray]:
    """Values of the format."""
    return pick(pools.codes(format_of(format), dtype), size)


def near_ties(format: Any, *, size: int | None = None, dtype: type = np.float32) -> st.SearchStrategy[np.ndarray]:
    """Midpoints of neighbouring values and the floats just beside them."""
    return pick(pools.midpoints(format_of(format), dtype), size)


def subnormal_edges(format: Any, *, size: int | None = None, dtype: type = np.float32) -> st.SearchStrategy[np.ndarray]:
    """Around the smallest normal, the smallest subnormal, half of it, and zero."""
    return pick(pools.subnormal_edges(format_of(format), dtype), size)


def overflow_edges(format: Any, *, size: int | None = None, dtype: type = np.float32) -> st.SearchStrategy[np.ndarray]:
    """Around the largest value and the threshold of overflow, both signs."""
    return pick(pools.overflow_edges(format_of(format), dtype), size)


def specials(*, size: int | None = None, dtype: type = np.float32) -> st.SearchStrategy[np.ndarray]:
    """±0, ±infinity, NaNs."""
    return pick(pools.specials(dtype), size)


def patterns(*, size: int | None = None, dtype: type = np.float32) -> st.SearchStrategy[np.ndarray]:
    """Any bit patterns of dtype: every number, infinity and NaN."""
    bits = 8 * np.dtype(dtype).itemsize
    length = st.integers(1, MAX_SIZE) if size is None else st.just(size)
    raw = length.flatmap(lambda n: hnp.arrays(np.dtype(f"uint{bits}"), n, elements=st.integers(0, 2**bits - 1)))
    return raw.map(lambda u: u.view(dtype))


def inputs(format: Any, *, size: int | None = None, dtype: type = np.float32) -> st.SearchStrategy[np.ndarray]:
    """A mixture of all of the above, for casts to `format`."""
    f = format_of(format)
    return st.one_of(
        near_ties(f, size=size, dtype=dtype),
        values(f, size=size, dtype=dtype),
        subnormal_edges(f, size=size, dtype=dtype),
        overflow_edges(f, size=size, dtype=dtype),
        specials(size=size, dtype=dtype),
        patterns(size=size, dtype=dtype),
    )


@st.composite
def blocks(
    draw: st.DrawFn,
    *,
    shape: tuple[int, int] | None = None,
    block: tuple[int, int] = (1, 32),
    exponents: tuple[int, int] = (-20, 20),
    zeros: bool = True,
    dtype: type = np.float32,
) -> np.ndarray:
    """[R, C] whose blocks all have a size of their own (2^e, e in `exponents`), so that a wrong scale cannot pass.

    Elements have significands of 8 random bits; with `zeros` some blocks are entirely zero.
    """
    rows, columns = block
    if shape is None:
        shape = (
            rows * draw(st.integers(1, 4), label="block rows"),
            columns * draw(st.integers(1, 4), label="block columns"),
        )
    grid = (-(-shape[0] // rows), -(-shape[1] // columns))
    fraction = draw(hnp.arrays(np.int16, shape, elements=st.integers(-255, 255)), label="significands")
    e = draw(hnp.arrays(np.int16, grid, elements=st.integers(*exponents)), label="block exponents")
    empty = draw(hnp.arrays(bool, grid, elements=st.booleans()), label="zero blocks") if zeros else np.zeros(grid, bool)
    e, empty = (np.repeat(np.repeat(a, rows, 0), columns, 1)[: shape[0], : shape[1]] for a in (e, empty))
    return np.ldexp(fraction.astype(np.float64), e - 8).astype(dtype) * ~empty


def shapes(
    *, block: tuple[int, int] = (1, 32), whole: bool = False, most: int = 3, empty: bool = False
) -> st.SearchStrategy[tuple[int, int]]:
    """[R, C] at the edges of the block: 1, b - 1, b, b + 1, up to `most` blocks; with `whole` multiples of it only; with `empty` also 0."""

    def side(b: int) -> st.SearchStrategy[int]:
        around = (0,) if whole else (-1, 0, 1)
        sizes = {n * b + d for n in range(1, most + 1) for d in around} | (set() if whole else {1})
        return st.sampled_from(sorted(n for n in sizes | ({0} if empty else set()) if n > 0 or empty))

    return st.tuples(side(block[0]), side(block[1]))


@st.composite
def outlier_channels(
    draw: st.DrawFn, *, shape: tuple[int, int] | None = None, axis: int | None = None, exponents: tuple[int, int] = (4, 16), dtype: type = np.float32
) -> np.ndarray:
    """[R, C] of ordinary elements in which one to three rows (`axis` 0) or columns (1) are 2^e times larger."""
    rows, columns = draw(shapes(), label="shape") if shape is None else shape
    axis = draw(st.sampled_from([0, 1]), label="axis") if axis is None else axis
    x = draw(hnp.arrays(np.int16, (rows, columns), elements=st.integers(-255, 255)), label="significands") / 256.0
    size = (rows, columns)[axis]
    for _ in range(draw(st.integers(1, min(3, size)), label="channels")):
        channel = draw(st.integers(0, size - 1), label="channel")
        factor = 2.0 ** draw(st.integers(*exponents), label="exponent")
        x[(channel, slice(None)) if axis == 0 else (slice(None), channel)] *= factor
    return x.astype(dtype)


@st.composite
def non_finite(
    draw: st.DrawFn, *, shape: tuple[int, int] | None = None, block: tuple[int, int] = (1, 32), dtype: type = np.float32
) -> np.ndarray:
    """`blocks` in which one to four elements are NaN or infinite: first, last, inside, alone in their block or together."""
    x = draw(blocks(shape=shape, block=block, dtype=dtype))
    ends = sorted({0, x.size // 2, x.size - 1, min(block[1], x.size) - 1})
    for _ in range(draw(st.integers(1, 4), label="how many")):
        place = draw(st.one_of(st.sampled_from(ends), st.integers(0, x.size - 1)), label="place")
        x.reshape(-1)[place] = draw(st.sampled_from([np.nan, np.inf, -np.inf]), label="value")
    return x


@st.composite
def near_scaled_ties(draw: st.DrawFn, format: Any, *, shape: tuple[int, int] | None = None, block: tuple[int, int] = (1, 32)) -> np.ndarray:
    """[R, C] of midpoints of the element format and the floats beside them, times 2^e for each block; the format's max leads each block."""
    f = format_of(format)
    rows, columns = shape = draw(shapes(block=block, whole=True), label="shape") if shape is None else shape
    pool = pools.midpoints(f)
    pool = pool[np.abs(pool) < f.max]
    x = draw(pick(pool, rows * columns), label="elements").reshape(shape).astype(np.float64)
    x[:: block[0], :: block[1]] = f.max
    grid = (-(-rows // block[0]), -(-columns // block[1]))
    e = draw(hnp.arrays(np.int16, grid, elements=st.integers(-8, 8)), label="block exponents")
    e = np.repeat(np.repeat(e, block[0], 0), block[1], 1)[:rows, :columns]
    return np.ldexp(x, e).astype(np.float32)


def matrices(quantizer: Quantizer, *, largest: int = 48) -> st.SearchStrategy[np.ndarray]:
    """A mixture for a block quantizer: scales of their own, zero blocks, outliers, ties, NaN and infinities, shapes at the block's edges."""
    block = (min(quantizer.blocks.other or largest, largest), min(quantizer.blocks.k or largest, largest))
    exact = (quantizer.blocks.other or 1, quantizer.blocks.k or 1)
    whole = quantizer.tail == "error"
    edges = shapes(block=exact if whole else block, whole=whole, most=2)
    return edges.flatmap(
        lambda shape: st.one_of(
            blocks(shape=shape, block=block),
            outlier_channels(shape=shape),
            near_scaled_ties(quantizer.format, shape=shape, block=block),
            non_finite(shape=shape, block=block),
        )
    )


def words(*, bits: int, shape: Any) -> st.SearchStrategy[np.ndarray]:
    """Random words of `bits` bits, uint32, shrinking to 0."""
    return hnp.arrays(np.uint32, shape, elements=st.integers(0, 2**bits - 1))

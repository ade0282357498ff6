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


def words(*, bits: int, shape: Any) -> st.SearchStrategy[np.ndarray]:
    """Random words of `bits` bits, uint32, shrinking to 0."""
    return hnp.arrays(np.uint32, shape, elements=st.integers(0, 2**bits - 1))

"""Every binary16 and every bfloat16 number into every format of at most 8 bits: by its neighbours in the table, and nothing else."""

from __future__ import annotations

from functools import cache

import ml_dtypes
import numpy as np
import pytest

from lpref.ref.formats import FORMATS

SMALL = [n for n, f in FORMATS.items() if f.bits <= 8]


@cache
def inputs() -> np.ndarray:
    """The finite ones of both, distinct, ascending, as float64."""
    u = np.arange(2**16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # NaN
        x = np.concatenate([u.view(t).astype(np.float64) for t in (np.float16, ml_dtypes.bfloat16)])
    return np.unique(x[np.isfinite(x)])


@pytest.mark.parametrize("name", SMALL)
def test_by_the_neighbours(name: str) -> None:
    f = FORMATS[name]
    values, _ = f.table()
    x = inputs()
    x = x[(x >= values[0]) & (x <= values[-1])]
    below, above = values[np.searchsorted(values, x, "right") - 1], values[np.searchsorted(values, x, "left")]
    near = f.decode(f.encode(x))
    assert ((near == below) | (near == above)).all()
    if f.midpoint == "arithmetic" and 0.0 in values:  # signs have no nearest value: 0 is theirs to give away
        other = np.where(near == below, above, below)
        assert (np.abs(near - x) <= np.abs(other - x)).all()
        for rule, ties in (("nearest_away", np.maximum), ("nearest_toward_zero", np.minimum)):
            got = f.decode(f.encode(x, rule))
            tie = x - below == above - x
            assert np.array_equal(got[~tie], near[~tie])
            assert np.array_equal(np.abs(got[tie]), ties(np.abs(below[tie]), np.abs(above[tie])))
        assert np.array_equal(f.decode(f.encode(x, "toward_positive")), above)
        assert np.array_equal(f.decode(f.encode(x, "toward_negative")), below)
        assert np.array_equal(f.decode(f.encode(x, "toward_zero")), np.where(x < 0, above, below))
    if 0.0 in values and values[0] == -values[-1] and f.midpoint != "bit_string" and f.tie not in ("up", "down", "lower_code"):
        assert np.array_equal(near, -f.decode(f.encode(-x)))  # so the mean error of a symmetric set is 0

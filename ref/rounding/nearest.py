"""Rounding to nearest: three ways to break a tie. `m.d`, `m.w` are exact, and so is 2 d (no overflow below 2^1023).

`m.side` speaks for formats whose midpoint is not the arithmetic mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lpref.ref.rounding.mode import Remainder


def compare(m: Remainder) -> tuple[np.ndarray, np.ndarray]:
    """(x is beyond the midpoint, x is the midpoint)."""
    if m.side is not None:
        return m.side > 0, m.side == 0
    twice = 2.0 * m.d
    return twice > m.w, twice == m.w


def even(m: Remainder, words: np.ndarray | None = None, r: int | None = None) -> np.ndarray:
    """nu > 1/2, or nu = 1/2 and the format's tie rule says up."""
    beyond, tie = compare(m)
    return beyond | (tie & m.tie_up)


def away(m: Remainder, words: np.ndarray | None = None, r: int | None = None) -> np.ndarray:
    """nu >= 1/2."""
    beyond, tie = compare(m)
    return beyond | tie


def toward_zero(m: Remainder, words: np.ndarray | None = None, r: int | None = None) -> np.ndarray:
    """nu > 1/2."""
    return compare(m)[0]

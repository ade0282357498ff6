"""Rounding to nearest: three ways to break a tie. `m.d`, `m.w` are exact, and so is 2 d (no overflow below 2^1023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lpref.ref.rounding.mode import Remainder


def even(m: Remainder, words: np.ndarray | None = None, r: int | None = None) -> np.ndarray:
    """nu > 1/2, or nu = 1/2 and the format's tie rule says up."""
    twice = 2.0 * m.d
    return (twice > m.w) | ((twice == m.w) & m.tie_up)


def away(m: Remainder, words: np.ndarray | None = None, r: int | None = None) -> np.ndarray:
    """nu >= 1/2."""
    return 2.0 * m.d >= m.w


def toward_zero(m: Remainder, words: np.ndarray | None = None, r: int | None = None) -> np.ndarray:
    """nu > 1/2."""
    return 2.0 * m.d > m.w

"""Directed rounding, and rounding to odd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lpref.ref.rounding.mode import Remainder


def toward_zero(m: Remainder, words: np.ndarray | None = None, r: int | None = None) -> np.ndarray:
    """Never up."""
    return np.zeros(np.shape(m.d), bool)


def toward_positive(m: Remainder, words: np.ndarray | None = None, r: int | None = None) -> np.ndarray:
    """Up in magnitude for inexact positive values."""
    return (m.d > 0) & ~m.negative


def toward_negative(m: Remainder, words: np.ndarray | None = None, r: int | None = None) -> np.ndarray:
    """Up in magnitude for inexact negative values."""
    return (m.d > 0) & m.negative


def to_odd(m: Remainder, words: np.ndarray | None = None, r: int | None = None) -> np.ndarray:
    """The neighbour with the odd code, for inexact values: keeps a sticky bit, so that rounding again is safe."""
    return (m.d > 0) & ~m.odd

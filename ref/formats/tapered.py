r"""Tapered formats whose rounding is defined on the bit string: what posits and takums share.

n bits; 0 is 0..0, NaR ("not a real", the one NaN) is 10..0; the other codes are ordered like their values as two's
complement integers, and negation is two's complement. A family member of n + 1 bits has the n-bit member's values at
its even codes, so between the codes p and p + 1 lies the code 2 p + 1 of n + 1 bits, "p followed by a 1":

    midpoint(p, p+1) = value of 2 p + 1 with n + 1 bits          (`midpoint = "bit_string"`; a tie goes to the even code)

Among codes that differ in the fraction this is the arithmetic mean; where the cut is inside the exponent or the regime
it is not. No rounding whatever takes a nonzero x to 0 or to NaR: |x| below the smallest positive value becomes that
value, toward_zero included. Beyond the largest value is an overflow without a half step (under `max`: that value).

Directed roundings and to_odd look at the neighbours and at the parity of the code. Stochastic roundings are on the
**value**: nu = (|x| - |lower|) / (|upper| - |lower|), so that the mean of the results is x within the range; adding
random bits below the bit string (some hardware) has another mean wherever the midpoint is not arithmetic.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lpref.ref.formats.base import Format
from lpref.ref.rounding import Remainder


@dataclass(frozen=True, kw_only=True)
class TaperedFormat(Format):
    """n-bit member of a family; a subclass says what a positive code of any width means."""

    @abstractmethod
    def _magnitude(self, codes: np.ndarray, bits: int) -> np.ndarray:
        """Codes 0 .. 2^(bits-1) - 1 (uint64) of the family's member of `bits` bits -> float64 values, code 0 -> 0."""

    def _middle(self, codes: np.ndarray) -> np.ndarray:
        """The float64 at or next below the midpoint of each code and its successor."""
        return self._magnitude(2 * codes + np.uint64(1), self.bits + 1)

    @property
    def midpoint(self) -> str:
        return "bit_string"

    @property
    def signed(self) -> bool:
        return True

    @property
    def _top(self) -> int:
        return 2 ** (self.bits - 1) - 1

    @cached_property
    def max(self) -> float:
        return float(self._magnitude(np.array(self._top, np.uint64), self.bits))

    @property
    def min(self) -> float:
        return -self.max

    @cached_property
    def min_normal(self) -> float:
        return float(self._magnitude(np.array(1, np.uint64), self.bits))

    @property
    def min_subnormal(self) -> float:
        return self.min_normal

    @property
    def nan_code(self) -> int:
        return 2 ** (self.bits - 1)

    @cached_property
    def _magnitudes(self) -> np.ndarray:
        """Values of the non-negative codes, ascending; at most 16 bits."""
        return self._magnitude(np.arange(self._top + 1, dtype=np.uint64), self.bits)

    @cached_property
    def _middles(self) -> np.ndarray:
        return self._middle(np.arange(self._top + 1, dtype=np.uint64))

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        codes = np.asarray(codes, np.uint64)
        negative = codes > self._top
        magnitude = np.where(negative, np.uint64(2**self.bits) - codes, codes)
        values = self._magnitude(np.where(codes == self.nan_code, np.uint64(0), magnitude), self.bits)
        return np.where(codes == self.nan_code, np.nan, np.where(negative, -values, values))

    def _below(self, a: np.ndarray) -> np.ndarray:
        """The largest code whose value is at most a, for 0 <= a: a search over the code's bits, most significant first."""
        if self.bits <= 16:
            return np.searchsorted(self._magnitudes, a, "right").astype(np.uint64) - np.uint64(1)
        code = np.zeros(a.shape, np.uint64)
        for bit in range(self.bits - 2, -1, -1):
            tried = code | np.uint64(1 << bit)
            code = np.where(self._magnitude(tried, self.bits) <= a, tried, code)
        return code

    def _locate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | int, Remainder]:
        negative, a = x < 0, np.abs(x)
        a = np.where((a > 0) & (a < self.min_normal), self.min_normal, a)
        over, top = a > self.max, np.uint64(self._top)
        code = self._below(np.where(over, self.max, a))
        after = np.minimum(code + np.uint64(1), top)
        if self.bits <= 16:
            here, there, middle = self._magnitudes[code], self._magnitudes[after], self._middles[code]
        else:
            here, there = self._magnitude(code, self.bits), self._magnitude(after, self.bits)
            middle = self._middle(code)
        d = np.where(over, 0.0, a - here)
        w = np.where(code == top, 1.0, there - here)
        odd = code % np.uint64(2) == 1
        side = np.where(a > middle, 1, -1)
        side = np.where((a == middle) & self.exact, 0, side)
        side = np.where(over, -1, side)
        position = code.astype(np.int64) + over
        return position, 1, Remainder(d, w, odd, self.tie_up(odd, negative), negative, side)

    def _finish(self, position: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        codes = np.minimum(position, self._top)
        return np.where(x < 0, -codes & (2**self.bits - 1), codes).astype(np.uint64), position > self._top

    def _target_code(self, target: str, negative: np.ndarray) -> np.ndarray:
        if target == "max":
            return np.where(negative, self._top + 2, self._top).astype(np.uint64)
        return np.full(negative.shape, self.nan_code if target == "nan" else 0, np.uint64)

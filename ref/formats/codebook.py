r"""Code books: formats that are given by the list of their values.

decode(c) = values[c]. A finite x lies between two neighbours of the sorted list; midpoints are arithmetic means and
exact; what is beyond the largest value is an overflow (there is no half step beyond it). A format without zero (int1)
keeps the sign of x between its two middle values, in every rounding; +0 and -0 count as positive.

>>> f = CodebookFormat(name="t", bits=2, title="", standard="", source_level="memory", tie="down", values=(-1, 0, 2, 5))
>>> f.encode([-0.5, 1.0, 1.1, 3.5, 9]).tolist()
[0, 1, 2, 2, 3]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lpref.ref.errors import FormatError
from lpref.ref.formats.base import Format
from lpref.ref.rounding import Remainder


@dataclass(frozen=True, kw_only=True)
class CodebookFormat(Format):
    """A format that lists its values, by code."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) != 2**self.bits:
            raise FormatError(f"{len(self.values)} values for {self.bits} bits", where=f"format {self.name!r}")

    @property
    def signed(self) -> bool:
        return min(self.values) < 0

    @property
    def max(self) -> float:
        return float(max(self.values))

    @property
    def min(self) -> float:
        return float(min(self.values))

    @property
    def min_normal(self) -> float:
        return float(min(v for v in self.values if v > 0))

    @property
    def min_subnormal(self) -> float:
        return self.min_normal

    @property
    def negative_zero(self) -> int | None:
        """The code of -0, None where zero has one code or none."""
        codes = [c for c, v in enumerate(self.values) if v == 0 and np.signbit(v)]
        return codes[0] if codes else None

    @property
    def targets(self) -> frozenset[str]:
        has = super().targets if 0.0 in self.values else super().targets - {"zero"}
        return has if self.negative_zero is None else has | {"negative_zero"}

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        return np.array(self.values, np.float64)[codes]

    def _locate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | int, Remainder]:
        values, codes = self.table()
        n = len(values)
        negative = x < 0
        # positions are indices into the ascending table; -1 and n stand for "outside"
        lower = np.where(negative, np.searchsorted(values, x, "left"), np.searchsorted(values, x, "right") - 1)
        lower = np.where(x < values[0], -1, np.where(x > values[-1], n, lower))
        own_sign = (values[np.clip(lower, 0, n - 1)] < 0) == negative  # false only around a missing zero
        step = np.where(negative, -1, 1)
        lower = np.where(own_sign | (values[np.clip(lower, 0, n - 1)] == 0), lower, lower + step)
        here = values[np.clip(lower, 0, n - 1)]
        there = values[np.clip(lower + step, 0, n - 1)]
        between = (lower >= 0) & (lower < n) & (here != there) & (np.abs(x) > np.abs(here))
        d = np.where(between, np.abs(x - here), 0.0)
        w = np.where(between, np.abs(there - here), 1.0)
        odd = codes[np.clip(lower, 0, n - 1)] % 2 == 1
        return lower, step, Remainder(d, w, odd, self.tie_up(odd, negative), negative)

    def _finish(self, position: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, codes = self.table()
        inside = np.clip(position, 0, len(codes) - 1)
        out = codes[inside].astype(np.uint64)
        if self.negative_zero is not None:
            zero = self.values.index(0.0)
            out = np.where(np.signbit(x) & (out == zero), np.uint64(self.negative_zero), out)
        return out, inside != position

    def _target_code(self, target: str, negative: np.ndarray) -> np.ndarray:
        _, codes = self.table()
        if target == "max":
            return np.where(negative, codes[0], codes[-1]).astype(np.uint64)
        code = self.negative_zero if target == "negative_zero" else self.values.index(0.0)
        return np.full(negative.shape, code, np.uint64)

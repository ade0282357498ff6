r"""Code books: formats that are given by the list of their values.

decode(c) = values[c]; a value may be NaN or an infinity. A finite x lies between two neighbours of the sorted list of
the finite values. Nearest roundings change over at their midpoint:

    arithmetic   (a + b) / 2                    exact
    geometric    sign(a) sqrt(a b)              exact: a b is compared as an integer; next to zero the arithmetic mean
    listed       `middles`, one number for each pair of neighbours, ascending

and a tie is decided by `tie`; besides the rules of every format: lower_code (the neighbour whose code is the smaller
integer). Directed roundings only look at the neighbours. Stochastic roundings take nu = (x - a) / (b - a) in value,
whatever the midpoint, so that the mean of the results is x.

What is beyond the largest value is an overflow; there is no half step beyond it, unless `beyond` names the magnitude
that would come next: then x up to its midpoint with the largest value still rounds to the latter.

A format without zero (int1) keeps the sign of x between its two middle values, in every rounding; +0 and -0 count as
positive.

>>> f = CodebookFormat(name="t", bits=2, title="", standard="", source_level="memory", tie="down", values=(-1, 0, 2, 5))
>>> f.encode([-0.5, 1.0, 1.1, 3.5, 9]).tolist()
[0, 1, 2, 2, 3]
>>> g = CodebookFormat(name="g", bits=2, title="", standard="", source_level="memory", tie="away", middle="geometric",
...                    values=(0, 1, 4, 9))
>>> g.encode([1.9, 2.0, 2.1, 6.0, 0.4, 0.5]).tolist()
[1, 2, 2, 3, 0, 1]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

import numpy as np

from lpref.ref.errors import FormatError
from lpref.ref.formats.base import Format
from lpref.ref.rounding import Remainder


@dataclass(frozen=True, kw_only=True)
class CodebookFormat(Format):
    """A format that lists its values, by code."""

    values: tuple[float, ...]
    middle: str = "arithmetic"  # arithmetic | geometric | listed
    middles: tuple[float, ...] = ()  # middle = "listed": between each two neighbouring finite values, ascending
    beyond: float | None = None  # the magnitude that would follow the largest: where rounding to the latter ends

    def __post_init__(self) -> None:
        where = f"format {self.name!r}"
        if len(self.values) != 2**self.bits:
            raise FormatError(f"{len(self.values)} values for {self.bits} bits", where=where)
        if self.middle not in ("arithmetic", "geometric", "listed"):
            raise FormatError(f"middle = {self.middle!r}", where=where, remedy="arithmetic, geometric or listed")
        if self.middle != "listed":
            if self.middles:
                raise FormatError(f"middles are given, but middle = {self.middle!r}", where=where)
            return
        points = self._grid[0].tolist()
        if len(self.middles) != len(points) - 1 or not all(
            a < m < b for (a, b), m in zip(pairwise(points), self.middles, strict=True)
        ):
            raise FormatError(f"{len(self.middles)} middles do not lie between {len(points)} points", where=where)

    @property
    def midpoint(self) -> str:
        return self.middle

    @cached_property
    def _finite(self) -> list[float]:
        return [v for v in self.values if math.isfinite(v)]

    @property
    def signed(self) -> bool:
        return self.min < 0

    @property
    def max(self) -> float:
        return float(max(self._finite))

    @property
    def min(self) -> float:
        return float(min(self._finite))

    @property
    def min_normal(self) -> float:
        return float(min(v for v in self._finite if v > 0))

    @property
    def min_subnormal(self) -> float:
        return self.min_normal

    @property
    def nan_code(self) -> int | None:
        return next((c for c, v in enumerate(self.values) if math.isnan(v)), None)

    @property
    def inf_code(self) -> int | None:
        return next((c for c, v in enumerate(self.values) if v == math.inf), None)

    @property
    def negative_zero(self) -> int | None:
        """The code of -0, None where zero has one code or none."""
        codes = [c for c, v in enumerate(self.values) if v == 0 and np.signbit(v)]
        return codes[0] if codes else None

    @property
    def targets(self) -> frozenset[str]:
        has = super().targets if 0.0 in self.values else super().targets - {"zero"}
        return has if self.negative_zero is None else has | {"negative_zero"}

    @cached_property
    def _grid(self) -> tuple[np.ndarray, np.ndarray, int]:
        """(ascending points, their codes, how many points precede the table): the finite values, and what is `beyond`."""
        values, codes = self.table()
        codes = codes.astype(np.int64)
        if self.beyond is None:
            return values, codes, 0
        if not self.beyond > self.max:
            raise FormatError(f"beyond = {self.beyond!r} is not above {self.max!r}", where=f"format {self.name!r}")
        ends = [[-self.beyond] if self.signed else [], [self.beyond]]
        unused = [np.full(len(end), 2**self.bits) for end in ends]
        return np.concatenate([ends[0], values, ends[1]]), np.concatenate([unused[0], codes, unused[1]]), len(ends[0])

    @cached_property
    def _changes(self) -> tuple[np.ndarray, np.ndarray]:
        """(m, tie) of each interval: |x| is beyond the midpoint iff |x| > m, and it is the midpoint iff |x| = m and tie.

        m: the float64 at or next below the magnitude of the midpoint. Geometric and listed midpoints only.
        """
        if self.middle == "listed":
            return np.abs(np.array(self.middles)), np.ones(len(self.middles), bool)
        roots = [geometric_mean(a, b) for a, b in pairwise(self._grid[0].tolist())]
        return np.array([m for m, _ in roots]), np.array([exact for _, exact in roots])

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        return np.array(self.values, np.float64)[codes]

    def _locate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | int, Remainder]:
        points, codes, first = self._grid
        n = len(points)
        negative = x < 0
        # indices into the ascending points; -1 and n stand for "outside"
        lower = np.where(negative, np.searchsorted(points, x, "left"), np.searchsorted(points, x, "right") - 1)
        lower = np.where(x < points[0], -1, np.where(x > points[-1], n, lower))
        own_sign = (points[np.clip(lower, 0, n - 1)] < 0) == negative  # false only around a missing zero
        step = np.where(negative, -1, 1)
        lower = np.where(own_sign | (points[np.clip(lower, 0, n - 1)] == 0), lower, lower + step)
        index, other = np.clip(lower, 0, n - 1), np.clip(lower + step, 0, n - 1)
        here, there = points[index], points[other]
        between = (lower >= 0) & (lower < n) & (here != there) & (np.abs(x) > np.abs(here))
        d = np.where(between, np.abs(x - here), 0.0)
        w = np.where(between, np.abs(there - here), 1.0)
        odd = codes[index] % 2 == 1
        tie_up = codes[other] < codes[index] if self.tie == "lower_code" else self.tie_up(odd, negative)
        side = self._side(np.abs(x), np.minimum(index, other), between) if self.middle != "arithmetic" else None
        return lower - first, step, Remainder(d, w, odd, tie_up, negative, side)

    def _side(self, a: np.ndarray, interval: np.ndarray, between: np.ndarray) -> np.ndarray:
        """Sign of a - midpoint, -1 where a is a value."""
        m, tie = self._changes
        interval = np.minimum(interval, len(m) - 1)
        at = np.where(tie[interval], 0, -1)
        return np.where(between, np.where(a > m[interval], 1, np.where(a == m[interval], at, -1)), -1)

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
        if target == "infinity":
            minus = self.values.index(-np.inf) if -np.inf in self.values else 0
            return np.where(negative, minus, self.values.index(np.inf)).astype(np.uint64)
        code = {"nan": self.nan_code, "negative_zero": self.negative_zero}.get(target)
        return np.full(negative.shape, self.values.index(0.0) if code is None else code, np.uint64)


def geometric_mean(a: float, b: float) -> tuple[float, bool]:
    """(the float64 at or next below sqrt(a b), whether it is that); the arithmetic mean's magnitude if a or b is 0 or the signs differ.

    >>> geometric_mean(1.0, 4.0), geometric_mean(-2.0, -1.0), geometric_mean(0.0, 3.0)
    ((2.0, True), (1.414213562373095, False), (1.5, True))
    """
    if a == 0 or b == 0 or (a < 0) != (b < 0):
        return abs(a + b) / 2, True
    product = Fraction(a) * Fraction(b)
    m = math.sqrt(abs(a)) * math.sqrt(abs(b))  # within two units of the root
    while Fraction(m) ** 2 > product:
        m = math.nextafter(m, 0.0)
    while Fraction(math.nextafter(m, math.inf)) ** 2 <= product:
        m = math.nextafter(m, math.inf)
    return m, Fraction(m) ** 2 == product

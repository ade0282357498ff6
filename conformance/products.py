"""Any matrix product against an accumulation model: the operands that tell models apart.

Models differ in the order of addition, in the formats of product and partial sum, in what they align and truncate, and in
where they start again. So the operands hold cancellation (one large pair that goes, small ones that stay), sums that stall,
one-sided values (truncation shrinks them), exponents spread over many binades, and K just beside the usual chunk sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.conformance import check, inputs
from lpref.conformance.report import Outcome
from lpref.ref.errors import LprefError, ShapeError
from lpref.ref.formats import Format
from lpref.ref.linalg import Accumulate, HighPrecision, gemm
from lpref.ref.random import words

Product = Callable[[np.ndarray, np.ndarray], Any]
DEPTHS = (1, 15, 16, 17, 31, 33, 63, 65, 127, 128, 129, 257)
ROWS, COLUMNS = 5, 7


def noise(stream: int, shape: tuple[int, int]) -> np.ndarray:
    """Fixed numbers in [-1, 1), float64."""
    return (words(1, stream, 0, 0, shape[0] * shape[1]).astype(np.float64) / 2.0**31 - 1).reshape(shape)


def held(f: Format, x: np.ndarray) -> np.ndarray:
    """x rounded to values of f, float32."""
    return f.round(np.clip(x, f.min, f.max).astype(np.float32))


def operands(f: Format) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, a [M, K], b [N, K]), values of f in float32."""
    top = min(f.max, 2.0**30)
    for depth in DEPTHS:
        yield f"K = {depth}", held(f, 4 * noise(1, (ROWS, depth))), held(f, 4 * noise(2, (COLUMNS, depth)))
    one_sided = [held(f, 1 + np.abs(noise(s, shape))) for s, shape in ((3, (ROWS, 320)), (4, (COLUMNS, 320)))]
    yield "one-sided values", one_sided[0], one_sided[1]
    ones = np.ones((1, 600), np.float32)
    yield "a sum of ones", held(f, ones), held(f, ones)
    a, b = noise(5, (ROWS, 96)), noise(6, (COLUMNS, 96))
    spread = np.ldexp(1.0, (words(1, 7, 0, 0, 96) % 24).astype(np.int64) - 12)
    yield "exponents over many binades", held(f, a * spread), held(f, b * np.roll(spread, 5))
    a, b = held(f, a), held(f, b)
    a[:, 10], b[:, 10], a[:, 60], b[:, 60] = held(f, np.array([top, top, -top, top]))
    yield "cancellation", a, b
    a = held(f, np.full((ROWS, 40), top))
    b = np.where(np.arange(40) % 2, np.float32(1), np.float32(-1))[None].repeat(COLUMNS, 0)
    yield "sums that come back to zero", a, b
    yield "zeros", np.zeros((2, 32), np.float32), held(f, noise(8, (3, 32)))
    values = inputs.table(f)
    small = values[(values != 0) & (np.abs(values) < 2.0**-5)]
    if small.size > 8:
        pick = small[words(1, 9, 0, 0, ROWS * 48).astype(np.int64) % small.size].reshape(ROWS, 48).astype(np.float32)
        yield "subnormals and small values", pick, held(f, noise(10, (COLUMNS, 48)))


@dataclass(frozen=True)
class ProductSuite:
    """`run(a [M, K], b [N, K]) -> [M, N]` against `model`; the operands hold values of f."""

    run: Product
    model: Accumulate
    f: Format

    def outcomes(self) -> tuple[Outcome, ...]:
        """One per pair of operands."""
        return tuple(self.compare(name, a, b) for name, a, b in operands(self.f))

    def compare(self, name: str, a: np.ndarray, b: np.ndarray) -> Outcome:
        """Bits of float32, NaN as a class, the sign of zero left open."""
        try:
            want = gemm(HighPrecision(a), HighPrecision(b), self.model)
        except LprefError:
            return Outcome(name, 0, 0, refused=a.shape[0] * b.shape[0])
        got = np.asarray(self.run(a.copy(), b.copy()))
        if got.shape != want.shape:
            raise ShapeError(f"the product of {a.shape} and {b.shape} came back as {got.shape}", where="run_suite",
                             remedy=f"return a b^T, {want.shape}")  # fmt: skip
        bad = check.differing_values(got.astype(np.float64), want.astype(np.float64), signed_zero=False)
        text = ""
        if bad.any():
            i, j = check.first(bad, None)
            text = (
                f"a {a.shape}, b {b.shape}, c[{i}, {j}]: got {check.show_input(np.float32(got[i, j]))}, "
                f"the definition gives {check.show_input(np.float32(want[i, j]))}"
            )
        return Outcome(name, got.size, int(np.count_nonzero(bad)), 0, text)

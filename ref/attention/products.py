r"""How the matrix products of attention may be made, and how far one is from the real sum of n products, of magnitudes S = sum |a b|.

    float32      any order, fused or not: gamma_n S (Higham 2002, section 3.1)
    three terms  a = h + l + r, h the bfloat16 nearest to a, l that nearest to a - h (which float32 holds): |h| <= (1 + 2^-8) |a|,
                 |l| <= 2^-8 |a|, |r| <= 2^-16 |a|. a b - (h h' + l h' + h l') = h r' + l l' + l r' + r b, at most 3 2^-16 (1 + 2^-7) |a b|,
                 and the magnitudes that are added are at most (1 + 2^-8)^2 (1 + 2^-7) |a b|
    one term     h h' alone: at most (2 2^-8 + 2^-16) |a b|, magnitudes (1 + 2^-8)^2 |a b|

The products of bfloat16 numbers are exact, and a matrix unit adds 16 of them to a float32 in one step of 16 or two of 8
(`lpref.ref.linalg.bounds`, "Matrix units"; the models `ampere_bf16` and `hopper_bf16`): it cuts at most 2 (9 2^-24 + 2^-23) = 22 u of the
magnitudes so far. A sum of n is ceil(n / 16) such steps a term; what is rescaled between them (online softmax, at most once in 16 keys) and
multiplied in the end is rounded as often, and scales are at most 1. So |error| <= [split + 22 u steps (1 + 2^-5) + gamma_(ceil(n / 16) + 4)] S.
Zeros that fill a step cut nothing.

Below the normal numbers a rounding to bfloat16 is off by 2^-134 more, whatever the number: 2^-133 (sum |a| + sum |b| + 1) in all. Above 2^126
a number may round to infinity: nothing is promised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lpref.ref.linalg.bounds import U32, gamma

STEP = 22 * U32
"""What a matrix unit cuts off a sum with 16 products more, at most."""
SPLIT = {1: 2 * 2.0**-8 + 2.0**-16, 3: 3 * 2.0**-16 * (1 + 2.0**-7)}
"""Terms -> relative error of a product."""
ROUNDED = {"float32": 3, "bfloat16": 1}
"""What operands may be rounded to -> terms."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Products:
    """terms: of bfloat16 numbers on a matrix unit; 0: float32 in any order."""

    terms: int = 0

    def error(self, n: int, sums: int = 1) -> float:
        """Relative to the sum of magnitudes, of `sums` sums of n products one after another."""
        if not self.terms:
            return gamma(n * sums)
        steps = -(-n // 16) * sums
        return SPLIT[self.terms] + STEP * self.terms * steps * (1 + 2.0**-5) + gamma(steps + 4)

    def scores(self, n: int) -> float:
        """Of a score: scaled before or after, by a rounded scale."""
        return gamma(n + 2) if not self.terms else self.error(n) + gamma(5)

    def spill(self, a: Array, b: Array, n: int) -> Array | float:
        """What roundings below the normal numbers add to a bᵀ of n products each."""
        if not self.terms:
            return 0.0
        return 2.0**-133 * (_total(a)[..., :, None] + _total(b)[..., None, :] + 2.0 * n)

    def range(self, *arrays: Array) -> tuple[Array, ...]:
        """Magnitudes that must stay below the bounds' reach."""
        return tuple(np.abs(a) * 2.0 for a in arrays) if self.terms else ()


def _total(x: Array) -> Array:
    return np.abs(x).sum(axis=-1)  # exact: a bound


FLOAT32 = Products()
UNIT = {operands: Products(terms) for operands, terms in ROUNDED.items()}
"""What operands may be rounded to -> how a matrix unit multiplies them."""

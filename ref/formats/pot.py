r"""pot4, apot4_k2 and their families pot{b}, apot{b}_k{k}: powers of two, and sums of powers of two.

    pot{b}:      0, +-2^-i,  i = 0 .. 2^(b-1) - 2
    apot{b}_k{k}: +-(p_0 + ... + p_(n-1)) / largest,  k n = w = b - 1 bits of magnitude,
                 p_i in {0, 2^-i, 2^-(i+n), ..., 2^-(i + (2^k - 2) n)}

For k = 2 and odd w the sets of the published code (largest not yet divided out):

    w = 3: {0, 2^-1, 2^-2, 2^-4} + {0, 2^-3}
    w = 5: {0, 2^-1, 2^-3, 2^-6} + {0, 2^-2, 2^-4, 2^-7} + {0, 2^-5}

Every set of sets names each power of two once, so the 2^w sums are distinct: apot4_k2 has the magnitudes
(0 1 2 3 4 6 8 10) / 10. k = w is pot, k = 1 is uniform. Code: sign bit, then the rank of the magnitude (code order is
value order); the sign bit alone is -0. The largest magnitude is 1: for use with a scale alpha; x goes to the nearest
value, |x| > 1 is an overflow, no NaN.

Ties: the source searches an unsorted list and so leaves them to chance; here they go to the even code.
decode of apot: rational numbers, correctly rounded to float64 (`exact` is False); thresholds are those of the rational
numbers. The published code computes them in float32 (each value may differ in its last float32 bit).

In training (the published code): weights are normalized first, (W - mean) / std; alpha starts at 3 (weights) and 8
(activations, clipped to [0, 1], gradient masked above); b = 2 falls back to uniform; dL/dW straight through, not
clipped; dL/dalpha = sum g (sgn(x) where |x / alpha| > 1, else xq - x / alpha).

Source: Additive powers-of-two quantization, arXiv 1909.13144, eq. 5 and 6, footnote 2 (the sign is one bit more), eq. 7 and 8;
yhhhli/APoT_Quantization CIFAR10/models/quant_layer.py build_power_value. Both read. The paper's eq. 3 gives PoT one
more power, down to 2^-(2^(b-1) - 1): with a zero and a sign that is 2^b + 1 levels; eq. 5 with k = b, and the code, have
2^b - 1. The paper divides the weights by sigma + epsilon, the code by sigma.
Pitfalls: index sets that overlap lose levels; the tie rule of a search over `list(set(...))` depends on hash order;
PoT alone puts nearly all its levels next to zero and leaves a hole between 1/2 and 1, whatever b.

>>> pot(4).decode(np.arange(8)).tolist()
[0.0, 0.015625, 0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0]
>>> f = apot(4, 2)
>>> [float(v) for v in f.decode(np.arange(8))]
[0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0]
>>> f.encode([0.25, 0.35, -0.05, -0.04, 2.0]).tolist()
[2, 3, 9, 8, 7]
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise, product

import numpy as np  # noqa: F401  (the doctest)

from lpref.ref.errors import FormatError
from lpref.ref.formats.codebook import CodebookFormat
from lpref.ref.formats.inexact import InexactCodebook, floor_float

_HALF = Fraction(1, 2)
ODD_SETS: dict[int, tuple[tuple[int, ...], ...]] = {  # w: exponents i of 2^-i in each set, for k = 2
    3: ((1, 2, 4), (3,)),
    5: ((1, 3, 6), (2, 4, 7), (5,)),
}


def pot(bits: int) -> CodebookFormat:
    """pot{bits}. Raises: FormatError outside 2 .. 8 bits."""
    if not 2 <= bits <= 8:
        raise FormatError(f"bits = {bits} is not in 2 .. 8", where=f"format 'pot{bits}'")
    top = 2 ** (bits - 1) - 1
    half = [0.0, *(2.0 ** (m - top) for m in range(1, top + 1))]
    return CodebookFormat(
        name=f"pot{bits}", bits=bits, title=f"{bits}-bit powers of two", tie="even_code", module=__name__,
        standard="arXiv 1909.13144, eq. 5 with k = b", source_level="read", values=tuple(half + [-v for v in half]),
    )  # fmt: skip


def magnitudes(width: int, k: int) -> list[Fraction]:
    """The 2^width magnitudes, ascending, the largest 1.

    >>> [str(v) for v in magnitudes(2, 2)]
    ['0', '1/4', '1/2', '1']

    Raises: FormatError where k does not divide width (other than the published sets for k = 2).
    """
    n = width // k if k else 0
    if k and width % k == 0:
        sets = tuple(tuple(i + j * n for j in range(2**k - 1)) for i in range(n))
    elif k == 2 and width in ODD_SETS:
        sets = ODD_SETS[width]
    else:
        raise FormatError(
            f"{width} bits of magnitude are no multiple of k = {k}",
            where="apot",
            remedy="k divides bits - 1; k = 2: 3 .. 7 bits",
        )
    sums = sorted(sum(pick, Fraction(0)) for pick in product(*([Fraction(0), *(_HALF**i for i in s)] for s in sets)))
    return [v / sums[-1] for v in sums]


@lru_cache(maxsize=64)
def apot(bits: int, k: int) -> InexactCodebook:
    """apot{bits}_k{k}. Raises: FormatError for parameters that make no format."""
    if not 2 <= bits <= 8:
        raise FormatError(f"bits = {bits} is not in 2 .. 8", where=f"format 'apot{bits}_k{k}'")
    half = magnitudes(bits - 1, k)
    exact = [(a + b) / 2 for a, b in pairwise(half)]
    middles = [floor_float(m) for m in exact]
    ties = [Fraction(a) == b for a, b in zip(middles, exact, strict=True)]
    values = [float(v) for v in half]
    return InexactCodebook(
        name=f"apot{bits}_k{k}", bits=bits, title=f"{bits}-bit sums of powers of two, {k} bits a term", tie="even_code",
        module=__name__, standard="arXiv 1909.13144, eq. 5 and 6; yhhhli/APoT_Quantization quant_layer.py",
        source_level="read", values=tuple(values + [-v for v in values]),
        exact=all(Fraction(v) == t for v, t in zip(values, half, strict=True)),
        middles=tuple([-m for m in reversed(middles)] + middles), ties=tuple(ties[::-1] + ties),
    )  # fmt: skip


def parse(name: str) -> CodebookFormat | None:
    """The format of a family name, None for names of another shape.

    >>> parse("pot5").name, parse("apot5_k4").name, parse("apot4")
    ('pot5', 'apot5_k4', None)
    """
    if match := re.fullmatch(r"pot(\d)", name):
        return pot(int(match[1]))
    match = re.fullmatch(r"apot(\d)_k(\d)", name)
    return None if match is None else apot(int(match[1]), int(match[2]))


POT4 = pot(4)
APOT4_K2 = apot(4, 2)

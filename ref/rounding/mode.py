r"""The rounding rules, by name.

A finite real x lies between two neighbours of a format. On **magnitudes** let `lower` be the one nearer to zero,

    nu = (|x| - |lower|) / (|upper| - |lower|) = d / w,        0 <= nu < 1,

and a rule says *up* (away from zero) or not:

| name                 | up iff                                                       |
|----------------------|--------------------------------------------------------------|
| nearest_even         | nu > 1/2, or nu = 1/2 and the format's own tie rule says up  |
| nearest_away         | nu >= 1/2                                                    |
| nearest_toward_zero  | nu > 1/2                                                     |
| toward_zero          | never                                                        |
| toward_positive      | nu > 0 and x > 0                                             |
| toward_negative      | nu > 0 and x < 0                                             |
| to_odd               | nu > 0 and the code of `lower` is even                       |
| stochastic (A)       | floor(nu 2^r) + R >= 2^r                                     |
| stochastic_b         | floor(nu 2^(r+1)) + 2 R + 1 >= 2^(r+1)                       |
| stochastic_c         | rne(nu 2^r) + R >= 2^r                                       |
| stochastic_odd       | rno(nu 2^r) + R >= 2^r, ties to the odd integer              |
| stochastic_uniform   | rne(|x| / w + (R + 1/2) 2^-r - 1/2) is the upper one         |

with R the low r bits of the caller's random word. `nu` is taken at the target's own spacing, which among subnormals
is the subnormal spacing. `d` and `w` are exact in float64, so every comparison is exact; nothing is rounded twice.

`nu = 1/2`, and the comparisons of the nearest roundings with it, are at the **midpoint** of the two neighbours: the
arithmetic mean, or what the format names instead (`Format.midpoint`: geometric, bit_string, listed). The stochastic
roundings take nu in value for every format, so that the mean of the results stays x wherever the midpoint lies.

Formats name their tie rule (`Format.tie`): even_significand, even_code, lower_code, away, toward_zero, up, down.

Gradient: straight through. Forward passes round to nearest; stochastic rounding is for gradients and for the update of weights.

Source: P3109 interim report v4.0, sec. 4.7 (rounding, stochastic A, B, C); IEEE 754-2019, sec. 4.3; gfloat round.py (stochastic_odd);
DeepGEMM deep_gemm/utils/math.py (nearest_toward_zero); HBFPEmulator bfp_ops.py (stochastic_uniform).
Source level: read; IEEE 754 through P3109, OCP MX sec. 4.1 and NumPy.
Pitfalls: "nearest" alone means ties away in qtorch and in microxcaling, whose default it is (floor(|x| + 0.5)); floor of a signed value is not
toward_zero; |x| + 0.5 in floating point is wrong next below a tie (microxcaling sends 0.24999998 to 0.5 in e2m1); rounding twice to nearest is
wrong where the first result is a tie of the second: round to odd first, with two bits more and no narrower a range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lpref.ref.errors import UnknownNameError
from lpref.ref.rounding import directed, nearest, stochastic


@dataclass(frozen=True)
class Remainder:
    """Where finite values lie between their two neighbours; arrays of one shape (or scalars that broadcast)."""

    d: np.ndarray  # float64, |x| - |lower|, 0 <= d < w
    w: np.ndarray | float  # float64, |upper| - |lower|; 1.0 where d is already a fraction of the spacing
    odd: np.ndarray  # bool, the code of `lower` is odd
    tie_up: np.ndarray  # bool, what the format's tie rule says at nu = 1/2
    negative: np.ndarray  # bool, x < 0
    side: np.ndarray | None = None  # sign of |x| - midpoint where the midpoint is not the arithmetic mean; else None


@dataclass(frozen=True)
class Rounding:
    """One rule. `up(remainder, words, r)` -> bool array; `words` and `r` are None unless `stochastic`."""

    name: str
    title: str
    up: Callable[[Remainder, np.ndarray | None, int | None], np.ndarray]
    stochastic: bool = False
    nearest: bool = False
    toward_zero_for: str = ""  # signs whose overflow stops at the largest finite value: "", "+", "-", "+-"
    source_level: str = "read"


ROUNDINGS: dict[str, Rounding] = {
    r.name: r
    for r in (
        Rounding("nearest_even", "to nearest, ties by the format's rule (even)", nearest.even, nearest=True),
        Rounding("nearest_away", "to nearest, ties away from zero", nearest.away, nearest=True),
        Rounding("nearest_toward_zero", "to nearest, ties toward zero", nearest.toward_zero, nearest=True),
        Rounding("toward_zero", "toward zero (truncate)", directed.toward_zero, toward_zero_for="+-"),
        Rounding("toward_positive", "toward plus infinity (up)", directed.toward_positive, toward_zero_for="-"),
        Rounding("toward_negative", "toward minus infinity (down)", directed.toward_negative, toward_zero_for="+"),
        Rounding("to_odd", "to odd (sticky)", directed.to_odd),
        Rounding("stochastic", "stochastic, P3109 variant A (cvt.rs)", stochastic.variant_a, stochastic=True),
        Rounding("stochastic_b", "stochastic, P3109 variant B", stochastic.variant_b, stochastic=True),
        Rounding("stochastic_c", "stochastic, P3109 variant C", stochastic.variant_c, stochastic=True),
        Rounding("stochastic_odd", "stochastic, variant C with ties to odd", stochastic.variant_odd, stochastic=True),
        Rounding("stochastic_uniform", "stochastic, U(-1/2, 1/2) added, then to nearest", stochastic.uniform, stochastic=True),
    )
}
_ALIASES = {
    "up": "toward_positive",
    "down": "toward_negative",
    "cvt_rs": "stochastic",
    "StochasticFastest": "stochastic",  # gfloat's names
    "StochasticFast": "stochastic_b",
    "Stochastic": "stochastic_c",
    "StochasticOdd": "stochastic_odd",
}


def rounding(name: str | Rounding) -> Rounding:
    """The rule called `name`.

    Raises: UnknownNameError, with the nearest names.

    >>> rounding("nearest_even").stochastic
    False
    >>> rounding("nearst_even")
    Traceback (most recent call last):
    ...
    lpref.ref.errors.UnknownNameError: unknown rounding 'nearst_even'; did you mean 'nearest_even' or 'nearest_away'?
    """
    if isinstance(name, Rounding):
        return name
    try:
        return ROUNDINGS[_ALIASES.get(name, name)]
    except (KeyError, TypeError):
        raise UnknownNameError("rounding", name, [*ROUNDINGS, *_ALIASES]) from None


def is_stochastic(name: str | Rounding) -> bool:
    """Whether the rule needs random words."""
    return rounding(name).stochastic

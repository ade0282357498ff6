r"""radix4_fp4, radix4_fp4_odd: IBM's radix-4 FP4 for gradients, and two-phase rounding.

    even phase (radix4_fp4):     0, +-4^e,    e = -3 .. 3        code: sign, then 0 for zero, e + 4 otherwise
    odd phase (radix4_fp4_odd):  0, +-2 4^e,  e = -3 .. 3

[1,3,0]: one sign, three exponent bits, no mantissa; the sign bit alone is -0. Seven magnitudes over a range of 2^12,
where e2m1 has a range of 12. Rounding is to nearest **in value**: between 4^k and 4^(k+1) it changes over at 2.5 4^k, so

    x -> 4^floor(log4(1.6 |x|)),    ties (2.5 4^k) away from zero,

and the floor says so. Below the smallest magnitude the midpoint to zero is half of it (a choice: the formula would go
on with finer powers). Beyond the largest there is no half step: overflow. No NaN, no infinity.

Two-phase rounding: `two_phase` rounds one gradient to both grids. One copy goes into the product for dX, the other into
that for dW; where one grid rounds up the other mostly rounds down, so the errors of the two differ in sign on average.
The exponent offset is a choice: with a power-of-two GradScale per layer (trainable or adaptive) it cancels.
In that recipe weights and activations are INT4 (SAWB, PACT), and only gradients have this format.

Source: Ultra-low precision 4-bit training of deep neural networks, NeurIPS 2020. The paper was not reached: [1,3,0],
radix 4, the two copies of a gradient and even = powers 2^even, odd = 2^odd after its published reviews and
arXiv 2112.10769, sec. 1 and 6; the thresholds are from memory.
Pitfalls: the midpoint in log space (2 4^k) in place of 2.5 4^k rounds up too often and biases gradients upward; the odd
phase has another scale, 2, which has to reach the dequantization.

>>> RADIX4_FP4.round([2.49, 2.5, 2.51, -0.9, 1e9]).tolist()
[1.0, 4.0, 4.0, -1.0, 64.0]
>>> [v.tolist() for v in two_phase([1.0, 3.0])]
[[1.0, 4.0], [0.5, 2.0]]
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.ref.formats.codebook import CodebookFormat
from lpref.ref.rounding import Overflow


def _format(name: str, unit: float, phase: str) -> CodebookFormat:
    half = [0.0, *(unit * 4.0**e for e in range(-3, 4))]
    return CodebookFormat(
        name=name, bits=4, title=f"radix-4 FP4 [1,3,0], {phase} phase", tie="away", module=__name__,
        standard="Ultra-low precision 4-bit training of deep neural networks, NeurIPS 2020", source_level="memory",
        values=tuple(half + [-v for v in half]),
    )  # fmt: skip


RADIX4_FP4 = _format("radix4_fp4", 1.0, "even")
RADIX4_FP4_ODD = _format("radix4_fp4_odd", 2.0, "odd")


def two_phase(x: Any, overflow: str | Overflow = "saturate") -> tuple[np.ndarray, np.ndarray]:
    """(x on the even grid, x on the odd grid), each rounded to nearest, in x's dtype."""
    return RADIX4_FP4.round(x, overflow=overflow), RADIX4_FP4_ODD.round(x, overflow=overflow)

r"""Complex quartic: complex weights as 1, i, -1, -i with a scale for each of the two axes, $\hat w = s_r \mathrm{Re}(c) + i \, s_i \mathrm{Im}(c)$.

Every entry takes the unit of the quadrant of its phase (the format complex_quartic: half-open edges, 0 becomes 1). Then, per tensor, float32::

    s_r = max((sum of |Re w| over entries that became 1 or -1) / (their number), eps)
    s_i = max((sum of |Im w| over entries that became i or -i) / (their number), eps)       sums: the defined one, row-major, 0 for the others

A class without entries has the scale eps (1 where eps is 0). `QTensor.scales` holds s_r and s_i; x^ is complex, and exactly one of its parts is
nonzero. Multiplying by a code is a swap or a negation; rotating w by 90 degrees adds 1 to every code, mod 4, and swaps the scales.

Quantizer: `quartic_absmean` (eps 1e-5). It takes complex tensors, so it stands in `COMPLEX_QUANTIZERS`, beside the table of those of reals; every
name is found by `lookup`. Rounding, overflow and words have no meaning here and must keep their defaults. Backends take this definition; a matrix
product refuses complex operands: it is four of reals.

NaN is an error. An infinite part: its scale is NaN, and so is that part of every value (0 x NaN included: the whole tensor).
Gradient: straight through on both parts.

Source: PKULab1806/Fairy-plus-minus-i model/modeling_Fairy_plus_minus_i.py (two means, each clamped to at least 1e-5). Activations are INT8 per
token, real and imaginary parts separately: the quantizer int8_row.
Source level: read.
Pitfalls: the mean of an empty class is NaN in torch; the means run over the entries of a class, not over the tensor; a head reads
Re(conj(w) x) = x_r w_r + x_i w_i.

>>> from lpref.ref.quantize import quantize
>>> quantize(np.complex64([[2, -4, 1 + 3j]]), "quartic_absmean").dequantize().tolist()
[[(3+0j), (-3+0j), 3j]]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref import reduce


def quartic_scales(w: NDArray[np.complex64], codes: NDArray[np.uint8], eps: float) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Bit patterns of (s_r, s_i), each [1, 1]."""
    real = codes % 2 == 0
    scales = [_class_mean(w.real, real, eps), _class_mean(w.imag, ~real, eps)]
    return scales[0], scales[1]


def _class_mean(part: NDArray[np.float32], members: NDArray[np.bool_], eps: float) -> NDArray[np.uint32]:
    count = int(np.count_nonzero(members))
    with np.errstate(over="ignore"):
        total = reduce.tree_sum(np.where(members, np.abs(part), np.float32(0)).astype(np.float32).reshape(-1))
        s = np.maximum(total / np.float32(max(count, 1)), np.float32(eps))
    scale = np.float32(1) if s == 0 else np.float32(np.nan) if np.isinf(s) else s
    return np.full((1, 1), scale, np.float32).view(np.uint32)


def expanded_units(units: NDArray[np.float64], scales: tuple[NDArray, ...]) -> NDArray[np.complex128]:
    """Complex values of decoded units [..., 2] under the two stored scales."""
    parts = [units[..., i] * np.float64(np.ascontiguousarray(s, np.uint32).view(np.float32)[0, 0]) for i, s in enumerate(scales)]
    out = np.empty(units.shape[:-1], np.complex128)
    out.real, out.imag = parts
    return out

r"""Trit planes: two ternary tensors with a scale each, $w \approx \alpha_1 T_1 + \alpha_2 T_2$, nine levels per group.

Alternating least squares in every group (block), float64, sums the defined ones, row-major::

    start   T_1 = T_2 = sgn(w), sgn(0) = +1
    alpha   S = [T_1 T_2];  (S^T S + lambda I) (a_1, a_2) = S^T w, by Cramer's rule:
            A = [[n_11 + l, n_12], [n_12, n_22 + l]] (n: integer counts),  d = A_11 A_22 - A_12^2
            a_1 = (A_22 b_1 - A_12 b_2) / d,  a_2 = (A_11 b_2 - A_12 b_1) / d
            l = lambda, multiplied by 10 (at least 1e-8) until d > 1e-12 A_11 A_22
    order   a_i < 0 flips T_i and a_i;  a_1 < a_2 swaps the planes
    T       every entry takes the pair (t_1, t_2) with the smallest |w - (t_1 a_1 + t_2 a_2)|; ties the first of
            (0,0) (1,0) (-1,0) (0,1) (0,-1) (1,1) (-1,-1) (1,-1) (-1,1)
    stop    when T stays as it was, after `iterations` rounds at the latest
    store   alpha_i = fl32(a_i); the last choice of T is made under the rounded scales

codes and scales are T_1 and alpha_1; `QTensor.residual` is the tensor of T_2 and alpha_2, and x^ is their sum.

The objective ||w - a_1 T_1 - a_2 T_2||^2 never grows for lambda = 0 (each half step is a minimum); it may end in a local minimum: 4 3 1 -2 0
is 3 and 1 in two planes, but this start does not find them. T_1 = +-T_2, the start included, is singular:
the ridge makes it a_1 = +-a_2.

Zero group: all zero codes, scales 0. NaN or infinity: scales NaN, codes of zero, the block decodes to NaN.
Gradient: none; quantization after training.

Source: PTQTP, arXiv 2509.16989: algorithm 1 and appendix B (both planes start at sgn w, zeros as 1), eq. 6 (ridge), eq. 5 (search over the nine
pairs), groups of 128, at most 50 rounds.
Source level: secondary, after two independent implementations that cite the paper line by line. There eq. 2-3 grow lambda where the condition
number ||A|| ||A^-1|| reaches 1e12, by the square root of their ratio and to 1 at most, and the rounds end when the scales move by less than
1e-4. With lambda = 1e-8 neither rule for lambda ever acts below 5000 elements (the worst systems, T_1 = +-T_2 and an empty plane, have
2 n / lambda and n / lambda). The stop, the order of ties and of the planes are ours.
Pitfalls: without a ridge the first system has no solution; the planes are not unique (swapping and signs): the order above makes them so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref import reduce
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales, stored

F64 = NDArray[np.float64]

PAIRS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))
"""(t_1, t_2) in the order of ties."""
_FIRST, _SECOND = (np.array(column, np.float64) for column in zip(*PAIRS, strict=True))
SINGULAR = 1e-12
LEAST_RIDGE = 1e-8


def solve(w: F64, planes: tuple[F64, F64], ridge: float) -> tuple[float, float]:
    """(a_1, a_2) for given planes."""
    first, second = planes
    n11, n22, n12 = (float(np.count_nonzero(first)), float(np.count_nonzero(second)), float(reduce.tree_sum(first * second)))
    b1, b2 = float(reduce.tree_sum(first * w)), float(reduce.tree_sum(second * w))
    while True:
        a11, a22 = n11 + ridge, n22 + ridge
        determinant = a11 * a22 - n12 * n12
        if determinant > SINGULAR * (a11 * a22):
            return (a22 * b1 - n12 * b2) / determinant, (a11 * b2 - n12 * b1) / determinant
        ridge = max(10 * ridge, LEAST_RIDGE)


def assign(w: F64, a1: float, a2: float) -> tuple[F64, F64]:
    """The best pair for every entry."""
    levels = _FIRST * a1 + _SECOND * a2
    best = np.argmin(np.abs(w[:, None] - levels), axis=1)  # the first of equals
    return _FIRST[best], _SECOND[best]


def fit(w: F64, ridge: float, iterations: int) -> tuple[np.float32, np.float32, F64, F64]:
    """(alpha_1, alpha_2, T_1, T_2) of one group.

    >>> a1, a2, t1, t2 = fit(np.array([3.0, 1, -1, -3]), 0.0, 50)
    >>> float(a1), float(a2), (a1 * t1 + a2 * t2).tolist()
    (2.0, 1.0, [3.0, 1.0, -1.0, -3.0])
    """
    start = np.where(w < 0, -1.0, 1.0)
    planes, a1, a2 = (start, start), 0.0, 0.0
    for _ in range(iterations):
        a1, a2 = ordered(*solve(w, planes, ridge))
        chosen = assign(w, a1, a2)
        if np.array_equal(chosen[0], planes[0]) and np.array_equal(chosen[1], planes[1]):
            break
        planes = chosen
    alpha1, alpha2 = np.float32(a1), np.float32(a2)
    return alpha1, alpha2, *assign(w, float(alpha1), float(alpha2))


def ordered(a1: float, a2: float) -> tuple[float, float]:
    """Magnitudes, the larger first; `assign` gives the planes that belong to them."""
    a1, a2 = abs(a1), abs(a2)
    return (a1, a2) if a1 >= a2 else (a2, a1)


def trit_plane_scales(x: NDArray[np.float32], block: tuple[int, int], scale: Scale) -> BlockScales:
    """Both planes of `x` [R, C]: the first as the scales' elements, the second in `residual`."""
    (rows, columns), (br, bc) = x.shape, block
    grid = (-(-rows // br), -(-columns // bc))
    alphas = np.zeros((2, *grid), np.float32)
    planes = np.zeros((2, rows, columns), np.float32)
    for i, j in np.ndindex(*grid):
        cut = np.s_[i * br : (i + 1) * br, j * bc : (j + 1) * bc]
        part = x[cut]
        if not np.isfinite(part).all():
            alphas[:, i, j] = np.nan
            continue
        alphas[0, i, j], alphas[1, i, j], first, second = fit(part.astype(np.float64).reshape(-1), scale.ridge, scale.iterations)
        planes[0][cut], planes[1][cut] = first.reshape(part.shape), second.reshape(part.shape)
    made = [BlockScales(stored(a, "float32"), a, a, "divide", elements=t) for a, t in zip(alphas, planes, strict=True)]
    return BlockScales(made[0].codes, alphas[0], alphas[0], "divide", elements=planes[0], residual=made[1])

r"""Minimum and maximum: codes 0 .. n of an unsigned integer format span the block's own range, $\hat x = q / S + m$.

The scheme of compressed activations (ActNN, GACT, EXACT): zero need not be in the range, and the offset m is a number, not a code. float32, in
this order, over the block without padding, an end that is zero as +0::

    m, M              extremes: min x, max x of the block     symmetric: -max|x|, max|x|
                      rows: the means of the rows' min x and of their max x (one block; the defined sum of float32, divided by their number)
    S  = n / ((M - m) + eps)                n = the format's largest integer; FLT_MAX where that is infinite (a constant block with eps 0)
    u  = (x - m) * S
    q  = clamp(round(u), 0, n)              round: the quantizer's
    S' = cast(S),  m' = cast(m)             nearest even to the scale's format (float32: as they are)
    x^ = fl32(fl32(q / S') + m')

Scale codes: S', and behind them m'. The values are these float32 numbers; they are no product of element and scale, so that a matrix
product takes the values. Stochastic rounding: E[x^] = x up to the roundings of S' and m' (bfloat16: 2^-9 relative each).
symmetric is DoReFa-Net's gradient quantizer: 2^k values without a zero among them, evenly spaced from -max|x| to max|x|. rows is the range of
Banner et al.: single outliers are clipped, the error of all others is smaller.

Zero or constant block: q = 0, x^ = m'. NaN or infinity: S = NaN, the block decodes to NaN. Saturation: u may exceed n by one rounding; clamped.
Gradient: straight through; the range is measured, so nothing is clipped.

Source: ucbrise/actnn actnn/actnn/cpp_extension/quantization_cuda_kernel.cu (lines 211-220: n / (max - min + 2e-6); 253: (x - min) * scale;
359: code / scale + min) and ops.py (scale and min kept in bfloat16), commit 843f0dc; the same kernels in LiuXiaoxuanPKU/GACT-ICML (float32 scales);
zirui-ray-liu/Exact exact/exact/ops.py (a row is a block); tensorpack examples/DoReFa-Net/dorefa.py grad_fg (symmetric);
eladhoffer/quantized.pytorch models/modules/quantize.py (rows; eps there is a lower bound of (M - m) / n, 1e-8). Source level: read.
Pitfalls: group padding with zeros (as the sources do) moves min and max of the last group; noise - 0.5 before round-to-nearest is
stochastic rounding up to ties; `affine` forces zero into the range.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import reduce
from lpref.ref.scaling import hindsight
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import FLT_MAX, BlockScales, loaded, stored
from lpref.ref.scaling.statistics import blocked, unblocked


def extremes(x: NDArray[np.float32], block: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(smallest, largest) element of every block, padding left out; NaN wins."""
    grid = tuple(-(-n // b) for n, b in zip(x.shape, block, strict=True))
    if x.size == 0:
        return np.zeros(grid, np.float32), np.zeros(grid, np.float32)
    return _picked(x, block, np.minimum), _picked(x, block, np.maximum)


def _picked(x: NDArray[np.float32], block: tuple[int, int], pick: np.ufunc) -> NDArray[np.float32]:
    """The smallest or the largest element of every block: strips of rows first, then of columns."""
    (rows, columns), (br, bc) = x.shape, block
    strips = x if br == 1 else pick.reduce(x, axis=0, keepdims=True) if br >= rows else pick.reduceat(x, np.arange(0, rows, br), axis=0)
    if bc == 1:
        return np.array(strips)
    whole = bc >= columns
    found: NDArray[np.float32] = pick.reduce(strips, axis=1, keepdims=True) if whole else pick.reduceat(strips, np.arange(0, columns, bc), axis=1)
    return found


def spanned(x: NDArray[np.float32], block: tuple[int, int], span: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The range of every block; an end that is zero is +0."""
    if span == "rows" and x.size:
        low, high = extremes(x, (1, x.shape[1]))
        return reduce.tree_mean(low.reshape(-1)).reshape(1, 1), reduce.tree_mean(high.reshape(-1)).reshape(1, 1)
    low, high = extremes(x, block)
    if span == "symmetric":
        high = np.maximum(-low, high)
        low = -high
    return low + np.float32(0), high + np.float32(0)


def minmax_scales(
    x: NDArray[np.float32], block: tuple[int, int], n: float, scale: Scale, ends: tuple[NDArray, NDArray] | None = None
) -> BlockScales:
    """Scales, offsets, and the elements u. ends: (low, high) of the grid, where they are known beforehand.

    >>> made = minmax_scales(np.float32([[1, 2, 4]]), (1, 3), 3.0, Scale("minmax"))
    >>> made.elements.tolist(), made.values.tolist()
    ([[0.0, 1.0, 3.0]], [[1.0]])
    """
    s, low, more = levels(x, block, n, scale, ends)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        u = (blocked(x, block) - low[:, None, :, None]) * s[:, None, :, None]
        u = np.where(np.isnan(s)[:, None, :, None], np.float32(0), u)
    return BlockScales(more[0], loaded(more[0], scale.format), s, "multiply", elements=unblocked(u, x.shape), more=(more[1],))


def levels(
    x: NDArray[np.float32], block: tuple[int, int], n: float, scale: Scale, ends: tuple[NDArray, NDArray] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[NDArray, NDArray]]:
    """(S, m, stored codes of both) of every block."""
    low, high = spanned(x, block, scale.span) if ends is None else ends
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        s = np.minimum(np.float32(n) / ((high - low) + np.float32(scale.eps)), FLT_MAX)
        s = np.where(np.isfinite(low) & np.isfinite(high), s, np.float32(np.nan)).astype(np.float32)
    offset = np.where(np.isnan(s), np.float32(0), low).astype(np.float32)
    return s, np.asarray(low, np.float32), (stored(s, scale.format), stored(offset, scale.format))


def known_ends(scale: Scale, state: Mapping[str, Any] | None) -> tuple[NDArray, NDArray] | None:
    """The range that a state has seen before, on the grid of one block; None where it has none, or the rule no memory."""
    if scale.history != "hindsight" or state is None or not hindsight.known(state):
        return None
    return np.full((1, 1), state["low"], np.float32), np.full((1, 1), state["high"], np.float32)


def from_minmax(q: NDArray, s: NDArray, m: NDArray) -> NDArray[np.float64]:
    """The values of codes q under S' and m', one of each an element; float32 numbers in float64.

    >>> from_minmax(np.float64([[0, 3]]), np.float32([[1.5]]), np.float32([[0.5]])).tolist()
    [[0.5, 2.5]]
    """
    with np.errstate(over="ignore", invalid="ignore"):
        scaled: NDArray = q.astype(np.float32) / np.asarray(s, np.float32) + np.asarray(m, np.float32)
    return scaled.astype(np.float64)

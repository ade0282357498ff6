r"""dynamic8, dynamic8_unsigned: the dynamic tree maps of 8-bit optimizers.

For i = 0 .. 6, n = 2^i cells (2^(i+1) unsigned): the midpoints of n equal cells on [0.1, 1], times 10^(i - 6); mirrored
when signed; then 0 and 1. 256 float32 values, the code is the rank. All arithmetic is float32 in this order,
the boundaries by fused multiply-add (torch.linspace on a CPU with FMA):

    step = (1 - 0.1) / n;    b_j = 0.1 + step j (first half), 1 - step (n - j) (second half)
    v = ((b_j + b_(j+1)) / 2) 10^(i-6)

x goes to the nearest value; ties go down (lower code), as in bitsandbytes' CPU and PyTorch back ends. Its CUDA kernel
sends ties to the even code instead: seven halvings from code 127 leave an even code as pivot, which keeps its ties with
both odd neighbours. `replace(DYNAMIC8, tie="even_code")` is that conversion.
Used on x / absmax of blocks, of 256 elements now and 2048 in older optimizer states: the signed map for the first moment,
the unsigned one for the second.

Facts: 256 distinct values each; signed: -.99296874 .. 1, smallest positive 5.5e-7; unsigned: smallest positive 3.25e-7,
the largest but one .99648.
Gradient: none; optimizer states are not differentiated.

Source: bitsandbytes functional.py create_dynamic_map, csrc/cpu_ops.cpp, backends/default/ops.py, csrc/kernels.cu
dQuantize (read); 8-bit optimizers, arXiv 2110.02861; arXiv 1511.04561.
Pitfalls: the signed map has +1 but not -1 (its smallest value is -.99296874), so a block whose largest magnitude is
negative does not come back exactly; bitsandbytes compares with the float32 rounding of a midpoint, here it is exact.

>>> DYNAMIC8.min, DYNAMIC8.max, DYNAMIC8.encode([-1.0, 0.0, 1.0], overflow="saturate").tolist()
(-0.992968738079071, 1.0, [0, 127, 255])
"""

from __future__ import annotations

import numpy as np

from lpref.ref.formats.codebook import CodebookFormat


def _midpoints(cells: int) -> np.ndarray:
    """Midpoints of `cells` equal cells on [0.1, 1], float32, linspace from both ends."""
    low, high = np.float32(0.1), np.float32(1)
    step = np.float64((high - low) / np.float32(cells))
    j = np.arange(cells + 1, dtype=np.float64)  # 24 + 8 bits: products and sums are exact in float64, rounded once
    bounds = np.where(j < (cells + 1) // 2, low + step * j, high - step * (cells - j)).astype(np.float32)
    return (bounds[:-1] + bounds[1:]) / np.float32(2)


def dynamic_map(signed: bool) -> np.ndarray:
    """The 256 values, ascending float32."""
    parts = [np.float32(10.0 ** (i - 6)) * _midpoints(2**i if signed else 2 ** (i + 1)) for i in range(7)]
    mirrored = [-p for p in parts] if signed else []
    return np.sort(np.concatenate([*parts, *mirrored, np.array([0, 1], np.float32)]))


def _format(name: str, signed: bool, title: str) -> CodebookFormat:
    return CodebookFormat(
        name=name, bits=8, title=title, standard="bitsandbytes functional.py create_dynamic_map; arXiv 2110.02861",
        source_level="read", module=__name__, tie="down", values=tuple(float(v) for v in dynamic_map(signed)),
    )  # fmt: skip


DYNAMIC8 = _format("dynamic8", True, "dynamic tree map, signed")
DYNAMIC8_UNSIGNED = _format("dynamic8_unsigned", False, "dynamic tree map, unsigned")

r"""Range batch normalization: the deviation of a channel estimated from ranges, which needs no squares.

x [N, C, ...] as C rows of B values (samples first); each row in k chunks of n = B / k consecutive values::

    mean  = mean of the row
    range = mean over chunks of max - mean over chunks of min
    sigma = range c,   c = 0.175 (1 + sqrt(pi ln 4)) / sqrt(2 ln n)
    y     = (x - mean) * (1 / (sigma + eps)) * weight + bias

float32, in this order, means by the defined sum; c is computed in float64 and rounded once. For Gaussian values sigma is 0.92, 0.94, 0.96 of the
deviation at n = 256, 1024, 4096: an estimate, not an identity. In training; at evaluation the published code uses running means of mean and
1 / sigma.

Errors: ShapeError where k does not divide B or n < 2. Constant channel: y = bias. NaN and infinity spread over their channel.
Source: arXiv 1805.11046, sec. 3; eladhoffer/quantized.pytorch models/modules/quantize.py RangeBN, without its quantizers. Source level: read.
Pitfalls: chunks are cut from the batch in its order, so the estimate changes with it; the running buffer named variance holds 1 / sigma.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lpref.ref import reduce
from lpref.ref.errors import ShapeError


def range_batch_norm(
    x: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32], chunks: int = 16, eps: float = 1e-5
) -> NDArray[np.float32]:
    """y of x [N, C, ...].

    >>> x = np.float32([[0.0], [2.0], [0.0], [2.0]])
    >>> range_batch_norm(x, np.float32([1]), np.float32([0.5]), chunks=2).shape
    (4, 1)
    """
    channels = x.shape[1]
    rows = np.ascontiguousarray(np.moveaxis(x, 1, 0)).reshape(channels, -1)
    check_chunks(rows.shape[1], chunks)
    cut = rows.reshape(channels, chunks, -1)
    spread = reduce.tree_mean(np.max(cut, axis=2)) - reduce.tree_mean(np.min(cut, axis=2))
    inverse = np.float32(1) / (spread * np.float32(constant(cut.shape[2])) + np.float32(eps))
    shape = (1, channels, *([1] * (x.ndim - 2)))
    centered = x - reduce.tree_mean(rows).reshape(shape)
    return np.asarray(centered * inverse.reshape(shape) * weight.reshape(shape) + bias.reshape(shape))


def check_chunks(values: int, chunks: int) -> None:
    """Raise ShapeError where a channel's values are not `chunks` equal chunks of two or more."""
    if values % chunks or values // chunks < 2:
        raise ShapeError(f"{values} values of a channel in {chunks} chunks", where="range_batch_norm", remedy="use equal chunks of 2 or more")


def constant(n: int) -> float:
    """c of chunks of n values.

    >>> round(constant(1024), 6)
    0.145089
    """
    fours, logarithm = math.log(4), math.log(n)  # exact: a float64 constant of the host, rounded once to float32
    return 0.175 * (1 + math.sqrt(math.pi * fours)) / math.sqrt(2 * logarithm)

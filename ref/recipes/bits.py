r"""Bits of every tensor of a training step by analysis: the five criteria of per-tensor fixed point.

From a run in float, per layer: E_w, E_a the noise gains of weights and activations (how much quantization noise of unit variance moves the output),
sigma_max, sigma_min the largest and smallest deviation over the run of the gradients of weights and of activations (kept as a running mean with
factor rho, whose correction is 1 / sqrt(1 - rho)), lambda the largest singular value of the Jacobian from activation to weight gradient::

    forward      B_i = B + round(log2 sqrt(E_i / min E))                    noise gains equalized, B for the smallest
    gradients    range = 2^ceil(log2(k sigma_max / sqrt(1 - rho)))          k = 2 weights, 8 activations: clipped at a small multiple of sigma
    dW           step  = 2^floor(log2(sigma_min / 4))                       bias of quantization small against sigma
    dA           step  = 2^floor(log2(step_dW / sqrt(lambda)))              noise that reaches dW is below that of dW itself
    accumulator  step  = 2^floor(log2(lr_min range_dW 2^(1 - B_dW)))        the smallest update is seen; its range is that of a step of the weight
    bits         B = log2(range / step) + 1

All powers of two; log2 of a number from its exponent bits, so that an exact power is its own ceiling and floor.

Source: charbel-sakr/Fixed-Point-Training train-baseline/determinDR.py, determineGWLSB.py, determineAGLSB.py, determineGWprecision.py,
train-internal/determineAccPrecision.py, FFanalysis/precision_offset.py; arXiv 1812.11732. Source level: read (the code).
Pitfalls: activations' gradients have heavier tails, so k is 8 for them; the statistics are those of the whole run, not of its end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

WEIGHT_REACH, ACTIVATION_REACH = 2.0, 8.0


def forward_bits(gains: Sequence[float], least: int) -> list[int]:
    """Bits of weights (or activations) of each layer, `least` for the smallest noise gain; round half to even.

    >>> forward_bits([0.01, 0.16, 0.05], 6)
    [6, 8, 7]
    """
    smallest = min(gains)
    return [least + round(math.log2(math.sqrt(gain / smallest))) for gain in gains]  # exact: a count of bits for people


def gradient_range(sigma_max: float, reach: float = WEIGHT_REACH, rho: float = 0.9) -> float:
    """The power of two at which a gradient is clipped.

    >>> gradient_range(0.01), gradient_range(0.01, ACTIVATION_REACH)
    (0.125, 0.5)
    """
    return power(reach * (sigma_max / math.sqrt(1.0 - rho)), up=True)


def weight_gradient_step(sigma_min: float) -> float:
    """The step of dW.

    >>> weight_gradient_step(1e-3) == 2.0 ** -12
    True
    """
    return power(0.25 * sigma_min, up=False)


def activation_gradient_step(step: float, singular: float) -> float:
    """The step of an activation's gradient, from that of the layer's dW and the largest singular value.

    >>> activation_gradient_step(0.25, 4.0)
    0.125
    """
    return power(step / math.sqrt(singular), up=False)


def accumulator_step(lr_min: float, reach: float, bits: int) -> float:
    """The step of the stored weight: the least update, lr times a step of dW.

    >>> accumulator_step(1e-3, 0.25, 11) == 2.0 ** -22
    True
    """
    return power(lr_min * reach * 2.0 ** (1 - bits), up=False)


def precision(reach: float, step: float) -> int:
    """Bits of a signed fixed-point number with this range and step, both powers of two.

    >>> precision(0.25, 2.0 ** -12)
    11
    """
    return math.frexp(reach)[1] - math.frexp(step)[1] + 1


def power(x: float, up: bool) -> float:
    """x > 0 rounded up or down to a power of two.

    >>> power(0.3, True), power(0.3, False), power(0.25, True)
    (0.5, 0.25, 0.25)
    """
    mantissa, exponent = math.frexp(x)
    return math.ldexp(1.0, exponent - (1 if not up or mantissa == 0.5 else 0))

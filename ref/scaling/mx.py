r"""OCP microscaling: one power of two per block of 32 along k, $X = 2^e$, $P_i = \mathrm{cast}(x_i / X)$.

With $\mathrm{amax} = 2^p (1 + f)$, the element format's largest value $t = 2^{e_{max}} m$ and M trailing significand bits::

    floor   e = p - emax                                    the rule of OCP MX v1.0, the default
    ceil    e = p - emax + (f > 0)
    even    e = p' - emax, p' the exponent of amax after rounding it half up to M bits: one more where 1 + f >= 2 - 2^-(M+1)
    rceil   e = ceil(log2(r)), r = fl32(amax * fl32(1 / t))   NVIDIA (cvt.rp): never saturates
    tetrajet e = ceil(log2(r)), r = fl32(amax / t)            truncation-free: |x / X| <= t, so stochastic rounding is unbiased
    midmax  e = p - emax + (1 + f >= (m + 2) / 2)             up where the next power of two is nearer to amax / X than t

then e is clamped to [-127, 127]; the stored E8M0 code is e + 127. p and f come from frexp, never from a logarithm. Elements, float32::

    u = x / X                       X is a power of two
    u = u * multiplier              where it is not 1: 3/4 makes floor + stochastic rounding unbiased (|u| <= 6); the tensor scale is
                                    then fl32(1 / multiplier). MXINT8 is int8 codes with multiplier 64 and t = 127/64.

Zero block: e = -127, zero codes, in every mode (microxcaling's INT8 stores -126: the exponent of the least normal number). NaN or infinity in
the block: code 0xFF, codes of zero, the block decodes to NaN (torchao after 0.18, microxcaling). `nonfinite: saturate` is torchao 0.18 and
TransformerEngine: infinity counts as 2^128, its scale is finite (E4M3: 247 by floor, 254 by rceil) and the element saturates; NaN still takes
the whole block. `nonfinite: ignore`: statistics over the finite elements, infinity saturates.
Saturation: floor clips where 1 + f > m (E4M3: 1.75, E2M1: 1.5, at worst 12.5 % and 25 %); even clips from there up to its threshold; ceil and rceil
never. floor <= even <= ceil and floor <= rceil <= ceil.
Gradient: straight through. Blocks run along the contraction axis, so dgrad and wgrad quantize again along theirs: Q(W)^T is not Q(W^T).
Left to implementations by the specification: other scale rules, the element rounding (nearest even must exist), NaN and infinite inputs, X of a zero
block, the order and precision of dot products, layouts.

Source: OCP Microscaling Formats (MX) v1.0 sec. 5.1, 5.4 and 6.3; pytorch/ao torchao/prototype/mx_formats/mx_tensor.py (modes);
NVIDIA/TransformerEngine common/cast/mxfp8/quantize_mxfp8.cuh (rceil); arXiv 2502.20586 (3/4; in a product of two such operands the paper
multiplies by 16/9); thu-ml/TetraJet-MXFP4Training quantization/QuantizerFP_torch.py, arXiv 2502.20853 (tetrajet); Xilinx/brevitas pull
request 1409 (midmax, after its description: the threshold halfway between the largest value and the next power of two is our reading);
measured tables in tests/ref/scaling/test_mx.py.
Source level: read; midmax after a description.
Pitfalls: even still clips (E4M3: 1.75 < 1 + f < 1.9375); x 2^-e in place of x / X must survive e = -127, where 2^-e is 2^127, and e = 127, where it
is subnormal; microxcaling's `nearest` is ties away; ceil(log2(amax / 6)) by a floating-point logarithm is off by one near amax = 6 2^k; SR coded as
round(x + U(-1/2, 1/2)) is SR up to ties; float32 floor(log2 x) is wrong just below a power of two; exponent(amax / 6) is not exponent(amax) - 2;
rounding amax to bf16 first crosses thresholds; 4/3 is not a float32 number: fl32(4/3) is part of the definition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales


def shared_exponent(amax: NDArray[np.float32], mode: str, target: float, trailing_bits: int) -> NDArray[np.int32]:
    """Exponent e in [-127, 127] of every block; meaningless where amax is not finite.

    >>> [int(shared_exponent(np.float32(449), mode, 448.0, 3)) for mode in ("floor", "even", "ceil", "rceil")]
    [0, 0, 1, 1]
    """
    emax = int(np.frexp(target)[1]) - 1
    if mode in ("rceil", "tetrajet"):
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = np.float32(amax) * (np.float32(1) / np.float32(target)) if mode == "rceil" else np.float32(amax) / np.float32(target)
        half, exponent = np.frexp(ratio)
        e = np.where(ratio == 0, -127, exponent - (half == 0.5))  # the product of a tiny amax may underflow
    else:
        half, exponent = np.frexp(np.float32(amax))  # amax = 2 half * 2^(exponent - 1)
        threshold = {
            "floor": np.inf, "ceil": np.nextafter(np.float32(0.5), np.float32(1)), "even": 1 - 2.0 ** -(trailing_bits + 2),
            "midmax": (np.ldexp(target, -emax) + 2) / 4,
        }[mode]  # fmt: skip
        e = exponent - 1 - emax + (half >= threshold)
    return np.where(np.asarray(amax) == 0, -127, np.clip(e, -127, 127)).astype(np.int32)


def mx_scales(amax: NDArray[np.float32], target: float, trailing_bits: int, scale: Scale) -> BlockScales:
    """Scales of blocks with these `amax`; E8M0 codes."""
    e = shared_exponent(amax, scale.mode, target, trailing_bits)
    good = np.isfinite(amax)
    if scale.nonfinite == "saturate":
        emax = int(np.frexp(target)[1]) - 1
        e = np.where(np.isinf(amax), 127 if scale.mode in ("rceil", "tetrajet") else min(128 - emax, 127), e)
        good = ~np.isnan(amax)
    codes = np.where(good, e + 127, 255).astype(np.uint8)
    values = np.where(good, np.ldexp(np.float32(1), e), np.float32(np.nan)).astype(np.float32)
    return BlockScales(codes, values, values, "divide", np.float32(1) / np.float32(scale.multiplier))

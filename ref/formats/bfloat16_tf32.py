r"""bfloat16 and TF32: binary32's exponent with fewer trailing bits.

    bfloat16 = E8M7, the top 16 bits of binary32;     max (2 - 2^-7) 2^127, min subnormal 2^-133
    TF32     = E8M10, 19 bits used, stored in 32;     max (2 - 2^-10) 2^127, min subnormal 2^-136

bfloat16 by nearest even in integers: u + 7FFF + ((u >> 16) & 1), >> 16; NaN apart, (u >> 16) | 0040 without the addition:
cut off, 7F800001 would be infinity, and the carry takes the payload of ones 7FFFFFFF to -0. Payloads are not kept here.
TF32's codes here are the 19 bits, right-aligned. Explicit conversion to TF32 on NVIDIA GPUs is `nearest_away` (cvt.rna:
(u + 1000) & FFFFE000; newer ones also have cvt.rn, nearest_even), raw float32 fed to a TF32 mma is `toward_zero` (u &
FFFFE000); both are named at the call; `encode` defaults to nearest_even, which differs from nearest_away on the ties
that have an even lower neighbour and nowhere else.
Gradient: the identity.

Source: bfloat16: ml_dtypes README (enumerated). TF32: NVIDIA/cutlass include/cutlass/tfloat32.h (round_half_ulp_truncate:
finite u + 1000, the low 13 bits are don't-care) and numeric_conversion.h (cvt.rn.tf32.f32); truncation microsoft/MMA-Sim
simulator/arithmetic.py; cvt.rna.tf32.f32 in CUDA 13, crt/mma.h __float_to_tf32; PTX ISA, cvt (a copy of the page):
".rna: rounding to nearest, with ties away from zero". All read.
Pitfalls: 256 + 1 = 256 in bfloat16, sums stall (at 2048 in binary16); libraries differ on flushing subnormals, here none
are flushed; float64 to bfloat16 through float32 rounds twice.

>>> float(BFLOAT16.round(np.float32(257)))
256.0
>>> float(TF32.round(1 + 2.0**-11)), float(TF32.round(1 + 2.0**-11, "nearest_away"))
(1.0, 1.0009765625)
"""

from __future__ import annotations

import numpy as np  # noqa: F401  (the doctest)

from lpref.ref.formats.floats import exmy

BFLOAT16 = exmy(
    "bfloat16", 8, 7, title="bfloat16 (E8M7)", standard="the upper half of IEEE 754 binary32; ml_dtypes bfloat16",
    source_level="read", module=__name__,
)  # fmt: skip
TF32 = exmy(
    "tf32", 8, 10, title="TensorFloat-32 (E8M10)", source_level="read",
    standard="NVIDIA TF32; NVIDIA/cutlass tfloat32.h; microsoft/MMA-Sim simulator/arithmetic.py", module=__name__,
)  # fmt: skip

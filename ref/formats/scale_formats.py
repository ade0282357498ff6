r"""e8m0, ue4m3, ue5m3: formats of scales.

    e8m0:  2^(c - 127), c = 0 .. 254; 255 = NaN; no sign, no zero
    ue4m3: e4m3 without its sign, 7 bits (stored in 8), NaN 7F
    ue5m3: unsigned, 5 exponent and 3 trailing bits, bias 15, read like e4m3: only FF is NaN, no infinity, max 114688

e8m0 roundings: `toward_positive` is cvt.rp (what TransformerEngine uses), `toward_zero` is cvt.rz, `nearest_even`
(the default of every format here) breaks ties **up** (1.5 -> 2, 3 -> 4), as ml_dtypes and torch do. Values
0 < x < 2^-127 become 2^-127 in every rounding. Zero and negative values are outside the range: under `saturate` they
become 2^-127, under `ml_dtypes` NaN, under `raise` an error; `torch` and `cuda_satfinite` drop the sign and send 0 to
2^-127. Beyond 2^127: `saturate` gives FE, `ocp_nonsat` FF.
Gradient: none; scales are measured, and no gradient goes through them.

Source: OCP MX v1.0, sec. 5.4.1, table 7 (E8M0, read); PTX cvt ue8m0x2 as in TransformerEngine common/util/ptx.cuh and CUDA 13's
cuda_fp8.hpp; the negative and zero rows measured with ml_dtypes 0.6 and torch 2.13. ue5m3: CUDA Math API 13.4,
__nv_fp8_ue5m3 (read: "no sign, 5 exponent, 1 implicit and 3 explicit mantissa bits; no infinity, NaN only FF"), its use:
"Elucidating the design space of FP4 training", UE5M3 FP4 block scaling, arXiv 2609.02846.
Pitfalls: code 0 is 2^-127, a float32 subnormal, and so is the reciprocal of code 254: flushing kills both; building
the float by shifting the code gives 0 for code 0 and infinity for 255. gfloat breaks e8m0 ties to even (3 -> 2);
ml_dtypes and torch send 2^-127 < x < 1.5 2^-127 to 2^-126.

>>> E8M0.encode([1.5, 3, 1.1 * 2**-127, 2.0**127 * 1.5]).tolist()
[128, 129, 0, 254]
>>> E8M0.encode([1.5, 1.1 * 2**-127], "toward_positive").tolist(), E8M0.encode([1.5], "toward_zero").tolist()
([128, 1], [127])
>>> E8M0.encode([0.0, -1.0]).tolist(), E8M0.encode([0.0, -1.0], overflow="cuda_satfinite").tolist()
([0, 0], [0, 127])
"""

from __future__ import annotations

from lpref.ref.formats.floats import FloatFormat

E8M0 = FloatFormat(
    name="e8m0", bits=8, title="E8M0 power-of-two scale", standard="OCP Microscaling Formats (MX) v1.0, sec. 5.4",
    source_level="read", module=__name__, tie="up", exponent_bits=8, trailing_bits=0, bias=127, is_signed=False,
    subnormals="none", zero="absent", specials="fn",
)  # fmt: skip
UE4M3 = FloatFormat(
    name="ue4m3", bits=7, title="E4M3 without sign", standard="OCP OFP8 rev. 1.0, sec. 5.1, sign 0 (CUDA_R_8F_UE4M3)",
    source_level="read", module=__name__, exponent_bits=4, trailing_bits=3, bias=7, is_signed=False,
    zero="unsigned", specials="fn",
)  # fmt: skip
UE5M3 = FloatFormat(
    name="ue5m3", bits=8, title="UE5M3 scale", source_level="read", module=__name__,
    standard="CUDA Math API 13.4, __nv_fp8_ue5m3",
    exponent_bits=5, trailing_bits=3, bias=15, is_signed=False, zero="unsigned", specials="fn",
)  # fmt: skip

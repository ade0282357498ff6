r"""e4m3, e5m2: the two FP8 formats of OCP (OFP8).

    e4m3: bias 7, no infinity, NaN only S.1111.111, so that exponents of all ones carry values up to 448
    e5m2: bias 15, like IEEE: infinities 7C FC, NaN 7D-7F FD-FF, max 57344 = 1.75 2^15

Conversion: round first (to nearest even), then the policy. `ocp_sat` (= the default `saturate`): beyond max and
infinity -> max with the sign. `ocp_nonsat`: e5m2 -> infinity, e4m3 -> NaN. NaN -> NaN in both. -0 is kept.
NVIDIA's satfinite is the saturating one (`cuda_satfinite`), __NV_NOSAT the other (`cuda_nosat`).
Use: e4m3 in the forward pass and e5m2 for gradients in hybrid recipes; e4m3 everywhere in DeepSeek-V3's and in MXFP8
recipes. Gradient: straight through; the clipped variant is zero where |x| > max.

Source: OCP 8-bit floating point specification (OFP8) rev. 1.0, sec. 5.1 (tables 1, 2) and 5.2 (table 3), read; its list of
abbreviations (sec. 4.2) swaps the two biases. ONNX docs/technical/float8 and CUDA 13's cuda_fp8.hpp agree.
Pitfalls: to saturate with a non-saturating cast, clamp before it (a clamp built from min and max may lose NaN).
449 .. 464 -> 448 is rounding; overflow begins above 464 (464 is a tie and goes to the even code 7E).
ml_dtypes never saturates; torch saturates e4m3 since 2.13, but not e5m2 nor the FNUZ formats. NaN's sign differs
between implementations: do not test it (here: 7F, and 7E in e5m2, where CUDA's headers give 7F).

>>> [float(v) for v in E4M3.round([464.0, 464.0001, 2**-10, 1.5 * 2**-10])]
[448.0, 448.0, 0.0, 0.001953125]
>>> [hex(c) for c in E4M3.encode([464.0, 464.0001, float("inf")], overflow="ocp_nonsat").tolist()]
['0x7e', '0x7f', '0x7f']
>>> [float(v) for v in E5M2.round([61439.0, 61440.0], overflow="ocp_nonsat")]
[57344.0, inf]
"""

from __future__ import annotations

from lpref.ref.formats.floats import exmy

_STANDARD = "OCP 8-bit floating point (OFP8) rev. 1.0, sec. 5"
E4M3 = exmy(
    "e4m3", 4, 3, specials="fn", title="OCP FP8 E4M3 (FN)", standard=_STANDARD, source_level="read",
    module=__name__,
)  # fmt: skip
E5M2 = exmy("e5m2", 5, 2, title="OCP FP8 E5M2", standard=_STANDARD, source_level="read", module=__name__)

r"""Conversions to e8m0 as libraries do them: one format, seven results for the same float32.

| name              | x = 1.5, 3      | x <= 0            | 2^-127 < x < 1.5 2^-127 | 1.5 2^127       | infinity | NaN |
|-------------------|-----------------|-------------------|-------------------------|-----------------|----------|-----|
| ml_dtypes        | 2, 4 (ties up)  | NaN               | 2^-126                  | NaN             | NaN      | NaN |
| torch            | 2, 4 (ties up)  | 0: 2^-127, x: |x| | 2^-126                  | NaN             | NaN      | NaN |
| gfloat           | 2, 2 (to even)  | outside (see *)   | 2^-127                  | 2^127           | NaN      | NaN |
| cuda_rz          | 1, 2 (truncate) | 0: 2^-127, x: |x| | 2^-127                  | 2^127           | NaN      | NaN |
| cuda_rp          | 2, 4 (up)       | 0: 2^-127, x: |x| | 2^-126                  | NaN             | NaN      | NaN |
| cuda_rz_satfinite| 1, 2 (truncate) | 0: 2^-127, x: |x| | 2^-127                  | 2^127           | 2^127    | NaN |
| cuda_rp_satfinite| 2, 4 (up)       | 0: 2^-127, x: |x| | 2^-126                  | 2^127           | 2^127    | NaN |

Each is a rounding and an overflow policy of this library, and where they need it a tie rule of the format and the one
deviation that neither can say (`lifts_subnormals`: what is above 2^-127 and below the midpoint becomes 2^-126, since the
conversion works on the exponent field of a subnormal float32). TransformerEngine's is cuda_rp_satfinite.

(*) gfloat rounds with an exponent that is unbounded below: its round_float returns 2^-128, 0 or -1, no values of e8m0,
and its encode_float then says FF; with `saturate` in place of NaN above the range (sat=True). Here those inputs get NaN
(below 2^-127 / sqrt(2) nothing is claimed).

Source: ml_dtypes 0.6, torch 2.13 and gfloat 0.5.2 (issue 62), measured over float32; CUDA 13 cuda_fp8.hpp
__nv_cvt_float_to_e8m0, compiled for the host; PTX cvt.rz, cvt.rp of .ue8m0x2; TransformerEngine common/util/ptx.cuh.
Source level: read.
Pitfalls: to round a block scale to nearest makes half of all blocks saturate; truncating it too; only rp does not.

>>> import numpy as np
>>> x = np.float32([1.5, 3.0, 0.0, -1.0, 1.1 * 2**-127, 1.5 * 2.0**127])
>>> for name in ("ml_dtypes", "torch", "gfloat", "cuda_rz", "cuda_rp_satfinite"):
...     print(name, E8M0_CASTS[name].encode(x).tolist())
ml_dtypes [128, 129, 255, 255, 1, 255]
torch [128, 129, 0, 127, 1, 255]
gfloat [128, 128, 255, 255, 0, 254]
cuda_rz [127, 128, 0, 127, 0, 254]
cuda_rp_satfinite [128, 129, 0, 127, 1, 254]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lpref.ref.formats.exact_input import as_float64
from lpref.ref.formats.scale_formats import E8M0


@dataclass(frozen=True)
class ScaleCast:
    """A conversion of float32 to e8m0."""

    name: str
    rounding: str
    overflow: str
    source: str
    tie: str = "up"
    lifts_subnormals: bool = False

    def encode(self, x: Any) -> np.ndarray:
        """Reals -> uint8 codes."""
        x = as_float64(x, f"{self.name}.encode")
        codes = replace(E8M0, tie=self.tie).encode(x, self.rounding, self.overflow)
        if not self.lifts_subnormals:
            return codes
        a = np.abs(x) if self.overflow == "torch" else x
        return np.where((a > 2.0**-127) & (a < 2.0**-126), np.uint8(1), codes)


_CUDA = "CUDA 13 cuda_fp8.hpp, __nv_cvt_float_to_e8m0"
E8M0_CASTS: dict[str, ScaleCast] = {
    c.name: c
    for c in (
        ScaleCast("ml_dtypes", "nearest_even", "ml_dtypes", "ml_dtypes 0.6, measured", lifts_subnormals=True),
        ScaleCast("torch", "nearest_even", "torch", "torch 2.13 on CPU, measured", lifts_subnormals=True),
        ScaleCast("gfloat", "nearest_even", "ocp_nonsat", "gfloat 0.5.2, sat=False, measured", tie="even_code"),
        ScaleCast("cuda_rz", "toward_zero", "cuda_nosat", _CUDA),
        ScaleCast("cuda_rp", "toward_positive", "cuda_nosat", _CUDA),
        ScaleCast("cuda_rz_satfinite", "toward_zero", "cuda_satfinite", _CUDA),
        ScaleCast("cuda_rp_satfinite", "toward_positive", "cuda_satfinite", _CUDA),
    )
}

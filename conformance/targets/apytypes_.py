"""APyTypes: floats and fixed point of any width in C++. `APyFloatArray.from_array(x, 11, 52).cast(E, M, quantization=mode).to_bits()`.

IEEE specials only: its E4M3 is `e4m3_ieee`, its E2M1 has infinities. Overflow to infinity (preset `ocp_nonsat`).
"""

from __future__ import annotations

import numpy as np

from lpref.conformance.targets.base import Case, CastCase, Target

FORMATS = {"e4m3_ieee": (4, 3), "e5m2": (5, 2), "e3m4": (3, 4), "e2m1": (2, 1), "binary16": (5, 10), "bfloat16": (8, 7)}
ROUNDINGS = {
    "nearest_even": "TIES_EVEN", "nearest_away": "TIES_AWAY", "nearest_toward_zero": "TIES_ZERO", "toward_zero": "TO_ZERO",
    "toward_positive": "TO_POS", "toward_negative": "TO_NEG", "to_odd": "JAM_UNBIASED",
}  # fmt: skip


class Apytypes(Target):
    name = "apytypes"
    title = "APyTypes: any float and fixed point, C++ arrays"
    package = "apytypes"
    notes = "IEEE specials; all deterministic roundings; overflow=ocp_nonsat"

    def cases(self) -> tuple[Case, ...]:
        plain = [CastCase(f, overflow="ocp_nonsat", input=i) for f in FORMATS for i in ("float32", "float64")]
        modes = [CastCase(f, r, "ocp_nonsat") for r in ROUNDINGS if r != "nearest_even" for f in ("e4m3_ieee", "e5m2", "e3m4")]
        return (*plain, *modes)

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        import apytypes

        exponent, trailing = FORMATS[case.format]
        mode = getattr(apytypes.QuantizationMode, ROUNDINGS[case.rounding])
        exact = apytypes.APyFloatArray.from_array(x.astype(np.float64), exp_bits=11, man_bits=52)
        codes = exact.cast(exp_bits=exponent, man_bits=trailing, quantization=mode).to_bits(numpy=True)
        return np.asarray(codes).astype(np.uint8 if exponent + trailing < 8 else np.uint16)

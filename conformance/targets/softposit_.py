"""SoftPosit (C, through SWIG): posit8 (es 0), posit16 (es 1), posit32 (es 2), one number at a time. `convertDoubleToP8(x).v`.

The definitions before the 2022 standard: `posit8_0`, `posit16_1`.
"""

from __future__ import annotations

import numpy as np

from lpref.conformance.targets.base import Case, CastCase, Target

FORMATS = {"posit8_0": "convertDoubleToP8", "posit16_1": "convertDoubleToP16"}


class Softposit(Target):
    name = "softposit"
    title = "SoftPosit: posits in C"
    package = "softposit"
    notes = "nearest even on the bit string, never to zero or NaR"

    def cases(self) -> tuple[Case, ...]:
        return tuple(CastCase(f, overflow="posit") for f in FORMATS)

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        import softposit

        convert = getattr(softposit, FORMATS[case.format])
        return np.array([convert(float(v)).v for v in x], np.uint8 if case.format == "posit8_0" else np.uint16)

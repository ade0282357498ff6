"""SoftPosit (C, through SWIG): posit8 (es 0), posit16 (es 1), posit32 (es 2), one number at a time. `convertDoubleToP8(x).v`.

posit8 and posit16 are those before the 2022 standard: `posit8_0`, `posit16_1`; `convertDoubleToPX2(x, n)` gives es 2 in n bits, on top of 32.
"""

from __future__ import annotations

import numpy as np

from lpref.conformance.targets.base import Case, CastCase, Target

FORMATS = {"posit8_0": "convertDoubleToP8", "posit16_1": "convertDoubleToP16", "posit8_2": "PX2", "posit16_2": "PX2"}


class Softposit(Target):
    name = "softposit"
    title = "SoftPosit: posits in C"
    package = "softposit"
    notes = "nearest even on the bit string, never to zero or NaR"

    def cases(self) -> tuple[Case, ...]:
        return tuple(CastCase(f, overflow="posit") for f in FORMATS)

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        import softposit

        bits = 8 if case.format.startswith("posit8") else 16
        dtype = np.uint8 if bits == 8 else np.uint16
        if FORMATS[case.format] == "PX2":
            return np.array([softposit.convertDoubleToPX2(float(v), bits).v >> (32 - bits) for v in x], dtype)
        convert = getattr(softposit, FORMATS[case.format])
        return np.array([convert(float(v)).v for v in x], dtype)

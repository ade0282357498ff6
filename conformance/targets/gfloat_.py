"""gfloat: generic floats in NumPy (Graphcore Research). `encode_ndarray(fi, round_ndarray(fi, x, rounding, sat, words, bits))`.

Saturating (`sat=True`) is `saturate`; not saturating is `ocp_nonsat`. Its StochasticFastest, StochasticFast and Stochastic are the variants
A, B and C. The wheel has no round-to-odd. Formats of any width and bias can be made; IEEE and OCP ones are shipped.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

from lpref.conformance.targets.base import Case, CastCase, Target
from lpref.ref.rounding import default_word_bits

FORMATS = {
    "e4m3": "ocp_e4m3", "e5m2": "ocp_e5m2", "e2m3": "ocp_e2m3", "e3m2": "ocp_e3m2", "e2m1": "ocp_e2m1", "e8m0": "ocp_e8m0",
    "bfloat16": "bfloat16", "binary16": "binary16",
}  # fmt: skip
ROUNDINGS = {
    "nearest_even": "TiesToEven", "nearest_away": "TiesToAway", "toward_zero": "TowardZero", "toward_positive": "TowardPositive",
    "toward_negative": "TowardNegative", "stochastic": "StochasticFastest", "stochastic_b": "StochasticFast", "stochastic_c": "Stochastic",
}  # fmt: skip
P3109 = ("p3109_8p3se", "p3109_8p4se", "p3109_8p3sf", "p3109_8p4sf", "p3109_6p3sf", "p3109_4p2sf")
BITS = {"e4m3": 8, "e5m2": 8, "e2m3": 6, "e3m2": 6, "e2m1": 4, "e8m0": 8, "bfloat16": 16, "binary16": 16}


class Gfloat(Target):
    name = "gfloat"
    title = "generic floats in NumPy (Graphcore Research)"
    package = "gfloat"
    notes = "all roundings but to_odd; overflow=saturate or ocp_nonsat; P3109: sat=True is p3109_sat_finite, sat=False p3109_sat_none"

    def cases(self) -> tuple[Case, ...]:
        plain = [CastCase(f, input=i) for f in FORMATS if f != "e8m0" for i in ("float32", "float64")]
        open_ = [CastCase(f, overflow="ocp_nonsat") for f in ("e4m3", "e5m2", "bfloat16", "binary16")]
        modes = [CastCase(f, r) for r in ROUNDINGS if r != "nearest_even" for f in ("e4m3", "e5m2", "e2m1")]
        p3109 = [CastCase(f, overflow=o) for f in P3109 for o in ("p3109_sat_finite", "p3109_sat_none")]
        return (*plain, *open_, *modes, CastCase("e8m0"), *p3109)

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        import gfloat

        fi = info(case.format)
        mode = getattr(gfloat.RoundMode, ROUNDINGS[case.rounding])
        extra: dict[str, Any] = {}
        if words is not None:
            extra = {"srbits": words.astype(np.int64), "srnumbits": case.word_bits or default_word_bits(BITS[case.format])}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # overflows in masked lanes
            rounded = gfloat.round_ndarray(fi, x.astype(np.float64), mode, case.overflow in ("saturate", "p3109_sat_finite"), **extra)
            codes = gfloat.encode_ndarray(fi, rounded)
        return np.asarray(codes).astype(np.uint8 if BITS.get(case.format, 8) <= 8 else np.uint16)


def info(name: str) -> Any:
    """gfloat's description of a format."""
    import gfloat
    import gfloat.formats

    match = re.fullmatch(r"p3109_(\d+)p(\d+)([su])([ef])", name)
    if match:
        k, p, sign, domain = match.groups()
        signedness = gfloat.Signedness.Signed if sign == "s" else gfloat.Signedness.Unsigned
        return gfloat.formats.format_info_p3109(int(k), int(p), signedness, gfloat.Domain.Extended if domain == "e" else gfloat.Domain.Finite)
    return getattr(gfloat.formats, f"format_info_{FORMATS[name]}")

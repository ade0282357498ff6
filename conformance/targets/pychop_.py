"""pychop: `Chop(exp_bits, sig_bits, rmode)(x)` in NumPy, values only; `mx_quantize(x, format, 32)`.

Chop's formats are IEEE-like (infinity beyond the range); its MX follows the floor rule of OCP.
"""

from __future__ import annotations

import re
import warnings

import numpy as np

from lpref.conformance.targets.base import Case, CastCase, QuantizeCase, Target

FORMATS = {"e4m3_ieee": (4, 3), "e5m2": (5, 2), "e3m4": (3, 4), "binary16": (5, 10), "bfloat16": (8, 7)}
ROUNDINGS = {
    "nearest_even": 1, "toward_positive": 2, "toward_negative": 3, "toward_zero": 4, "nearest_toward_zero": 7, "nearest_away": 8, "to_odd": 9,
}  # fmt: skip
P3109 = ("p3109_8p3se", "p3109_8p4se", "p3109_8p3sf", "p3109_8p4sf")
MX = {"mxfp8_e4m3": "mxfp8_e4m3", "mxfp8_e5m2": "mxfp8_e5m2", "mxfp6_e2m3": "mxfp6_e2m3", "mxfp6_e3m2": "mxfp6_e3m2", "mxfp4": "mxfp4_e2m1"}


class Pychop(Target):
    name = "pychop"
    title = "pychop: rounding emulation, NumPy path"
    package = "pychop"
    notes = "Chop: overflow=ocp_nonsat; P3109: p3109_sat_finite, p3109_sat_none; MX: floor"

    def cases(self) -> tuple[Case, ...]:
        plain = [CastCase(f, overflow="ocp_nonsat") for f in FORMATS]
        modes = [CastCase(f, r, "ocp_nonsat") for r in ROUNDINGS if r != "nearest_even" for f in ("e4m3_ieee", "e5m2")]
        p3109 = [CastCase(f, overflow=o) for f in P3109 for o in ("p3109_sat_finite", "p3109_sat_none")]
        return (*plain, *modes, *p3109, *(QuantizeCase(q) for q in MX))

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        import pychop

        pychop.backend("numpy")
        if case.format.startswith("p3109_"):
            k, p, sign, domain = fields(case.format)
            made = pychop.P3109Format(k, p, signed=sign == "s", domain="extended" if domain == "e" else "finite")
            return np.asarray(pychop.p3109_quantize(x.astype(np.float64), made, saturate=case.overflow == "p3109_sat_finite"), np.float64)
        exponent, trailing = FORMATS[case.format]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(pychop.Chop(exponent, trailing, rmode=ROUNDINGS[case.rounding])(x.astype(np.float64)), np.float64)

    def quantize(self, x: np.ndarray, case: QuantizeCase, amax: np.ndarray | None = None, words: np.ndarray | None = None) -> np.ndarray:
        import pychop

        pychop.backend("numpy")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(pychop.mx_quantize(x, MX[case.quantizer], 32), np.float64)


def fields(name: str) -> tuple[int, int, str, str]:
    """K, P, signedness and domain of a P3109 name."""
    k, p, sign, domain = re.fullmatch(r"p3109_(\d+)p(\d+)([su])([ef])", name).groups()  # type: ignore[union-attr]
    return int(k), int(p), sign, domain

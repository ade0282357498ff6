"""ml_dtypes: NumPy dtypes in C++ (JAX, ONNX). `x.astype(T).view(uint)`.

Nearest even only. Overflow is the preset `ml_dtypes`: infinity where the format has one, else NaN, else the largest value. float64 passes
through float32 first.
"""

from __future__ import annotations

import numpy as np

from lpref.conformance.targets.base import INPUTS, Case, CastCase, Target

DTYPES = {
    "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2", "e4m3_ieee": "float8_e4m3", "e3m4": "float8_e3m4", "e4m3fnuz": "float8_e4m3fnuz",
    "e5m2fnuz": "float8_e5m2fnuz", "e4m3b11fnuz": "float8_e4m3b11fnuz", "e8m0": "float8_e8m0fnu", "e2m3": "float6_e2m3fn",
    "e3m2": "float6_e3m2fn", "e2m1": "float4_e2m1fn", "bfloat16": "bfloat16",
}  # fmt: skip


class MlDtypes(Target):
    name = "ml_dtypes"
    title = "NumPy dtypes in C++ (jax-ml)"
    package = "ml_dtypes"
    notes = "nearest even; overflow=ml_dtypes"

    def cases(self) -> tuple[Case, ...]:
        inputs = ("float32", "float64")
        plain = [CastCase(f, overflow="ml_dtypes", input=i) for f in DTYPES for i in inputs]
        return (*plain, *(CastCase(f, overflow="ml_dtypes", input=i) for f in ("e4m3", "e5m2", "e2m1") for i in INPUTS[2:]))

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        import ml_dtypes

        y = x.astype(getattr(ml_dtypes, DTYPES[case.format]))
        return y.view(np.uint8 if y.dtype.itemsize == 1 else np.uint16)

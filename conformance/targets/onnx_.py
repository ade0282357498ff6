"""ONNX: `onnx.numpy_helper.saturate_cast(x, dtype)`, the saturating Cast of the reference implementation, over ml_dtypes' dtypes.

Overflow is the preset `onnx_sat`.
"""

from __future__ import annotations

import numpy as np

from lpref.conformance.targets.base import Case, CastCase, Target
from lpref.conformance.targets.ml_dtypes_ import DTYPES

FORMATS = ("e4m3", "e5m2", "e4m3fnuz", "e5m2fnuz", "e2m1")


class Onnx(Target):
    name = "onnx"
    title = "ONNX reference implementation's saturating cast"
    package = "onnx"
    notes = "nearest even; overflow=onnx_sat"

    def cases(self) -> tuple[Case, ...]:
        return tuple(CastCase(f, overflow="onnx_sat", input=i) for f in FORMATS for i in ("float32", "float64"))

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        import ml_dtypes
        from onnx.numpy_helper import saturate_cast

        y = saturate_cast(x, np.dtype(getattr(ml_dtypes, DTYPES[case.format])))
        return np.asarray(y).view(np.uint8)

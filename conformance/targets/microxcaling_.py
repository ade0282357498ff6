"""microxcaling (Microsoft): `_quantize_elemwise(t, format, round)`, `_quantize_mx(t, 8, format, block_size=32, round)`, torch on the CPU.

Values only. Its roundings are called even, nearest (ties away, the default) and floor (toward zero). It saturates. The package has no
release: the version is recognised by the digest of its two source files.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from lpref.conformance.targets.base import Case, CastCase, QuantizeCase, Target

FORMATS = {"e4m3": "fp8_e4m3", "e5m2": "fp8_e5m2", "e2m3": "fp6_e2m3", "e3m2": "fp6_e3m2", "e2m1": "fp4_e2m1"}
ROUNDINGS = {"nearest_even": "even", "nearest_away": "nearest", "toward_zero": "floor"}
MX = {"mxfp8_e4m3": "fp8_e4m3", "mxfp8_e5m2": "fp8_e5m2", "mxfp6_e2m3": "fp6_e2m3", "mxfp6_e3m2": "fp6_e3m2", "mxfp4": "fp4_e2m1", "mxint8": "int8"}
COMMITS = {"fe1fc92b0614": "7bc4195"}  # sha256 of elemwise_ops.py and mx_ops.py -> commit


class Microxcaling(Target):
    name = "microxcaling"
    title = "microxcaling: MX emulation in torch (Microsoft)"
    package = "microxcaling"
    imports = "mx"
    notes = "nearest_even, nearest_away, toward_zero; overflow=saturate; scale=floor"

    @property
    def version(self) -> str:
        folder = found()
        if folder is None:
            return ""
        digest = hashlib.sha256(b"".join((folder / f).read_bytes() for f in ("elemwise_ops.py", "mx_ops.py"))).hexdigest()[:12]
        return COMMITS.get(digest, f"source {digest}")

    @property
    def available(self) -> str | None:
        if found() is None:
            return "the source tree of microsoft/microxcaling is not on PYTHONPATH (it is in no package index)"
        return None

    def cases(self) -> tuple[Case, ...]:
        return (*(CastCase(f, r) for f in FORMATS for r in ROUNDINGS), *(QuantizeCase(q) for q in MX))

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        import torch
        from mx.elemwise_ops import _quantize_elemwise

        t = torch.from_numpy(x)
        return np.asarray(_quantize_elemwise(t, FORMATS[case.format], round=ROUNDINGS[case.rounding], saturate_normals=True).numpy())

    def quantize(self, x: np.ndarray, case: QuantizeCase, amax: np.ndarray | None = None, words: np.ndarray | None = None) -> Any:
        import torch
        from mx.mx_ops import _quantize_mx

        return _quantize_mx(torch.from_numpy(x), 8, MX[case.quantizer], axes=[-1], block_size=32, round="even").numpy()


def found() -> Path | None:
    """The folder of the package `mx`, where it is microxcaling's."""
    spec = importlib.util.find_spec("mx")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    return folder if (folder / "mx_ops.py").is_file() else None

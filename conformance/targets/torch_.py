"""torch on the CPU: `t.to(torch.float8_e4m3fn).view(torch.uint8)`.

Nearest even. Overflow is the preset `torch`: E4M3 saturates (since 2.13; NaN before), E5M2 and bfloat16 give infinity, FNUZ NaN. float64
passes through float32 first.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from lpref.conformance.targets.base import INPUTS, Case, CastCase, Target

DTYPES = {
    "e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2", "e4m3fnuz": "float8_e4m3fnuz", "e5m2fnuz": "float8_e5m2fnuz", "e8m0": "float8_e8m0fnu",
    "bfloat16": "bfloat16", "binary16": "float16",
}  # fmt: skip


class Torch(Target):
    name = "torch"
    title = "PyTorch's dtypes, CPU kernels"
    package = "torch"
    notes = "nearest even; overflow=torch"

    def cases(self) -> tuple[Case, ...]:
        plain = [CastCase(f, overflow="torch", input=i) for f in DTYPES for i in ("float32", "float64")]
        return (*plain, *(CastCase(f, overflow="torch", input=i) for f in ("e4m3", "e5m2") for i in INPUTS[2:]))

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        import torch

        short = x.dtype == np.dtype(ml_dtypes.bfloat16)
        t = torch.from_numpy(x.view(np.uint16)).view(torch.bfloat16) if short else torch.from_numpy(x)
        y = t.to(getattr(torch, DTYPES[case.format]))
        return y.view(torch.uint8 if y.element_size() == 1 else torch.uint16).numpy()

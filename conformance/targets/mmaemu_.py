"""mmaemu: FP8 tensor cores emulated bit for bit. `mmaemu.model.chain.dot(a, b, preset="hopper")`."""

from __future__ import annotations

import numpy as np

from lpref.conformance.targets.base import Case, GemmCase, Target

PRESETS = {"hopper_fp8_fast": "hopper"}
DTYPES = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}


class Mmaemu(Target):
    name = "mmaemu"
    title = "mmaemu: FP8 matrix products of NVIDIA GPUs, replayed recordings"
    package = "mmaemu"
    notes = "accumulate=hopper_fp8_fast"

    def cases(self) -> tuple[Case, ...]:
        return tuple(GemmCase(f, accumulate=m) for f in DTYPES for m in PRESETS)

    def gemm(self, a: np.ndarray, b: np.ndarray, case: GemmCase) -> np.ndarray:
        import torch
        from mmaemu.model.chain import dot

        dtype = getattr(torch, DTYPES[case.format])
        x, y = (torch.from_numpy(v).to(dtype) for v in (a, b))
        rows = [dot(x[i : i + 1].expand(y.shape[0], -1), y, preset=PRESETS[case.accumulate]) for i in range(x.shape[0])]
        return np.asarray(torch.stack(rows).numpy()).reshape(a.shape[0], b.shape[0])

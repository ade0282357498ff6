"""torchao: MX and NVFP4 tensors in eager torch. `to_mx(t, elem_dtype, 32, mode)`, `nvfp4_quantize(t, 16, per_tensor_scale)`.

Its scaling modes FLOOR, CEIL, EVEN, RCEIL are lpref's `scale=floor|ceil|even|rceil`. NVFP4 is the two-level form: the tensor scale is
amax / (448 * 6). Packed nibbles are low first. FP6 comes one code a byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.conformance.targets.base import Case, CastCase, QuantizeCase, Target

ELEMENTS = {"mxfp8_e4m3": "float8_e4m3fn", "mxfp8_e5m2": "float8_e5m2", "mxfp6_e2m3": "fp6_e2m3", "mxfp6_e3m2": "fp6_e3m2",
            "mxfp4": "float4_e2m1fn_x2"}  # fmt: skip
MODES = ("floor", "ceil", "even", "rceil")
CASTS = {"e2m1": "f32_to_f4_unpacked", "e2m3": "f32_to_f6_e2m3_unpacked", "e3m2": "f32_to_f6_e3m2_unpacked"}


class Torchao(Target):
    name = "torchao"
    title = "MX and NVFP4 training and inference in PyTorch, eager CPU path"
    package = "torchao"
    notes = "scale=floor, ceil, even, rceil; NVFP4 in two levels and in one"

    def cases(self) -> tuple[Case, ...]:
        mx = [QuantizeCase(q if m == "floor" else f"{q}:scale={m}") for q in ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp4") for m in MODES]
        six = [QuantizeCase("mxfp6_e2m3"), QuantizeCase("mxfp6_e3m2")]
        nvfp4 = [QuantizeCase(q) for q in ("nvfp4", "nvfp4_torchao", "nvfp4_one_level")]
        return (*(CastCase(f, overflow="cuda_satfinite") for f in CASTS), *mx, *six, *nvfp4)

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        import torch
        from torchao.prototype.mx_formats import kernels

        return np.asarray(getattr(kernels, CASTS[case.format])(torch.from_numpy(x)).numpy())

    def quantize(
        self, x: np.ndarray, case: QuantizeCase, amax: np.ndarray | None = None, words: np.ndarray | None = None
    ) -> Mapping[str, Any]:
        import torch

        t = torch.from_numpy(np.ascontiguousarray(x))
        name, _, mode = case.quantizer.partition(":scale=")
        if name == "nvfp4_one_level":
            from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize

            scale, data = nvfp4_quantize(t, 16)
            return {"codes": data.view(torch.uint8).numpy(), "scales": scale.view(torch.uint8).numpy()}
        if name.startswith("nvfp4"):
            return two_level(t)
        from torchao.prototype.mx_formats.mx_tensor import ScaleCalculationMode, to_mx

        element = ELEMENTS[name]
        dtype = getattr(torch, element) if element.startswith("float") else element
        scale, data = to_mx(t, dtype, 32, ScaleCalculationMode(mode or "floor"))
        return {"codes": data.view(torch.uint8).numpy(), "scales": scale.view(torch.uint8).numpy()}


def two_level(t: Any) -> Mapping[str, Any]:
    """NVFP4 under a tensor scale."""
    import torch
    from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize, per_tensor_amax_to_scale

    tensor_scale = per_tensor_amax_to_scale(torch.max(torch.abs(t)))
    scale, data = nvfp4_quantize(t, 16, tensor_scale)
    return {"codes": data.view(torch.uint8).numpy(), "scales": scale.view(torch.uint8).numpy(),
            "tensor_scale": np.float32(tensor_scale.item())}  # fmt: skip

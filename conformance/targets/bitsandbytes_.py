"""bitsandbytes on the CPU: `quantize_4bit(t, blocksize=64, quant_type="nf4")`, `quantize_blockwise(t, blocksize=256)`.

Scales are float32 absmax values. 4-bit codes are packed high nibble first; they are returned here one a byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.conformance.targets.base import Case, QuantizeCase, Target


class Bitsandbytes(Target):
    name = "bitsandbytes"
    title = "bitsandbytes: 4-bit and 8-bit block quantization, CPU kernels"
    package = "bitsandbytes"
    notes = "nf4 and bnb_fp4 in blocks of 64, dynamic8 in blocks of 256"

    def cases(self) -> tuple[Case, ...]:
        return (QuantizeCase("nf4"), QuantizeCase("bnb_fp4"), QuantizeCase("dynamic8"))

    def quantize(self, x: np.ndarray, case: QuantizeCase, amax: np.ndarray | None = None, words: np.ndarray | None = None) -> Any:
        import torch
        from bitsandbytes import functional

        t = torch.from_numpy(np.ascontiguousarray(x))
        if case.quantizer == "dynamic8":
            code = functional.create_dynamic_map()
            packed, state = functional.quantize_blockwise(t, code=code, blocksize=256)
            return {"codes": packed.numpy(), "scales": state.absmax.numpy()}
        packed, state = functional.quantize_4bit(t, blocksize=64, quant_type="nf4" if case.quantizer == "nf4" else "fp4")
        pairs = packed.numpy().reshape(-1)
        codes = np.stack([pairs >> 4, pairs & 15], axis=-1).reshape(x.shape).astype(np.uint8)
        return {"codes": codes, "scales": state.absmax.numpy()}

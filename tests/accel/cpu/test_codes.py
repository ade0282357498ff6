"""Values of codes by the kernel: the bits of `QTensor.dequantize`, and what is left to the definition."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel.cpu.codes import Codes
from lpref.accel.cpu.quantize import quantize
from lpref.ref.quantize import lookup
from lpref.ref.quantize import quantize as definition

NAMES = (
    "fp8_tile1x128", "fp8_block128", "mxfp4", "nvfp4", "int4_group", "int8_tensor", "int8_row", "ternary_absmean", "bf16", "nf4_double",
    "trit_planes",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k_axis", [0, 1])
def test_values(name: str, k_axis: int) -> None:
    rng = np.random.default_rng(3)
    for shape in ((1, 1), (3, 7), (130, 260), (64, 5000)):
        x = np.float32(rng.standard_normal(shape) * 2.0 ** rng.integers(-8, 9, shape))
        q = lookup(f"{name}:tail=partial")
        t, want = quantize(x, q, k_axis=k_axis), definition(x, q, k_axis=k_axis)
        assert isinstance(t, Codes)
        for dtype in (np.float32, np.float64):
            assert t.dequantize(dtype).tobytes() == want.dequantize(dtype).tobytes(), (shape, dtype)


def test_codes_stay_codes() -> None:
    x = np.float32(np.random.default_rng(4).standard_normal((256, 128)))
    t, want = quantize(x, "fp8_block128").transpose(), definition(x, "fp8_block128").transpose()
    assert isinstance(t, Codes)
    assert t.dequantize(np.float32).tobytes() == want.dequantize(np.float32).tobytes()

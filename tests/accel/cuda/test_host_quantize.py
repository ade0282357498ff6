"""The quantizer kernels without a GPU (host_gpu/) against the definitions: codes, scales, every count.

What is here is the source as a device without the instructions of compute capability 8.9 and 9.0 runs it; those are in tests/gpu/test_sixteen.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import host_gpu
import ml_dtypes
import numpy as np
import pytest
from device_cases import hard, same

from lpref.accel.cuda import device
from lpref.accel.cuda.quantize import quantize
from lpref.ref import quantize as ref
from lpref.ref.quantize import lookup
from lpref.ref.random import WordAddress

WORDS = WordAddress(2**40 + 5, 9, "h.0.mlp.up/dgrad/a/round", start=64)
QUICK = [
    ("int8_row:rounding=stochastic", ml_dtypes.bfloat16), ("int8_row", np.float32), ("fp8_row:rounding=stochastic", np.float32),
    ("mxfp8_e4m3:rounding=stochastic", ml_dtypes.bfloat16), ("mxfp4", ml_dtypes.bfloat16),
    ("fp8_tensor", ml_dtypes.bfloat16),
]  # fmt: skip
NAMES = ["nvfp4", "mxfp4", "mxfp8_e4m3", "int8_row", "fp8_row", "fp8_tensor", "fp8_tile1x128", "mxfp6_e2m3"]
DEEP = [(n + s, k) for n in NAMES for s in ("", ":rounding=stochastic") for k in (np.float32, ml_dtypes.bfloat16) if (n + s, k) not in QUICK]


@pytest.fixture(scope="module", autouse=True)
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host"), processors=1) as patch:
        patch.setattr(device, "resident", lambda kernel, threads: 3)
        yield


def check(name: str, kind: Any) -> None:
    q = replace(lookup(name), tail="pad_zero")
    x = hard(14, 1152, kind)
    if "tensor" in name or name.startswith("nvfp4"):  # one amax for the tensor
        x = np.where(np.isfinite(x.astype(np.float32)), x, np.zeros((), kind)).astype(kind)
    same(quantize(host_gpu.put(x), q, words=WORDS).host(), ref.quantize(x, q, words=WORDS))


@pytest.mark.parametrize(("name", "kind"), QUICK)
def test_quantizers(name: str, kind: Any) -> None:
    check(name, kind)


@pytest.mark.deep
@pytest.mark.parametrize(("name", "kind"), DEEP)
def test_other_quantizers(name: str, kind: Any) -> None:
    check(name, kind)


@pytest.mark.parametrize("name", ["bf16", "fp16", "bf16:overflow=saturate"])
def test_casts(name: str) -> None:
    """Every upper half of a float32 with lower halves on both sides of a tie, in an order that mixes the common with the rare, and the counts."""
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    x = (np.arange(2**16, dtype=np.uint32)[:, None] << np.uint32(16) | lower).view(np.float32).reshape(-1, 256)
    for part in (x, x[np.random.default_rng(0).permutation(len(x))], x[0x40:0x80], np.zeros((2, 8), np.float32)):
        same(quantize(host_gpu.put(part), lookup(name)).host(), ref.quantize(part, lookup(name)))


@pytest.mark.parametrize("name", ["fp8_tensor", "fp8_tensor:rounding=stochastic", "fp8_tensor:format=e5m2", "fp8_tensor:history=delayed:window=16"])
@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16])
def test_codes_along_both_axes(name: str, kind: Any) -> None:
    """Tiles that are whole and cut, finite elements and not; what does not fit is made along one axis."""
    q, state = lookup(name), {"scale": np.float32(3.7)} if "delayed" in name else None
    for rows, columns in ((16, 144), (272, 176), (16, 24)):
        for finite in (True, False):
            x = hard(rows, columns, kind)
            x = np.where(np.isfinite(x.astype(np.float32)), x, np.zeros((), kind)).astype(kind) if finite else x
            made = quantize(host_gpu.put(x), q, words=WORDS, state=state, both=True)
            wanted = ref.quantize(x, q, words=WORDS, state=state)
            same(made.host(), wanted)
            assert (made.turned is None) == (columns == 24)
            if made.turned is not None:
                np.testing.assert_array_equal(made.turned.get(), np.asarray(wanted.codes).T)
                other = made.contracted_along(0)
                assert other.codes.T.data.ptr == made.turned.data.ptr
                same(replace(other, k_axis=1).host(), wanted)

"""The short way of the quantizer kernels (kernels/sixteen.cuh) against the definitions and against the long way: bits, and every count."""

from __future__ import annotations

import cupy as cp
import ml_dtypes
import numpy as np
import pytest
from device_cases import hard, same

from lpref.accel.cuda import plans
from lpref.accel.cuda import quantize as module
from lpref.accel.cuda.quantize import quantize
from lpref.ref import quantize as ref
from lpref.ref.quantize import QUANTIZERS, lookup
from lpref.ref.random import WordAddress

WORDS = WordAddress(2**40 + 5, 9, "h.0.mlp.up/dgrad/a/round")
KERNELS = [n for n, q in QUANTIZERS.items() if q.scale.rule in plans.RULES and q.scale.select == "none"]
NAMES = [n + s for n in KERNELS if plans.macros(lookup(n)) for s in ("", ":rounding=stochastic")]
SOURCES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}
CASES = [(n, "bfloat16") for n in NAMES] + [
    (n + s, k)
    for n in ("nvfp4", "mxfp4", "mxfp8_e4m3", "int8_row", "fp8_tensor", "fp8_tile1x128")
    for s in ("", ":rounding=stochastic")
    for k in ("float16", "float32")
]


@pytest.mark.parametrize(("name", "source"), CASES)
def test_the_definition(name: str, source: str) -> None:
    kind = SOURCES[source]
    for shape in ((128, 1024), (128, 2048 + 256)):
        x = hard(*shape, kind)
        same(quantize(cp.asarray(x), name, words=WORDS).host(), ref.quantize(x, name, words=WORDS))
        tame = np.where(np.isfinite(x.astype(np.float32)), x, np.zeros((), kind)).astype(kind)  # one amax for the tensor
        same(quantize(cp.asarray(tame), name, words=WORDS).host(), ref.quantize(tame, name, words=WORDS))


@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("name", ["nvfp4", "mxfp4", "mxfp8_e4m3", "mxfp8_e5m2", "int8_row", "fp8_row", "fp8_tensor", "fp8_tile1x128"])
def test_the_long_way(name: str, rounding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, kind = f"{name}:rounding={rounding}", ml_dtypes.bfloat16
    rng = cp.random.default_rng(5)
    x = rng.standard_normal((4096, 8192), dtype=cp.float32)
    x *= cp.exp2(cp.arange(4096, dtype=cp.float32) % 40 - 20)[:, None]
    x = x.astype(kind)
    short = quantize(x, name, words=WORDS)
    kernel = module._kernel
    monkeypatch.setattr(module, "_kernel", lambda job, file, entry, threads=256, **more: kernel(job, file, entry, threads, **more, LP_QUICK=0))
    long = quantize(x, name, words=WORDS)
    assert bool((short.codes == long.codes).all())
    assert all(bool((a == b).all()) for a, b in zip(short.scales, long.scales, strict=True))
    assert dict(short.observed) == dict(long.observed)

"""Products, operands and attention on the GPU against their definitions: bits in grade exact, the proved bounds in grade fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from kernel_check import check_cases, cuda_place
from kernel_draw import Draw
from kernel_products import MORE, stored

import lpref
from lpref.accel import quantize
from lpref.ref.backend import Bits
from lpref.ref.linalg import HighPrecision, fast_bound
from lpref.ref.quantize import lookup
from lpref.ref.recipes import Context, first_states, linear_backward, linear_forward, linear_parameters
from lpref.specs import recipe as load

CUDA = {numerics: lpref.backend("cuda", numerics) for numerics in ("exact", "fast")}
REFERENCE = lpref.backend("reference", "exact")
PLACE = cuda_place()
RECIPES = (
    "fp32", "bf16", "fp16_loss_scaled", "fp8_delayed", "fp8_current", "fp8_block", "mxfp8", "mxfp4", "nvfp4", "int8_switchback", "bitnet_b158",
    "lsq", "halo",
)  # fmt: skip


@pytest.mark.parametrize("op", MORE)
def test_other_ways(op: str) -> None:
    check_cases(CUDA["exact"].kernels[op], PLACE, MORE[op](Draw(3)))


@pytest.mark.parametrize("k", [1, 33, 1000, 4096])
def test_products_of_real_sizes(k: int) -> None:
    draw = Draw(k)
    check_cases(CUDA["exact"].kernels["matmul"], PLACE, [(draw(300, k), draw(k, 200)), (draw(k, 130).T, draw(140, k).T)])
    check_cases(CUDA["exact"].kernels["gemm"], PLACE, [stored(draw, n, n, 150, 140, k) for n in ("nvfp4", "mxfp8_e4m3", "mxfp8_e5m2", "int8_row")])


NAMES = ("bf16", "nvfp4", "mxfp8_e4m3", "mxfp4", "fp8_tensor", "fp8_row", "fp8_block128", "fp8_deepgemm", "int8_row", "int8_tensor", "fp16", "mxint8")
PAIRS = [("fp8_tensor", "fp8_tensor"), ("fp8_tensor:format=e5m2", "fp8_tensor"), ("fp8_tensor", "fp8_tensor:format=e5m2"), ("fp8_row", "fp8_row"),
         ("fp8_tile1x128", "fp8_block128"), ("fp8_tile1x128", "fp8_tile1x128"), ("fp8_block128", "fp8_block128"), ("int8_row", "int8_row"),
         ("int8_switchback", "int8_tensor"), ("fp16", "fp16"), ("bf16", "bf16"), ("fp8_row", "fp8_tensor")]  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
def test_units_of_the_tensor_cores(pair: tuple[str, str]) -> None:
    """Sizes that the FP8 and INT8 units take, codes along either axis: the bound, and the same bits again."""
    draw, gemm = Draw(10), CUDA["fast"].kernels["gemm"]
    for m, n, k in ((16, 16, 128), (17, 48, 192), (144, 272, 640), (64, 144, 2048)):
        for axes in ((1, 1), (0, 1), (1, 0), (0, 0)) if k == 640 else ((1, 1), (0, 0)):
            a, b = stored(draw, *pair, *((m + 3) // 4 * 4 if axes[0] == 0 else m, n, k), axes)
            check_cases(gemm, PLACE, [(a, b)])
            sides = [PLACE.there(x) for x in (a, b)]
            assert np.array_equal(gemm.function(*sides).get(), gemm.function(*sides).get())
            if "int8" in pair[0]:
                assert np.array_equal(gemm.function(*sides).get(), CUDA["exact"].gemm(*sides).get())


@pytest.mark.parametrize("name", ["fp8_tensor", "fp8_row", "fp8_tile1x128", "int8_row", "nvfp4"])
def test_a_captured_product_reads_its_scales_when_it_is_replayed(name: str) -> None:
    import cupy as cp

    x, y = (quantize(PLACE.put(Draw(i)(128, 256)), replace(lookup(name), tail="pad_zero"), k_axis=1, backend="cuda") for i in (5, 6))
    gemm, stream = CUDA["fast"].gemm, cp.cuda.Stream(non_blocking=True)
    cp.cuda.Device().synchronize()  # this stream does not wait for the one that quantized
    with stream:
        gemm(x, y)
        stream.begin_capture()
        out = gemm(x, y)
        graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
        before = out.get()
        scales = x.scales[0]
        scales -= (1 << 23) if scales.itemsize == 4 else 8  # half of each scale
        graph.launch(stream)
        stream.synchronize()
        assert np.array_equal(2 * out.get(), before)


@pytest.mark.parametrize("name", NAMES)
def test_fast_within_the_bound(name: str) -> None:
    draw = Draw(9)
    for m, n, k in ((1, 1, 1), (3, 5, 7), (128, 96, 64), (257, 131, 1030), (64, 64, 8192)):
        for axes in ((1, 1), (0, 1), (1, 0), (0, 0)) if k < 8192 else ((1, 0),):
            a, b = stored(draw, name, name, m, n, k, axes)
            for left, right in ((a, b), (a, HighPrecision(np.ascontiguousarray(b.dequantize(np.float32)), axes[1]))):
                check_cases(CUDA["fast"].kernels["gemm"], PLACE, [(left, right)])


def test_fast_keeps_small_numbers() -> None:
    """Subnormal products and sums are not flushed: what float32 holds exactly comes back."""
    tiny = np.float32(2.0**-140)
    a, b = np.full((64, 64), 2.0**-70, np.float32), np.eye(64, dtype=np.float32) * np.float32(2.0**-70)
    assert np.array_equal(CUDA["fast"].matmul(PLACE.put(a), PLACE.put(b)).get(), np.full((64, 64), tiny))
    stored_a, stored_b = (REFERENCE.operand(x, lookup("bf16"), k_axis=1) for x in (a, b))
    assert np.array_equal(CUDA["fast"].gemm(PLACE.put(stored_a), PLACE.put(stored_b)).get(), np.full((64, 64), tiny))


def linear(name: str, backend: lpref.ref.backend.Backend, make, shape: tuple[int, int, int], collect: bool) -> dict:
    """A layer forward and backward under a recipe: every array, and what was observed."""
    draw, rule, (m, n, k) = Draw(7), load(name).linear, shape
    x, w, dy = (make(v) for v in (draw(m, k), draw(n, k), draw(m, n)))
    ctx = Context(seed=3, step=5, update=5, site="h.0.mlp.up", state=first_states(rule, "h.0.mlp.up"), collect=collect)
    params = linear_parameters(x, w, rule, backend)
    y, saved = linear_forward(x, w, rule, ctx, backend, params)
    grads = linear_backward(dy, saved, rule, ctx, backend)
    arrays = {"y": y, "dx": grads.dx, "dw": grads.dw} | params | {f"d.{name}": v for name, v in grads.dparams.items()}
    seen = {f"{key}.{field}": value for key, held in ctx.observed.items() for field, value in held.items()}
    return {key: np.asarray(PLACE.here(v)) for key, v in arrays.items()} | {key: float(v) for key, v in seen.items()}


@pytest.mark.parametrize("shape", [(128, 96, 64), (256, 128, 384)])
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe(name: str, shape: tuple[int, int, int]) -> None:
    want, got = (linear(name, b, make, shape, shape[0] == 128) for b, make in ((REFERENCE, lambda v: v), (CUDA["exact"], PLACE.put)))
    assert set(want) == set(got)
    assert Bits().mismatch(want, got, (), {}) is None
    judged = Judged(CUDA["fast"])
    linear(name, judged, PLACE.put, shape, False)
    assert judged.products == 3


class Judged:
    """The backend, its products held against the definition's of the same operands, under their contract; all else has the definition's bits."""

    def __init__(self, inner: lpref.ref.backend.Backend) -> None:
        self.inner, self.products = inner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def gemm(self, *product: Any) -> Any:
        """`inner.gemm`, judged."""
        out, host = self.inner.gemm(*product), tuple(PLACE.here(x) for x in product)
        found = self.inner.kernels["gemm"].contract.mismatch(REFERENCE.gemm(*host), PLACE.here(out), host, {})
        assert found is None, found
        self.products += 1
        return out

    def gemms(self, products: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Each of them."""
        return [self.gemm(*product) for product in products]


def test_codes_are_the_same_in_both_grades() -> None:
    x = PLACE.put(Draw(1)(64, 64))
    for name in ("nvfp4", "fp8_tensor", "bf16"):
        one, other = (PLACE.here(CUDA[g].operand(x, replace(lookup(name), tail="pad_zero"), k_axis=1)) for g in ("exact", "fast"))
        assert Bits().mismatch(one, other, (), {}) is None
    assert fast_bound(PLACE.here(HighPrecision(x, 1)), PLACE.here(HighPrecision(x, 1))).shape == (64, 64)

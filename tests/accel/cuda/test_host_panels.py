"""Operands in panels without a GPU (host_gpu/): codes, scales, counts of both sides, after transforms and with random words; numbers in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import host_gpu
import ml_dtypes
import numpy as np
import pytest
from device_cases import same, wide

from lpref.accel import reference
from lpref.accel.cuda import blas, device, epilogue, panels, plans
from lpref.accel.cuda.job import job_of
from lpref.accel.cuda.operand import operand, operands
from lpref.accel.cuda.quantize import in_panels
from lpref.ref.quantize import Quantizer, lookup
from lpref.ref.random import WordAddress
from lpref.ref.recipes.transform import Transform

WORDS = WordAddress(2**40 + 5, 9, "h.0.mlp.up/dgrad/a/round", start=64)
OTHER = WordAddress(2**40 + 5, 9, "h.0.mlp.up/wgrad/a/round", start=128)
SIGNS = np.array([1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1], np.float32)
TURN = ((Transform(size=16, signs="fixed", vector=tuple(int(s) for s in SIGNS)), SIGNS),)
NAMES = ["nvfp4", "nvfp4:rounding=stochastic", "mxfp8_e4m3:scale=rceil", "mxfp4:rounding=stochastic", "mxfp8_e5m2:rounding=stochastic"]


@pytest.fixture(scope="module", autouse=True)
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host"), processors=1) as patch:
        patch.setattr(device, "resident", lambda kernel, threads: 3)
        yield


def quantizer(name: str) -> Quantizer:
    return replace(lookup(name), tail="pad_zero")


def check(got: Any, want: Any) -> None:
    """Codes, scales, counts; numbers are element x block scale."""
    same(got.host(), want)
    if got.embedded is not None:
        numbers = (host_gpu.get(got.embedded).astype(np.uint32) << 16).view(np.float32)
        alone = replace(got, embedded=None)
        expected = host_gpu.get(alone.folded()).astype(ml_dtypes.bfloat16).astype(np.float32)
        assert np.array_equal(host_gpu.get(got.embedded), host_gpu.get(alone.in_bfloat16(True)))
        assert np.array_equal(numbers, expected, equal_nan=True)
        assert np.array_equal(np.signbit(numbers), np.signbit(expected) & ~np.isnan(expected))


def source(kind: Any, rows: int = 64, columns: int = 208) -> np.ndarray:
    x = wide(rows, columns)
    x[3], x[:, 5] = 0, 0
    x[rows // 2 :] *= np.float32(1e-20)
    return x.astype(kind)


@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_rows_and_columns(name: str, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    q, x = quantizer(name), source(kind)
    x = x[:, :192] if "mx" in name else x
    x = np.ascontiguousarray(x)
    on, values = host_gpu.put(x), x.astype(np.float32)
    jobs = [(job_of(on, q, None, None, WORDS, 1), (), True), (job_of(on, q, None, None, OTHER, 0), TURN, True)]
    launched, original = [], panels._launch
    monkeypatch.setattr(panels, "_launch", lambda sides, amaxes: launched.append(len(sides)) or original(sides, amaxes))
    one, two = in_panels(jobs)
    assert launched == ([1, 1] if plans.word_bits(q) == 16 else [2])
    check(one, reference.operand(values, q, k_axis=1, words=WORDS))
    check(two, reference.operand(values, q, k_axis=0, words=OTHER, transforms=TURN))


@pytest.mark.parametrize("columns", [512, 224])
@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp4:rounding=stochastic"])
def test_scales_of_neighbouring_panels(name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels of a block of threads that are neighbours in a row, whose scales are stored together, and others; several panels a warp."""
    q, x, joined, original = quantizer(name), source(ml_dtypes.bfloat16, 96, columns), [], device.function

    def function(file: str, entry: str, macros: Any = ()) -> Any:
        joined.append(dict(macros).get("LP_JOINED"))
        return original(file, entry, macros)

    monkeypatch.setattr(device, "function", function)
    one, two = in_panels([(job_of(host_gpu.put(x), q, None, None, words, axis), (), True) for words, axis in ((WORDS, 1), (OTHER, 0))])
    assert joined[0] == (columns == 512)
    check(one, reference.operand(x.astype(np.float32), q, k_axis=1, words=WORDS))
    check(two, reference.operand(x.astype(np.float32), q, k_axis=0, words=OTHER))


@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e30, 1e36])
@pytest.mark.parametrize("name", ["nvfp4", "nvfp4:rounding=stochastic"])
def test_factors_that_do_not_join_the_transforms(name: str, size: float) -> None:
    """Block factors so large or small that a product with a power of two would not be exact: those elements take the long way."""
    q, x = quantizer(name), np.ascontiguousarray(source(np.float32)[:, :192])
    x = np.clip(x / np.abs(x).max(), -1, 1) * np.float32(size)
    x[:, 7] = np.float32(2.0**-149) * (np.arange(64) % 5)
    for long in (4, 16):
        turn = ((Transform(size=long, signs="fixed", vector=tuple(int(s) for s in SIGNS[:long])), SIGNS[:long]),)
        got = operand(host_gpu.put(x), q, k_axis=0, words=WORDS, transforms=turn, numbers=True)
        check(got, reference.operand(x, q, k_axis=0, words=WORDS, transforms=turn))


@pytest.mark.parametrize("name", NAMES)
def test_one_operand(name: str) -> None:
    q = quantizer(name)
    x = np.ascontiguousarray(source(np.float32)[:, :192])
    for k_axis, transforms in ((0, ()), (0, TURN), (1, ())):
        assert panels.fits(host_gpu.put(x), q, k_axis, WORDS, transforms)
        got = operand(host_gpu.put(x), q, k_axis=k_axis, words=WORDS, transforms=transforms, numbers=True)
        check(got, reference.operand(x, q, k_axis=k_axis, words=WORDS, transforms=transforms))


@pytest.mark.parametrize("name", ["nvfp4_2d", "nvfp4_2d:rounding=stochastic"])
def test_squares(name: str) -> None:
    q, x = quantizer(name), source(np.float32)
    check(operand(host_gpu.put(x), q, k_axis=1, words=WORDS, numbers=True), reference.operand(x, q, k_axis=1, words=WORDS))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["nvfp4", "mxfp8_e4m3"])
def test_what_is_not_finite(name: str, bad: float) -> None:
    q, x = quantizer(name), np.ascontiguousarray(source(np.float32)[:, :192])
    x[7, 100] = bad
    for k_axis in (0, 1):
        check(operand(host_gpu.put(x), q, k_axis=k_axis, numbers=True), reference.operand(x, q, k_axis=k_axis))


@pytest.mark.parametrize("second", [np.inf, -np.inf, 1.0, 3e38])
def test_infinities_that_meet_in_the_transform(second: float) -> None:
    """Sums of two are infinite and their differences NaN, or the other way round: the amax of the transform is NaN."""
    q, x = quantizer("nvfp4"), np.ascontiguousarray(source(np.float32)[:, :64])
    x[5, 60], x[13, 60] = np.float32(np.inf if second != 3e38 else 3e38), np.float32(second)
    with np.errstate(all="ignore"):
        want = reference.operand(x, q, k_axis=0, transforms=TURN)
    check(operand(host_gpu.put(x), q, k_axis=0, transforms=TURN, numbers=True), want)


def test_signs_along_the_whole_axis() -> None:
    q, x = quantizer("nvfp4"), source(np.float32)
    signs = np.where(np.random.default_rng(2).random(64) < 0.5, -1, 1).astype(np.float32)
    turn = ((Transform(size=8, signs="random"), signs),)
    check(operand(host_gpu.put(x), q, k_axis=0, transforms=turn, numbers=True), reference.operand(x, q, k_axis=0, transforms=turn))


def test_the_factor_of_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cuBLASLt is given: numbers, and the product of scales that was made with them."""
    given: list[Any] = []
    monkeypatch.setattr(blas, "multiply", lambda out, *rest: given.append(rest))
    q, x, w = quantizer("nvfp4"), host_gpu.put(source(np.float32)), host_gpu.put(np.ascontiguousarray(source(np.float32)[:48] * np.float32(3)))
    other = operand(w, quantizer("nvfp4_2d"), k_axis=1, numbers=True)
    left, _ = operands(x, [(q, {"k_axis": 1, "beside": other}, False), (q, {"k_axis": 0, "transforms": TURN}, False)], numbers=True)
    for a, b in ((left, other), (other, left)):
        blas.gemm(a, b, output="bfloat16")
        one, two, unit, alpha, bias = given.pop()
        assert (unit, alpha is left.product[1], bias) == ("bfloat16", True, None)
        assert np.array_equal(host_gpu.get(one[0]), host_gpu.get(a.in_bfloat16(True)))
        assert np.array_equal(host_gpu.get(two[0]).T, host_gpu.get(b.in_bfloat16(True)))


def test_products_of_scales() -> None:
    """An operand that knows what it is multiplied with has the product of both tensor scales, which a matrix product then takes."""
    q, x, w = quantizer("nvfp4"), host_gpu.put(source(np.float32)), host_gpu.put(np.ascontiguousarray(source(np.float32)[:48] * np.float32(3)))
    other = operand(w, quantizer("nvfp4_2d"), k_axis=1)
    wanted = [(q, {"k_axis": 1, "beside": other}, False), (q, {"k_axis": 0, "transforms": TURN, "beside": None}, False)]
    one, two = operands(x, wanted, numbers=True)
    assert two.product is None
    of, made = one.product
    scales = [np.float32(host_gpu.get(t.tensor_scale).reshape(-1)[0]) for t in (one, other)]
    assert of is other.tensor_scale is other.contracted_along(0).tensor_scale
    assert host_gpu.get(made).tolist() == [scales[0] * scales[1], 0]
    factors = [one.tensor_scale, other.tensor_scale]
    assert epilogue.alpha(factors, one, other) is made is epilogue.alpha(factors[::-1], other.contracted_along(0), one)
    assert host_gpu.get(epilogue.alpha([one.tensor_scale, two.tensor_scale], one, two)).tolist()[1] == 0
    assert host_gpu.get(epilogue.alpha(factors)).tolist() == [scales[0] * scales[1], 0]
    assert epilogue.alpha([], one, two) is None

"""The grid kernels of NVFP4 and its relatives against their pages: bits of scales, codes and observations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpref.accel.cpu import block_scales, four_over_six, threads
from lpref.accel.cpu.quantize import quantize
from lpref.conformance.proves import proves
from lpref.ref import quantize as ref
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Blocks, QTensor, Quantizer, lookup
from lpref.ref.random import WordAddress
from lpref.ref.scaling import Scale

RNG = np.random.default_rng(5)
WORDS = WordAddress(3, 4, "block scales")
ONE_LEVEL = ["nvfp4_one_level", "nvfp4_one_level:apply=divide", "nvfp4_one_level:eps=0", "nvfp4_one_level:eps=0:format=e3m2:multiplier=3"]
SELECTING = ["nvfp4_4over6_mae", "nvfp4_4over6_mse", "nvfp4_4over6_mae:scale_max=256", "nvfp4_4over6_mse:scale_max=448"]
NAMES = ["nvfp4", "nvfp4_torchao", *ONE_LEVEL, *SELECTING]


def same(got: QTensor, want: QTensor) -> None:
    assert np.array_equal(got.codes, want.codes)
    assert np.array_equal(got.scales[0], want.scales[0])
    assert got.scales[0].dtype == want.scales[0].dtype
    assert np.float32(got.tensor_scale).tobytes() == np.float32(want.tensor_scale).tobytes()
    assert repr(dict(got.observed)) == repr(dict(want.observed))


def wild(rows: int, columns: int, source: np.random.Generator = RNG) -> np.ndarray:
    x = source.standard_normal((rows, columns)) * np.exp2(source.integers(-14, 14, (rows, 1)) + source.integers(-4, 4, (1, columns)))
    x[source.random(x.shape) < 0.05] = -0.0
    x[source.random(x.shape) < 0.002] *= 2.0**40
    x[source.random(x.shape) < 0.002] = 2.0**-149
    x[rows // 2] = 0
    return x.astype(np.float32)


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition of the scales is out of reach: what comes out is the kernel's."""
    monkeypatch.setattr(block_scales, "block_scales", None)


@proves("quantizer:{name}", "cpu")
@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("k_axis", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_kernels_have_the_bits_of_the_pages(name: str, k_axis: int) -> None:
    for shape in ((16, 16), (64, 4096 + 16), (160, 320)):
        for x in (wild(*shape), RNG.standard_normal(shape).astype(np.float32), np.zeros(shape, np.float32)):
            same(quantize(x, name, k_axis=k_axis), ref.quantize(x, name, k_axis=k_axis))
    stochastic = f"{name}:rounding=stochastic"
    same(quantize(x, stochastic, k_axis=k_axis, words=WORDS), ref.quantize(x, stochastic, k_axis=k_axis, words=WORDS))


@settings(max_examples=60)
@given(
    st.sampled_from(SELECTING), st.tuples(st.integers(1, 40), st.integers(1, 90)), st.sampled_from([1, 2, 3, 16, 24, None]),
    st.sampled_from([1, 5, 16, 32, 48, None]), st.sampled_from([0, 1]), st.integers(0, 99),
)  # fmt: skip
def test_selection_in_any_blocks(name: str, shape: tuple[int, int], other: int | None, k: int | None, k_axis: int, seed: int) -> None:
    """The order of the sums: along k ascending, then the lines by halving; ragged edges; one part or many."""
    q = replace(lookup(name), blocks=Blocks(other, k), tail="partial")
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    same(quantize(x, q, k_axis=k_axis), ref.quantize(x, q, k_axis=k_axis))


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("name", SELECTING)
@pytest.mark.parametrize("blocks", [Blocks(1, 16), Blocks(16, 16)])
def test_both_choices_occur_and_many_parts_agree(name: str, blocks: Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    q = replace(lookup(name), blocks=blocks)
    x = np.repeat(np.repeat(np.exp2(-RNG.random((8, 32)) * 6), 16, axis=0), 16, axis=1)  # scales below 298, which can be raised by 1.5
    x *= np.where(RNG.random(x.shape) < 0.1, -1, np.repeat(np.resize([0.83, 0.66], 32), 16))  # near 5 of 6 or 4 of 6
    x = (x * (1 + 0.01 * RNG.standard_normal(x.shape))).astype(np.float32)
    want = ref.quantize(x, q)
    for grain in (threads.GRAIN, 64):
        monkeypatch.setattr(threads, "GRAIN", grain)
        same(quantize(x, q), want)
    plain = ref.quantize(x, replace(q, scale=replace(q.scale, select="none", scale_max=448)))
    at_six = np.isclose(want.scale_values() * want.tensor_scale, plain.scale_values() * plain.tensor_scale, rtol=0.1)
    assert 0.02 < np.mean(at_six) < 0.98
    row = x.reshape(1, -1)
    if blocks.other == 1:
        same(quantize(row, q), ref.quantize(row, q))


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("name", SELECTING)
def test_equal_errors_keep_six(name: str) -> None:
    """Blocks that both maps hold exactly, and nearly equal ones: a single element of every magnitude beside the tensor's largest."""
    x = np.zeros((256, 32), np.float32)
    x[:, 0] = np.float32(2688)
    x[:, 16] = np.ldexp(1 + np.arange(256) % 32 / 32, np.arange(256) // 32).astype(np.float32)
    x[::3, 17] = x[::3, 16] / 2
    x[1::3, 18:20] = x[1::3, 16:17] * np.float32([0.75, -0.25])
    same(quantize(x, name), ref.quantize(x, name))


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("name", NAMES)
def test_scales_at_the_thresholds_of_e4m3(name: str) -> None:
    """Block maxima at every midpoint of the scale's format and at the neighbours, under a tensor amax that makes the quotients plain."""
    e4m3 = np.unique(np.abs(_e4m3_values()))
    middle = (e4m3[1:] + e4m3[:-1]) / 2
    points = np.concatenate([e4m3, middle, [2.0**-6, 2.0**-11, 1e-30, 298, 299, 448, 1000]]).astype(np.float32)
    near = [points, np.nextafter(points, np.float32(0)), np.nextafter(points, np.float32(1e9))]
    amax = np.concatenate(near) * np.float32(6)
    for scale in (1.0, 1 / 1.5, 0.37):
        x = (amax[:, None] * RNG.uniform(-1, 1, (amax.size, 16)) * scale).astype(np.float32)
        x[:, 3] = amax * np.float32(scale)
        x = np.minimum(x, np.float32(2688))
        x[0, 0] = 2688
        same(quantize(x, name), ref.quantize(x, name))


def _e4m3_values() -> np.ndarray:
    values = format_named("e4m3").decode(np.arange(256))
    return values[np.isfinite(values)]


@pytest.mark.parametrize("amax", [0.0, 2.0**-149, 1e-40, 1e-36, 0.5, 1e4, 3.4e38, np.inf, np.nan, -3.0])
@pytest.mark.parametrize("name", ["nvfp4", "nvfp4_torchao", *SELECTING])
def test_foreign_tensor_amax(name: str, amax: float) -> None:
    """Where the selection's kernel has no bits of the page (infinite, negative), the page itself answers."""
    for x in (wild(32, 64), RNG.standard_normal((32, 64)).astype(np.float32)):
        same(quantize(x, name, amax=amax), ref.quantize(x, name, amax=amax))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_nan_and_infinity_take_the_definition(name: str, bad: float) -> None:
    x = wild(32, 64)
    x[5, 40] = bad
    same(quantize(x, name), ref.quantize(x, name))


@pytest.mark.parametrize("value", [2.0**-149, 2.0**-127, 1e-38, 1e-36, 1e30, 3.4e38])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_tensors(name: str, value: float) -> None:
    """Errors that overflow and subnormal ones."""
    x = (RNG.uniform(-1, 1, (16, 64)) * value).astype(np.float32)
    same(quantize(x, name), ref.quantize(x, name))


def test_blocks_beyond_the_kernel_take_the_page() -> None:
    q = Quantizer("e2m1", Blocks(), lookup("nvfp4_4over6_mae").scale)
    x = RNG.standard_normal((1030, 40)).astype(np.float32)
    assert not four_over_six.covered((1030, 40), 1, np.float32(4), 6.0, q.scale)
    same(quantize(x, q), ref.quantize(x, q))


SHORT = [
    Scale("amax", format="ue5m3"), Scale("amax", format="ue4m3", apply="divide"), Scale("amax", format="e4m3", pow2="up", eps=1e-4),
    Scale("deviation", format="e8m0", std=0.48707976, eps=1e-8), Scale("deviation", format="e8m0", std=1e-30),
]  # fmt: skip


@pytest.mark.parametrize("k_axis", [0, 1])
@pytest.mark.parametrize("scale", SHORT, ids=str)
def test_pages_with_kernels_inside_keep_their_bits(scale: Scale, k_axis: int) -> None:
    """Scales in small formats, and of deviations: the page itself, with this backend's casts and sums."""
    q = Quantizer("e2m1", Blocks(1, 32), scale, tail="pad_zero")
    for x in (wild(9, 70), wild(64, 64), np.zeros((3, 33), np.float32)):
        same(quantize(x, q, k_axis=k_axis), ref.quantize(x, q, k_axis=k_axis))

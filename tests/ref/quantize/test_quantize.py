"""`quantize` and `QTensor`: identities every quantizer obeys, axes, tails, words, policies, layouts."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpref.ref.errors import NonFiniteError, ShapeError, UnknownNameError
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import (
    QUANTIZERS,
    Blocks,
    QTensor,
    Quantizer,
    Scale,
    lookup,
    quantize,
)
from lpref.ref.random import WordAddress

RNG = np.random.default_rng(0)
X = RNG.standard_normal((128, 512)).astype(np.float32)
ALL = [n for n in QUANTIZERS]
SCALED = [n for n in ALL if QUANTIZERS[n].scale.rule != "none"]
POW2 = [n for n in ALL if QUANTIZERS[n].scale.rule == "mx" and QUANTIZERS[n].scale.mode == "floor" and n != "mxfp4_three_quarters"]
LOCAL = ("amax", "mx", "absmean", "twn", "bfp", "affine", "trit_planes")
"""Rules whose scale is NaN in the block of a NaN, and nowhere else."""
ONE_TENSOR = [n for n in ALL if QUANTIZERS[n].scale.rule not in ("s2fp8", "trit_planes")]
SUMMED = ["ternary_absmean", "ternary_twn", "nf4_double", "trit_planes", "s2fp8", "binary_absmean"]
"""Scales that are sums: their order is row-major in the logical array, so they do not commute with transposition to the bit."""


def same(a: QTensor, b: QTensor) -> bool:
    equal = [np.array_equal(p, q) for p, q in zip((a.codes, *a.scales), (b.codes, *b.scales), strict=True)]
    return all(equal) and np.array_equal(a.tensor_scale, b.tensor_scale, equal_nan=True)


@pytest.mark.parametrize("name", ONE_TENSOR)
def test_dequantize_is_the_product_of_the_levels(name: str) -> None:
    t = quantize(X, name)
    br, bc = t.block
    scale = np.repeat(np.repeat(t.scale_values().astype(float), br, 0), bc, 1)[:128, :512] if t.scales else 1.0
    assert (t.dequantize() == t.element_values() * scale * float(t.tensor_scale)).all()
    assert t.dequantize(np.float32).dtype == np.float32
    assert (t.dequantize(np.float32) == t.dequantize().astype(np.float32)).all()
    assert t.dequantize("bfloat16").dtype == np.float64
    assert t.dequantize(ml_dtypes.bfloat16).tolist() == t.dequantize("bfloat16").tolist()


@pytest.mark.parametrize("name", POW2)
def test_power_of_two_scales_are_idempotent_and_equivariant(name: str) -> None:
    t = quantize(X, name)
    assert same(quantize(t.dequantize(), name), t)
    assert (quantize(X * np.float32(2**9), name).dequantize() == t.dequantize() * 2**9).all()


@pytest.mark.parametrize("name", ["fp8_tensor", "fp8_row", "fp8_tile1x128", "int8_row", "int4_group", "nf4"])
def test_codes_of_amax_scaling_are_idempotent(name: str) -> None:
    t = quantize(X, name)
    again = quantize(t.dequantize(), name)
    assert (again.codes == t.codes).all()
    assert np.abs(again.scale_values() / t.scale_values() - 1).max() <= 2.0**-22


@pytest.mark.parametrize("name", ["fp8_tensor", "fp8_block128", "int8_tensor", "int8_block32", "nvfp4_2d", "bf16", "ternary_absmean"])
def test_transpose_closed_quantizers_commute_with_transposition(name: str) -> None:
    x = np.concatenate([X, 3 * X])[:, :128]
    t, u = quantize(x, name), quantize(np.ascontiguousarray(x.T), name)
    if name == "ternary_absmean":  # the mean's order of addition differs
        assert (t.transpose().codes == u.codes).all()
    else:
        assert same(t.transpose(), u)
    assert (t.transpose().dequantize() == t.dequantize().T).all()


@pytest.mark.parametrize("name", ["fp8_row", "fp8_tile1x128", "int4_group", "mxfp4", "nvfp4", "nf4"])
def test_row_blocks_refuse_to_transpose(name: str) -> None:
    with pytest.raises(ShapeError, match="transpose-closed"):
        quantize(X, name).transpose()


@pytest.mark.parametrize("name", [n for n in ALL if n not in SUMMED])
def test_contracting_over_axis_0_is_the_transposed_problem(name: str) -> None:
    x = np.concatenate([X, X[:, ::-1] * 3])[:, :128]
    a, b = quantize(x, name, k_axis=0), quantize(np.ascontiguousarray(x.T), name)
    assert (a.unpacked() == b.unpacked().T).all()
    assert all((s == r.T).all() for s, r in zip(a.scales, b.scales, strict=True))


@settings(max_examples=60)
@given(
    st.sampled_from([n for n in SCALED if n not in ("int4_learned", "ternary_absmean", "trit_planes")]), st.integers(1, 40), st.integers(1, 300),
    st.sampled_from([0, 1]),
)  # fmt: skip
def test_tails_do_not_enter_anything(name: str, rows: int, columns: int, k_axis: int) -> None:
    x = np.resize(X, (rows, columns))
    q = replace(lookup(name), tail="partial")
    t = quantize(x, q, k_axis=k_axis)
    padded = replace(lookup(name), tail="pad_zero")
    assert same(quantize(x, padded, k_axis=k_axis), t)
    br, bc = t.block
    full = np.pad(x, ((0, -rows % br), (0, -columns % bc)))
    u = quantize(full, lookup(name), k_axis=k_axis)
    assert (u.unpacked()[:rows, :columns] == t.unpacked()).all()
    assert all((a == b).all() for a, b in zip(t.scales, u.scales, strict=True))
    assert t.observed["count"] == rows * columns
    for layout in ("linear", "column"):
        for form in (q, padded):
            v = quantize(x, form, k_axis=k_axis)
            assert same(QTensor.from_layout(layout, v.to_layout(layout), form, x.shape, k_axis), v)


def test_absmean_ignores_the_padding() -> None:
    q = Quantizer("int2", Blocks(1, 4), Scale("absmean"), tail="pad_zero")
    assert quantize(np.float32([[1, 1, 1, 1, 3, 3]]), q).scale_values().tolist() == [[1, 3]]


def test_words_are_indexed_by_logical_element() -> None:
    q = lookup("nvfp4:rounding=stochastic")
    address = WordAddress(7, 3, "h.0/dgrad/a/round")
    array = address.bits(X.size, 8).reshape(X.shape)
    for k_axis in (0, 1):
        a, b = quantize(X, q, words=address, k_axis=k_axis), quantize(X, q, words=array, k_axis=k_axis)
        assert same(a, b)
    t = quantize(np.ascontiguousarray(X.T), q, words=np.ascontiguousarray(array.T), k_axis=0)
    assert (t.unpacked().T == quantize(X, q, words=array).unpacked()).all()
    ragged = replace(lookup("mxfp4:rounding=stochastic"), tail="pad_zero")
    part = quantize(X[:, :100], ragged, words=address)
    assert same(part, quantize(X[:, :100], ragged, words=address.bits(12800, 8).reshape(128, 100)))


def test_stochastic_rounding_is_exact_in_the_mean_over_all_words() -> None:
    x = np.zeros((1, 32), np.float32)
    x[0] = np.arange(32) / 32 * 4
    x[0, 0] = 6
    r = np.arange(256, dtype=np.uint32)[:, None]
    t = quantize(np.repeat(x, 256, 0), lookup("mxfp4:rounding=stochastic"), words=np.broadcast_to(r, (256, 32)))
    assert (t.dequantize().mean(axis=0) == x[0]).all()


def test_leading_axes_are_flattened() -> None:
    x = X.reshape(4, 32, 512)
    t = quantize(x, "mxfp8_e4m3")
    assert t.logical_shape == (4, 32, 512)
    assert t.shape == (128, 512)
    assert (t.dequantize().reshape(128, 512) == quantize(X, "mxfp8_e4m3").dequantize()).all()
    assert quantize(X[0], "mxfp4").dequantize().shape == (512,)
    with pytest.raises(ShapeError, match="k_axis 0"):
        quantize(x, "mxfp4", k_axis=0)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.int32])
def test_input_types(dtype: type) -> None:
    x = (X * 4).astype(dtype)
    assert same(quantize(x, "mxfp8_e4m3"), quantize(x.astype(np.float32), "mxfp8_e4m3"))


def test_plain_casts_round_float64_once() -> None:
    x = np.array([1 + 2.0**-8 + 2.0**-40, 1e39, np.inf, np.nan, -0.0])
    values = quantize(x, "bf16").dequantize()
    assert values[0] == 1 + 2.0**-7
    assert values[1] == np.inf
    assert values[2] == np.inf
    assert np.isnan(values[3])
    assert np.signbit(values[4])


@pytest.mark.parametrize("name", SCALED)
def test_zero_tensors_have_zero_codes(name: str) -> None:
    t = quantize(np.zeros((128, 256), np.float32), name)
    assert (t.element_values() == (1 if name == "binary_absmean" else 0)).all()
    assert (t.dequantize() == 0).all()
    assert t.observed["overflowed"] == t.observed["underflowed"] == 0


@pytest.mark.parametrize("name", [n for n in SCALED if QUANTIZERS[n].scale.rule in LOCAL and n != "binary_absmean"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_element_takes_its_block_and_no_other(name: str, bad: float) -> None:
    x = np.resize(X, (128, 512)).copy()
    x[3, 300] = bad
    t, clean = quantize(x, name), quantize(np.resize(X, (128, 512)), name)
    i, j = 3 // t.block[0], 300 // t.block[1]
    poisoned = np.zeros(clean.scale_values().shape, bool)
    poisoned[i, j] = True
    assert (np.isnan(t.scale_values()) == poisoned).all()
    blocks = np.repeat(np.repeat(poisoned, t.block[0], 0), t.block[1], 1)[:128, :512]
    assert (np.isnan(t.dequantize()) == blocks).all()
    assert (t.element_values()[blocks] == 0).all()
    assert (t.unpacked()[~blocks] == clean.unpacked()[~blocks]).all()
    loud = replace(lookup(name), scale=replace(lookup(name).scale, nonfinite="raise"))
    with pytest.raises(NonFiniteError, match="1 of 65536"):
        quantize(x, loud)


def test_ignore_keeps_the_scale_of_the_finite_elements() -> None:
    x = np.float32([[1, np.inf, -2, 3]])
    t = quantize(x, "mxfp8_e4m3:k=4:nonfinite=ignore")
    assert t.scales[0].tolist() == quantize(np.float32([[1, 0, -2, 3]]), "mxfp8_e4m3:k=4").scales[0].tolist()
    assert t.dequantize()[0, 1] == 448 * t.scale_values()[0, 0]
    with pytest.raises(NonFiniteError):
        quantize(np.float32([[1, np.nan, -2, 3]]), "mxfp4:k=4:nonfinite=ignore")


def test_narrow_integers_never_use_the_lone_code() -> None:
    x = np.float32([[-1, 1, 0.5, -0.25]])
    assert quantize(x, "int8_tensor", amax=0.9).unpacked().astype(np.int8).tolist() == [[-127, 127, 71, -35]]
    wide = quantize(x, lookup("int8_tensor:narrow=false"), amax=0.9)
    assert wide.unpacked().astype(np.int8)[0, 0] == -128


def test_nbytes_and_html() -> None:
    t = quantize(X, "nvfp4")
    assert t.nbytes == X.size // 2 + X.size // 16 + 4
    assert "nvfp4" in t._repr_html_()


def test_cublas_layout_round_trips_and_matches_the_offset_formula() -> None:
    for name, k_axis in (("nvfp4", 1), ("mxfp8_e4m3", 0), ("nvfp4_2d", 1)):
        x = np.resize(X, (160, 224))
        t = quantize(x, name, k_axis=k_axis)
        arrays = t.to_layout("cublas_128x4")
        assert same(QTensor.from_layout("cublas_128x4", arrays, t.quantizer, x.shape, k_axis), t)
        grid = t.scales[0].T if k_axis == 0 else np.repeat(t.scales[0], t.block[0], 0)
        across = -(-grid.shape[1] // 4)
        for r, c in ((0, 0), (31, 3), (32, 1), (100, 4), (159, grid.shape[1] - 1)):
            r = min(r, grid.shape[0] - 1)
            tile = (r // 128) * across + c // 4
            assert arrays["scales"][512 * tile + (r % 32) * 16 + (r % 128 // 32) * 4 + c % 4] == grid[r, c]
    with pytest.raises(ShapeError, match="one-byte"):
        quantize(X, "int8_row").to_layout("cublas_128x4")
    with pytest.raises(UnknownNameError, match="linear"):
        t.to_layout("lineal")
    with pytest.raises(ShapeError, match="scale bytes"):
        QTensor.from_layout("cublas_128x4", {**arrays, "scales": arrays["scales"][:-1]}, t.quantizer, x.shape, k_axis)


@pytest.mark.parametrize("name", ["mxfp4", "mxfp6_e2m3", "mxfp8_e4m3", "ternary_absmean", "bf16"])
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 33])
def test_packing_round_trips_ragged_rows(name: str, columns: int) -> None:
    q = replace(lookup(name), tail="partial")
    t = quantize(X[:3, :columns], q)
    bits = format_named(q.format).bits
    assert t.codes.shape == (3, -(-columns * bits // 8) if bits < 8 else columns)
    assert (format_named(q.format).decode(t.unpacked()) == t.element_values()).all()
    assert quantize(X[:0, :columns], q).codes.shape[0] == 0

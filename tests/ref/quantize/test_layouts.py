"""Layouts: every registered quantizer comes back from each; the checkpoint layout of compressed-tensors; other libraries' arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpref.ref.errors import ShapeError
from lpref.ref.quantize import QUANTIZERS, QTensor, lookup, quantize
from lpref.ref.quantize.compressed_tensors import pack_int32, unpack_int32

X = np.random.default_rng(4).standard_normal((128, 256)).astype(np.float32)
CHECKPOINT = ["int8_row", "int4_group", "uint4_affine_group", "int8_affine_row", "nvfp4", "mxfp4", "fp8_row", "fp8_block128"]


@pytest.mark.parametrize("layout", ["linear", "column"])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_every_quantizer_comes_back(name: str, layout: str) -> None:
    t = quantize(X, name)
    back = QTensor.from_layout(layout, t.to_layout(layout), t.quantizer, t.logical_shape)
    assert (back.dequantize() == t.dequantize()).all()
    assert back.nbytes == t.nbytes


@pytest.mark.parametrize("name", CHECKPOINT)
def test_compressed_tensors_comes_back(name: str) -> None:
    t = quantize(X, name)
    back = QTensor.from_layout("compressed_tensors", t.to_layout("compressed_tensors"), t.quantizer, t.logical_shape)
    assert (back.codes == t.codes).all()
    assert (back.scales[0] == t.scales[0]).all()
    assert abs(back.tensor_scale / t.tensor_scale - 1) <= 2.0**-23
    assert t.zero is None or (back.zero == t.zero).all()


def test_compressed_tensors_packs_as_that_library_does() -> None:
    """Offset binary, dense along the row; zero points along the rows; what is decoded is scale * (stored - stored zero)."""
    t = quantize(X, "uint4_affine_group")
    arrays = t.to_layout("compressed_tensors")
    assert {k: (v.shape, v.dtype.name) for k, v in arrays.items()} == {
        "weight_packed": ((128, 32), "int32"), "weight_scale": ((128, 2), "float32"), "weight_shape": ((2,), "int64"),
        "weight_zero_point": ((16, 2), "int32"),
    }  # fmt: skip
    word = int(arrays["weight_packed"][5, 3]) % 2**32
    assert [word >> 4 * i & 15 for i in range(8)] == t.unpacked()[5, 24:32].tolist()
    zeros = int(arrays["weight_zero_point"][1, 0]) % 2**32
    assert [zeros >> 4 * i & 15 for i in range(8)] == t.zero[8:16, 0].tolist()
    signed = quantize(X, "int8_row").to_layout("compressed_tensors")["weight_packed"]
    assert int(signed[0, 0]) % 2**32 & 255 == int(quantize(X, "int8_row").element_values()[0, 0]) + 128


@given(st.integers(1, 8), st.integers(1, 3), st.integers(1, 70))
def test_dense_words(bits: int, rows: int, columns: int) -> None:
    values = np.random.default_rng(columns).integers(0, 2**bits, (rows, columns)).astype(np.uint8)
    words = pack_int32(values, bits)
    assert words.shape == (rows, -(-columns * bits // 32))
    assert (unpack_int32(words, bits, columns) == values).all()
    whole = sum(int(v) << bits * j for j, v in enumerate(values[0]))
    assert [int(w) % 2**32 for w in words[0]] == [whole >> 32 * i & (2**32 - 1) for i in range(words.shape[1])]


@pytest.mark.parametrize("name", ["nf4", "mxfp8_e4m3", "s2fp8", "int8_switchback"])
def test_compressed_tensors_refuses_what_it_has_no_tensors_for(name: str) -> None:
    with pytest.raises(ShapeError, match="the library keeps"):
        quantize(X, name).to_layout("compressed_tensors")


def test_tiled_scales_refuse_second_levels() -> None:
    with pytest.raises(ShapeError):
        quantize(X, "nf4_double").to_layout("cublas_128x4")


def test_a_layout_of_torch_arrays_is_a_tensor_of_torch() -> None:
    torch = pytest.importorskip("torch")
    t = quantize(X, "uint8_affine")
    arrays = {key: torch.from_numpy(np.array(v)) for key, v in t.to_layout("linear").items() if v.dtype != np.uint32}
    arrays["scales"] = torch.from_numpy(t.scales[0].view(np.int32))
    back = QTensor.from_layout("linear", arrays, lookup("uint8_affine"), t.logical_shape)
    assert isinstance(back.dequantize(), torch.Tensor)
    assert isinstance(back.zero, torch.Tensor)
    assert (back.dequantize().numpy() == t.dequantize()).all()

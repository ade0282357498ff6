"""NVFP4: the two-level formula's cases, and the same bits from torch run eagerly, in the formula's order."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.errors import ShapeError
from lpref.ref.quantize import quantize
from lpref.ref.scaling.nvfp4 import global_encode_scale

RNG = np.random.default_rng(0)


def test_the_largest_block_has_the_largest_scale() -> None:
    x = RNG.standard_normal((32, 64)).astype(np.float32)
    t = quantize(x, "nvfp4")
    assert t.scale_values().max() == 448
    assert np.abs(t.element_values()).max() == 6
    assert t.scales[0].shape == (32, 4)


def test_zero_tensor_and_zero_block() -> None:
    t = quantize(np.zeros((2, 32), np.float32), "nvfp4")
    assert (t.scales[0] == 0).all()
    assert (t.codes == 0).all()
    assert t.tensor_scale == 0
    x = np.full((1, 32), 2688, np.float32)
    x[0, :16] = 0
    t = quantize(x, "nvfp4")
    assert t.scales[0][0].tolist() == [0, 0x7E]
    assert (t.dequantize()[0] == x[0]).all()


def test_a_block_far_below_the_tensor_decodes_to_zero_and_is_counted() -> None:
    x = np.full((1, 32), 1e-9, np.float32)
    x[0, 16] = 1e6
    t = quantize(x, "nvfp4")
    assert t.scales[0][0, 0] == 0
    assert (t.dequantize()[0, :16] == 0).all()
    assert t.observed["underflowed"] == 31


@pytest.mark.parametrize(("bad", "scale"), [(np.inf, np.inf), (np.nan, np.nan)])
def test_bad_values_are_loud(bad: float, scale: float) -> None:
    x = np.ones((2, 32), np.float32)
    x[1, 1] = bad
    t = quantize(x, "nvfp4")
    assert np.array_equal(t.tensor_scale, np.float32(scale), equal_nan=True)
    assert not np.isfinite(t.dequantize()[1, 1])
    if np.isnan(bad):
        assert (t.scales[0] == 0x7F).all()
        assert (t.codes == 0).all()


def test_tiny_tensors_hit_flt_max() -> None:
    assert global_encode_scale(np.float32(1e-37), 6.0) == np.finfo(np.float32).max
    assert global_encode_scale(np.float32(np.inf), 6.0) == 1


def test_square_blocks_commute_with_transposition() -> None:
    x = RNG.standard_normal((64, 48)).astype(np.float32)
    a, b = quantize(x, "nvfp4_2d"), quantize(np.ascontiguousarray(x.T), "nvfp4_2d")
    assert (a.transpose().codes == b.codes).all()
    assert (a.transpose().scales[0] == b.scales[0]).all()
    one = quantize(x, "nvfp4")
    with pytest.raises(ShapeError, match="not transpose-closed"):
        one.transpose()


def test_the_other_axis_is_the_transposed_problem() -> None:
    x = RNG.standard_normal((64, 48)).astype(np.float32)
    a, b = quantize(x, "nvfp4", k_axis=0), quantize(np.ascontiguousarray(x.T), "nvfp4")
    assert (a.unpacked() == b.unpacked().T).all()
    assert (a.scales[0] == b.scales[0].T).all()


def test_a_foreign_amax_replaces_the_measured_one() -> None:
    x = RNG.standard_normal((4, 16)).astype(np.float32)
    whole = np.concatenate([x, 5 * x])
    part = quantize(x, "nvfp4", amax=np.max(np.abs(whole)))
    assert (part.codes == quantize(whole, "nvfp4").codes[:4]).all()


@pytest.mark.peer
def test_torch_eager_in_the_same_order() -> None:
    torch = pytest.importorskip("torch")
    x = (RNG.standard_normal((256, 64)) * np.exp2(RNG.integers(-6, 6, (256, 4)).repeat(16, axis=1))).astype(np.float32)
    v = torch.from_numpy(x).reshape(256, 4, 16)
    biggest = torch.tensor(torch.finfo(torch.float32).max)
    whole = v.abs().amax()
    encode = torch.minimum(torch.tensor(2688.0) / whole, biggest)
    scale = (v.abs().amax(-1) * (encode * torch.reciprocal(torch.tensor(6.0)))).clamp(-448, 448).to(torch.float8_e4m3fn)
    factor = torch.minimum(torch.reciprocal(scale.float() * torch.reciprocal(encode)), biggest)
    u = (v * factor[..., None]).clamp(-6, 6).reshape(256, 64)
    grid = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    low = torch.bucketize(u.abs(), grid, right=True).clamp(1, 7) - 1  # index of the lower neighbour
    middle = (grid[low] + grid[low + 1]) / 2
    code = low + ((u.abs() > middle) | ((u.abs() == middle) & (low % 2 == 1))).long()
    code = code + 8 * torch.signbit(u).long()
    t = quantize(x, "nvfp4")
    assert (t.scales[0] == scale.view(torch.uint8).numpy()).all()
    assert (t.unpacked() == code.numpy()).all()

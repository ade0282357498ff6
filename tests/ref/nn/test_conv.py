"""im2col and col2im: literal index loops, adjointness, torch."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref import nn
from lpref.ref.errors import ShapeError

CASES = [((2, 3, 5, 4), 3, 2, 1, 1), ((1, 1, 1, 1), 1, 1, 1, 0), ((2, 2, 7, 7), 3, 3, 2, 1), ((1, 2, 6, 5), 2, 2, 3, 0), ((0, 2, 4, 4), 3, 3, 1, 1)]


@pytest.mark.parametrize(("shape", "kh", "kw", "stride", "pad"), CASES)
def test_is_its_page(shape, kh, kw, stride, pad, draw) -> None:
    x = draw(*shape)
    N, C, H, W = shape
    oh, ow = (H + 2 * pad - kh) // stride + 1, (W + 2 * pad - kw) // stride + 1
    cols = nn.im2col(x, kh, kw, stride, pad)
    assert cols.shape == (N * oh * ow, C * kh * kw)
    d = draw(*cols.shape)
    back = np.zeros(shape, np.float32)
    for i, j in np.ndindex(kh, kw):  # outermost: the order of the additions into a pixel
        for n, a, b, c in np.ndindex(N, oh, ow, C):
            row, column, y, z = (n * oh + a) * ow + b, (c * kh + i) * kw + j, a * stride + i - pad, b * stride + j - pad
            inside = 0 <= y < H and 0 <= z < W
            assert cols[row, column] == (x[n, c, y, z] if inside else 0)
            if inside:
                back[n, c, y, z] += d[row, column]
    np.testing.assert_array_equal(nn.col2im(d, shape, kh, kw, stride, pad), back)


@pytest.mark.peer
def test_torch_conv2d(draw) -> None:
    torch = pytest.importorskip("torch")
    x, w, dy = draw(2, 3, 8, 9).astype(np.float64), draw(4, 3, 3, 3).astype(np.float64), draw(2, 4, 4, 5).astype(np.float64)
    tx, tw = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
    want = torch.nn.functional.conv2d(tx, tw, stride=2, padding=1)
    want.backward(torch.tensor(dy))
    cols = nn.im2col(x, 3, 3, 2, 1)
    y = (cols @ w.reshape(4, -1).T).reshape(2, 4, 5, 4).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=0, atol=1e-12)
    rows = dy.transpose(0, 2, 3, 1).reshape(-1, 4)
    np.testing.assert_allclose((rows.T @ cols).reshape(w.shape), tw.grad.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(nn.col2im(rows @ w.reshape(4, -1), x.shape, 3, 3, 2, 1), tx.grad.numpy(), rtol=0, atol=1e-12)


def test_errors() -> None:
    with pytest.raises(ShapeError, match="do not fit"):
        nn.im2col(np.zeros((1, 1, 2, 2), np.float32), 3, 3)
    with pytest.raises(ShapeError):
        nn.im2col(np.zeros((1, 2, 2), np.float32), 1, 1)
    with pytest.raises(ShapeError, match="cols"):
        nn.col2im(np.zeros((1, 1), np.float32), (1, 1, 4, 4), 3, 3)

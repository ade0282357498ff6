"""Greatest magnitudes that kernels note of what they write, without a GPU (host_gpu): those of the arrays, and what quantizers make of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import host_gpu
import ml_dtypes
import numpy as np
import pytest
from kernel_draw import Draw

from lpref.accel.cuda import activation, device, loss, measure, norm, noted
from lpref.accel.cuda.attention_packed import attention_packed, attention_packed_backward
from lpref.accel.cuda.quantize import quantize
from lpref.ref import quantize as ref
from lpref.ref.quantize import lookup


@pytest.fixture(scope="module", autouse=True)
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host"), processors=1) as patch:
        patch.setattr(device, "resident", lambda kernel, threads: 3)
        yield


def made(spoilt: float = 1.0) -> dict[str, Any]:
    """Arrays that kernels note of, by the kernel."""
    draw = Draw(4)
    x, dy, w, b = (host_gpu.put(draw(*shape)) for shape in ((16, 132), (16, 132), (132,), (132,)))
    x[3, 5] = dy[1, 7] = spoilt
    y, mean, rstd, s = norm.add_layernorm(x, dy, w, b, 1e-5)
    targets = np.arange(16)
    of, qkv = (2, 4, 2), host_gpu.put(draw(16, 64))
    qkv[3, 5] = spoilt
    o, logs = attention_packed(qkv, *of, fused=True)
    return {
        "attention": o, "attention_backward": attention_packed_backward(host_gpu.put(draw(16, 32)), qkv, o, logs, *of, fused=True),
        "gelu": activation.gelu(x), "gelu_backward": activation.gelu_backward(dy, x, "erf"), "relu": activation.relu(x), "norm": y,
        "norm_backward": norm.add_layernorm_backward(dy, x, s, w, mean, rstd)[0],
        "loss": loss.softmax_cross_entropy_backward(np.float32(3), loss.softmax_cross_entropy(x, targets)[1], targets),
    }  # fmt: skip


@pytest.mark.parametrize("spoilt", [1.0, 1e30, np.inf, np.nan])
def test_what_is_noted(spoilt: float) -> None:
    with np.errstate(all="ignore"), noted.noting(True):
        found = made(spoilt)
    for name, y in found.items():
        bits = np.abs(y.get()).view(np.uint32).max()
        (top,) = noted.of(y).get().tolist()
        assert top == bits or min(top, bits) > 0x7F800000, name
        assert noted.of(host_gpu.put(y.get())) is None
    assert all(noted.of(y) is None for y in made(1.0).values())


def test_who_notes() -> None:
    with noted.noting(True):
        x = host_gpu.put(Draw(1)(3, 8))
        assert noted.of(activation.gelu(x, store="float32")) is not None
        w, b = host_gpu.put(Draw(2)(8)), host_gpu.put(Draw(3)(8))
        assert noted.of(norm.layernorm(x, w, b, 1e-5)[0]) is None  # blocks have threads without a row
        assert noted.of(activation.gelu(host_gpu.put(np.zeros((0, 8), np.float32)))) is None
        with noted.noting(False):
            assert noted.of(activation.gelu(x)) is None
        assert noted.counters(host_gpu.put(np.zeros((2, 2), ml_dtypes.bfloat16))) == ((), 0)
    names = ("fp8_tensor", "int8_tensor", "fp8_tensor:history=delayed", "fp8_row", "nvfp4")
    assert [noted.reads(lookup(q)) for q in names] == [True, True, False, False, False]


def test_quantizers_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    plain = measure.reach
    monkeypatch.setattr(measure, "reach", lambda *args: measured.append(1) or plain(*args))
    with noted.noting(True):
        for name, y in made().items():
            for q in ("fp8_tensor", "int8_tensor"):
                got, want = quantize(y, lookup(q)).host(), ref.quantize(y.get(), lookup(q))
                np.testing.assert_array_equal(got.codes, want.codes, name)
                np.testing.assert_array_equal(got.scales[0], want.scales[0], name)
                assert dict(got.observed) == dict(want.observed), name
    assert not measured

"""Greatest magnitudes after a transform that activations note of what they write, without a GPU (host_gpu): those of the arrays, and what quantizers
make of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import host_gpu
import ml_dtypes
import numpy as np
import pytest
from kernel_draw import Draw

from lpref.accel import reference
from lpref.accel.cuda import activation, device, hadamard, norm, noted, panels
from lpref.accel.cuda.operand import operand, operands
from lpref.ref.quantize import lookup
from lpref.ref.recipes.transform import Transform

SIGNS = np.array([1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1], np.float32)
TURN = ((Transform(size=16, signs="fixed", vector=tuple(int(s) for s in SIGNS)), SIGNS),)


@pytest.fixture(scope="module", autouse=True)
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host"), processors=1) as patch:
        patch.setattr(device, "resident", lambda kernel, threads: 2)
        yield


def made(spoilt: float, near: bool, sixteen: bool) -> dict[str, Any]:
    """Arrays of which kernels note the transform, by the kernel."""
    draw, kind = Draw(5), ml_dtypes.bfloat16 if sixteen else np.float32
    x, gu, dy = (draw(*shape) for shape in ((48, 144), (48, 288), (48, 144)))
    dy[17, 143] = x[5, 66] = gu[33, 150] = spoilt
    x, gu, dy = (host_gpu.put(a.astype(kind)) for a in (x, gu, dy))
    w, b = host_gpu.put(draw(144)), host_gpu.put(draw(144))
    return {
        "gelu": activation.gelu(x, near=near), "gelu_backward": activation.gelu_backward(dy, x, near=near),
        "layernorm": norm.add_layernorm(x, dy, w, b, 1e-5)[0], "rmsnorm": norm.rmsnorm(x, w, 1e-5)[0],
        "swiglu": activation.swiglu_packed(gu, near=near), "swiglu_backward": activation.swiglu_packed_backward(dy, gu, near=near),
    }  # fmt: skip


@pytest.mark.parametrize("sixteen", [False, True])
@pytest.mark.parametrize("spoilt", [1.0, 1e30, np.inf, np.nan])
@pytest.mark.parametrize("signs", [SIGNS, None])
def test_what_is_noted(signs: Any, spoilt: float, sixteen: bool) -> None:
    turn = noted.turn_of(16, signs)
    turns = dict.fromkeys([(48, 144), (48, 288)], turn)
    with np.errstate(all="ignore"):
        plain = made(spoilt, sixteen, sixteen)
        with noted.noting(False, turns):
            found = made(spoilt, sixteen, sixteen)
            for name, y in found.items():
                assert np.array_equal(y.get(), plain[name].get(), equal_nan=True), name
                note, want = noted.turned(y, turn), hadamard.hadamard(y, 16, 0, signs).get()
                for got, values in ((note.plain, y.get()), (note.turned, want)):
                    most = np.abs(values).max()
                    assert np.array_equal(got.get().view(np.float32), [most], equal_nan=True), name
                assert noted.turned(y.reshape(96, -1), turn) is None  # other columns
                assert noted.of(y.reshape(-1)) is not None
    assert all(noted.of(y) is None for y in plain.values())


def test_who_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shape whose transform was measured is noted from then on; what quantizers make of it is the same."""
    q, launched, plain = lookup("nvfp4:tail=pad_zero"), [], device.function
    monkeypatch.setattr(panels.device, "function", lambda name, *rest: launched.append(name) or plain(name, *rest))
    x, turns = host_gpu.put(Draw(6)(32, 64)), {}  # type: ignore[var-annotated]
    wanted = [(q, {"k_axis": 1}, True), (q, {"k_axis": 0, "transforms": TURN}, True)]
    seen = []
    for _ in range(2):
        with noted.noting(False, turns):
            y = activation.gelu(x)
            seen.append([t.host() for t in operands(y, wanted, numbers=True)])
    assert launched.count("peaks") == 1
    assert list(turns) == [(32, 64)]
    for (_, options, _), *both in zip(wanted, *seen, strict=True):
        want = reference.operand(y.get(), q, **options)
        for got in both:
            np.testing.assert_array_equal(got.codes, want.codes)
            np.testing.assert_array_equal(got.scales[0], want.scales[0])
            assert got.tensor_scale == want.tensor_scale
    assert operand(y, q, k_axis=0, transforms=TURN).host().tensor_scale == seen[0][1].tensor_scale  # noted too
    assert launched.count("peaks") == 1


def test_what_is_not_noted() -> None:
    random = np.ones(48, np.float32)
    assert [noted.turn_of(8, None), noted.turn_of(16, random), noted.turn_of(16, host_gpu.put(SIGNS))] == [None] * 3
    turns = dict.fromkeys([(48, 143), (24, 64), (32, 64)], noted.turn_of(16, SIGNS))
    with noted.noting(False, turns):
        for shape in ((48, 143), (24, 64), (48, 64)):
            assert noted.of(activation.gelu(host_gpu.put(Draw(1)(*shape)))) is None
        odd = host_gpu.put(Draw(1)(32 * 64 + 1))[1:].reshape(32, 64)
        assert noted.of(activation.gelu(odd)) is None
        assert noted.of(activation.gelu(odd, store="bfloat16")) is None
        assert noted.turned(odd, None) is None

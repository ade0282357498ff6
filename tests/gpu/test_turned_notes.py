"""Greatest magnitudes after a transform that kernels note on the device: those of the arrays, which are the same as without."""

from __future__ import annotations

from typing import Any

import cupy as cp
import ml_dtypes
import numpy as np
import pytest
from device_cases import wide

from lpref.accel.cuda import activation, device, hadamard, norm, noted
from lpref.accel.cuda.operand import operands
from lpref.ref.quantize import lookup
from lpref.ref.recipes.transform import Transform

SIGNS = np.array([1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1], np.float32)
TURN = ((Transform(size=16, signs="fixed", vector=tuple(int(s) for s in SIGNS)), SIGNS),)
CASES = {
    "gelu": lambda x, gu, dy: activation.gelu(x, near=True), "gelu exact": lambda x, gu, dy: activation.gelu(x),
    "gelu_backward": lambda x, gu, dy: activation.gelu_backward(dy, x, near=True),
    "layernorm": lambda x, gu, dy: norm.add_layernorm(x, dy, *cp.ones((2, x.shape[1]), np.float32), 1e-5)[0],
    "rmsnorm": lambda x, gu, dy: norm.rmsnorm(x, cp.full(x.shape[1], 3, np.float32), 1e-5)[0],
    "swiglu": lambda x, gu, dy: activation.swiglu_packed(gu, near=True),
    "swiglu_backward": lambda x, gu, dy: activation.swiglu_packed_backward(dy, gu, near=True),
    "swiglu_backward exact": lambda x, gu, dy: activation.swiglu_packed_backward(dy, gu),
}  # fmt: skip


@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(16, 4), (48, 212), (4096, 1024), (1040, 768), (1040, 3072)])
@pytest.mark.parametrize("name", CASES)
def test_what_is_noted(name: str, shape: tuple[int, int], kind: Any) -> None:
    (rows, columns), turn = shape, noted.turn_of(16, SIGNS)
    if "norm" in name and columns > norm.LONGEST:
        pytest.skip("rows are too long for a warp")
    bits = np.float32 if kind == np.float32 else np.uint16
    x, gu, dy = (cp.asarray(wide(rows, n).astype(kind).view(bits)).view(kind) for n in (columns, 2 * columns, columns))
    plain = CASES[name](x, gu, dy)
    with noted.noting(False, dict.fromkeys([(rows, columns), (rows, 2 * columns)], turn)):
        y = CASES[name](x, gu, dy)
        note = noted.turned(y, turn)
    assert note is not None
    np.testing.assert_array_equal(y.get(), plain.get())
    np.testing.assert_array_equal(note.plain.get().view(np.float32), np.abs(y.get()).max())
    np.testing.assert_array_equal(note.turned.get().view(np.float32), np.abs(hadamard.hadamard(y, 16, 0, SIGNS).get()).max())


def test_operands_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shape whose transform was measured is noted from then on."""
    q, launched, plain = lookup("nvfp4:tail=pad_zero"), [], device.function
    monkeypatch.setattr(device, "function", lambda name, *rest: launched.append(name) or plain(name, *rest))
    x, turns = cp.asarray(wide(4096, 1024)), {}  # type: ignore[var-annotated]
    wanted = [(q, {"k_axis": 1}, True), (q, {"k_axis": 0, "transforms": TURN}, True)]
    seen = []
    for _ in range(3):
        with noted.noting(False, turns):
            seen.append([t.host() for t in operands(activation.gelu(x), wanted, numbers=True)])
    assert launched.count("peaks") == 1
    for other in seen[1:]:
        for one, two in zip(seen[0], other, strict=True):
            np.testing.assert_array_equal(one.codes, two.codes)
            np.testing.assert_array_equal(one.scales[0], two.scales[0])
            assert one.tensor_scale == two.tensor_scale

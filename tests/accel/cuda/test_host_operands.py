"""A layer whose operands are made together, without a GPU (host_gpu/): bits of outputs, gradients and counts as by the definitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import host_gpu
import numpy as np
import pytest

from lpref.accel.cuda import device
from lpref.accel.cuda import operand as module
from lpref.accel.cuda.backend import CudaBackend
from lpref.accel.reference import ReferenceBackend
from lpref.ref.recipes import Context, linear_backward, linear_forward
from lpref.specs import recipe


@pytest.fixture(scope="module", autouse=True)
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host"), processors=1) as patch:
        patch.setattr(device, "resident", lambda kernel, threads: 3)
        yield


def step(ops: Any, linear: Any, tensors: list[np.ndarray], micro: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Results and observations of one layer, both passes."""
    x, w, dy = (host_gpu.put(t) for t in tensors) if isinstance(ops, CudaBackend) else tensors
    ctx = Context(site="h.0.mlp.up", seed=5, step=3, micro=micro)
    y, kept = linear_forward(x, w, linear, ctx, ops)
    grads = linear_backward(dy, kept, linear, ctx, ops)
    found = {"y": y, "dx": grads.dx, "dw": grads.dw}
    return {name: np.asarray(ops.arrays.host(v), np.float32) for name, v in found.items()}, {k: dict(v) for k, v in ctx.observed.items()}


@pytest.mark.parametrize(("name", "micro"), [("nvfp4", 0), ("nvfp4", 1), ("mxfp8", 0)])
def test_a_layer(name: str, micro: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    tensors = [rng.standard_normal(shape).astype(np.float32) for shape in ((64, 64), (32, 64), (64, 32))]
    made, original = [], module.in_panels
    monkeypatch.setattr(module, "in_panels", lambda wanted, *rest, **how: made.append(len(wanted)) or original(wanted, *rest, **how))
    linear = recipe(name).linear
    got, seen = step(CudaBackend("exact"), linear, tensors, micro)
    assert made.count(2) == 2, "x once and dY once"
    want, expected = step(ReferenceBackend("exact"), linear, tensors, micro)
    for key in want:
        np.testing.assert_array_equal(got[key].view(np.uint32), want[key].view(np.uint32), key)
    assert repr(seen) == repr(expected)

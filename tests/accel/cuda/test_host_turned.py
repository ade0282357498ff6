"""Arrays that are coded while they are made, without a GPU (host_gpu): the codes and counts of those that are written first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import host_gpu
import numpy as np
import pytest
from kernel_draw import Draw

from lpref.accel.cuda import activation, arrays, device, loss, noted, operand
from lpref.accel.cuda.backend import KERNELS, CudaBackend
from lpref.accel.cuda.unmade import NAME, Unmade
from lpref.autodiff import Tensor
from lpref.autodiff import functional as F
from lpref.ref.errors import ShapeError
from lpref.ref.quantize import lookup
from lpref.ref.random import WordAddress
from lpref.ref.recipes import Context
from lpref.ref.recipes.sixteen import codes_gradient, codes_input
from lpref.specs import recipe

WORDS = WordAddress(2**40 + 5, 9, "head/dgrad/a/round", start=64)
DELAYED = "fp8_tensor:format=e5m2:history=delayed:window=16"


@pytest.fixture(scope="module", autouse=True)
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host"), processors=1) as patch:
        patch.setattr(device, "resident", lambda kernel, threads: 3)
        yield


def gradient(rows: int, columns: int, spoilt: float = 1.0, hit: int = 0) -> Unmade:
    logits = Draw(rows)(rows, columns) * np.float32(3)
    logits[2, 5] = spoilt
    targets = np.full(rows, hit) if hit else np.arange(rows) * 7 % columns
    _, probs = loss.softmax_cross_entropy(arrays.short(host_gpu.put(logits)), targets, near=True)
    return loss.softmax_cross_entropy_backward(np.float32(1024), probs, targets, store=NAME)


def activations(rows: int, columns: int, spoilt: float = 1.0) -> Unmade:
    h = Draw(rows)(rows, columns) * np.float32(3)
    h[2, 5] = spoilt
    return activation.gelu(arrays.short(host_gpu.put(h)), store=NAME, near=True)


@pytest.mark.parametrize("source", [gradient, activations])
@pytest.mark.parametrize("q", [DELAYED, DELAYED + ":rounding=stochastic"])
@pytest.mark.parametrize("spoilt", [1.0, 200.0, np.nan])
def test_codes_of_what_is_not_written(q: str, spoilt: float, source: Any) -> None:
    for rows, columns, scale in ((16, 144, 500.0), (144, 160, 1.0), (32, 16, 2.0**20)):
        options: dict[str, Any] = {"k_axis": 1, "words": WORDS, "state": {"scale": np.float32(scale)}, "both": True}
        with np.errstate(all="ignore"):
            g = source(rows, columns, spoilt)
            made, wanted = (operand.operand(x, lookup(q), **options) for x in (g.reshape(rows, -1), g.array()))
        for one, other in ((made.codes, wanted.codes), (made.turned, wanted.turned), (made.scales[0], wanted.scales[0])):
            np.testing.assert_array_equal(one.get(), other.get())
        assert repr(dict(made.observed)) == repr(dict(wanted.observed))


@pytest.mark.parametrize("spoilt", [1.0, 200.0, -np.inf, np.inf, np.nan])
@pytest.mark.parametrize("q", ["fp8_tensor:format=e5m2", "fp8_tensor:rounding=stochastic", "int8_tensor"])
def test_scales_that_follow_from_it(q: str, spoilt: float) -> None:
    """The amax, before anything is written; where a target is a row's most probable class, and where it is not."""
    options: dict[str, Any] = {"k_axis": 1, "words": WORDS, "both": True}
    with np.errstate(all="ignore"), noted.noting(True):
        for g in (gradient(16, 4112, spoilt), gradient(16, 4112, spoilt, 5), activations(48, 144, spoilt), activations(16, 16, spoilt)):
            assert g.peak is not None
            array, top = g.array(), int(g.peak().get()[0])
            wanted = int(np.abs(array.get()).view(np.uint32).max())
            assert top == wanted or min(top, wanted) > 0x7F800000
            if np.isnan(spoilt) and q.startswith("int8"):
                continue
            found, other = (operand.operand(x, lookup(q), **options) for x in (g, array))
            for one, two in ((found.codes, other.codes), (found.turned, other.turned), (found.scales[0], other.scales[0])):
                np.testing.assert_array_equal(one.get(), two.get())
            assert repr(dict(found.observed)) == repr(dict(other.observed))


def test_who_gets_the_array() -> None:
    """Scales that follow from it, shapes that do not fit, statistics."""
    g = gradient(16, 24)
    assert g.reshape((2, 8, 24)).reshape(-1, 24).shape == (16, 24)
    assert (g.ndim, g.size, g.dtype, g.nbytes) == (2, 384, np.float32, 768)
    with pytest.raises(ShapeError, match="array of shape"):
        g.reshape(5, 5)
    wide, options = gradient(16, 32), {"k_axis": 1, "both": True}
    state = {"state": {"scale": np.float32(9)}}
    others = ((wide, DELAYED, state | {"collect": True}), (wide, DELAYED, state | {"both": False}))
    for x, q, more in ((g, DELAYED, state), (wide, "fp8_tensor", {}), *others):
        found, wanted = (operand.operand(y, lookup(q), **(options | more)) for y in (x, x.array()))
        np.testing.assert_array_equal(found.codes.get(), wanted.codes.get())
        assert (found.turned is None) == (wanted.turned is None)


def test_who_reads_codes() -> None:
    for reads in (codes_gradient, codes_input):
        assert [reads(recipe(name).linear) for name in ("fp8_delayed", "fp8_current", "bf16", "nvfp4", "mxfp8")] == [True, True, *[False] * 3]


def test_through_the_tape() -> None:
    """The weights' gradients of a head and its loss, with the gradient of the logits written and not."""
    found, linear = [], recipe("fp8_delayed").linear
    x, w, targets = Draw(1)(2, 16, 32), Draw(2)(48, 32), np.arange(32).reshape(2, 16) % 48
    for both in (True, False):
        ops = CudaBackend("fast")
        ops.arrays = replace(ops.arrays, both=both)
        ops.__dict__.update({op: KERNELS[op] for op in ("gemm", "gemms")})
        tensors = [Tensor(host_gpu.put(a), ops, requires_grad=True) for a in (x, w)]
        state = {f"head/{path}": {"scale": np.float32(100), "history": np.zeros(4, np.float32)} for path in ("fprop/a", "fprop/b", "dgrad/a")}
        logits = F.linear(*tensors, recipe=linear, ctx=Context(1, 2, 3, site="head", state=state))
        logits.data = arrays.short(logits.data)
        F.softmax_cross_entropy(logits.reshape((2, 16, 48)), targets, back=NAME if both else "float32").backward()
        found.append([t.grad.get() for t in tensors])
    for one, other in zip(*found, strict=True):
        assert np.abs(one).max() > 0
        np.testing.assert_array_equal(one, other)

"""Arrays of bfloat16 stand for their float32 values: every op takes them, without a GPU (host_gpu)."""

from __future__ import annotations

from collections.abc import Iterator

import host_gpu
import ml_dtypes
import numpy as np
import pytest
from kernel_cases import CASES
from kernel_check import Place
from kernel_draw import Draw
from kernel_sizes import KERNELS

from lpref.accel.again import AGAIN
from lpref.accel.cuda import arrays, operand, quantize
from lpref.accel.cuda.backend import ARRAYS
from lpref.accel.reference import COPIED, STORED
from lpref.ref.contracts import Bits
from lpref.ref.errors import BackendError
from lpref.ref.quantize import lookup
from lpref.ref.quantize import quantize as definition


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host")):
        yield Place(host_gpu.put, host_gpu.get)


def short(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return x.astype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 4099])
def test_wide(place: Place, n: int) -> None:
    x = short(np.random.default_rng(n).integers(0, 2**32, n, dtype=np.uint32).view(np.float32))
    got = place.here(arrays.wide(place.put(x)))
    np.testing.assert_array_equal(got.view(np.uint32), x.view(np.uint16).astype(np.uint32) << 16)
    host = ARRAYS.host(place.put(x))
    np.testing.assert_array_equal(host.view(np.uint32), got.view(np.uint32))
    y = place.put(x.reshape(n, 1))[:, ::-1].transpose(1, 0)
    assert arrays.wide(y).shape == (1, n)
    f = place.put(np.zeros(3, np.float32))
    assert arrays.wide(f) is f
    assert arrays.wide(2.0) == 2.0


@pytest.mark.parametrize("op", KERNELS)
def test_every_op_takes_sixteen_bits(place: Place, op: str) -> None:
    """The bits that the op makes of float32 arrays of the same values."""
    with np.errstate(all="ignore"):
        for case in list(CASES[op](Draw(11)))[:24]:
            case, options = case if len(case) == 2 and isinstance(case[1], dict) else (case, {})
            narrow = [short(a) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a for a in case]
            same = [a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype == ml_dtypes.bfloat16 else a for a in narrow]
            got, want = (KERNELS[op].function(*place.there(list(args)), **place.there(options)) for args in (narrow, same))
            assert Bits().mismatch(place.here(want), place.here(got), (), {}) is None


@pytest.mark.parametrize("name", ["bf16", "fp16", "nvfp4", "mxfp8_e4m3", "fp8_tensor"])
def test_operands(place: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "_fast", lambda job: None)  # the generic kernels: the fast ones have instructions of the GPU's own
    x, q = short(Draw(5).wild(32, 128)), lookup(name)
    x = x if name != "fp8_tensor" else short(Draw(5)(32, 128))
    want = definition(x.astype(np.float32), q, k_axis=1)
    got = operand.operand(place.put(x), q, k_axis=1)
    np.testing.assert_array_equal(got.host().dequantize(), want.dequantize())


def number(a: object) -> bool:
    return isinstance(a, np.ndarray) and a.dtype == np.float32


@pytest.mark.parametrize("op", [op for op in STORED if op in KERNELS])
def test_results_that_are_stored_in_sixteen_bits(place: Place, op: str) -> None:
    """The definition's result, rounded once; of x in float32 and in bfloat16."""
    kernel = KERNELS[op]
    with np.errstate(all="ignore"):
        for case in list(CASES[op](Draw(12)))[:20]:
            for args in (case, [short(a).astype(np.float32) if number(a) else a for a in case]):
                want = kernel.reference(*args, store="bfloat16")
                given = list(args) if args is case else [short(a) if number(a) else a for a in args]
                got = kernel.function(*place.there(given), store="bfloat16")
                assert (got[0] if isinstance(got, tuple) else got).dtype == arrays.SIXTEEN
                assert Bits().mismatch(want, place.here(got), (), {}) is None


@pytest.mark.parametrize("op", COPIED)
def test_copies_in_sixteen_bits(place: Place, op: str) -> None:
    """The definition's, beside results that do not change."""
    kernel = KERNELS[op]
    with np.errstate(all="ignore"):
        for case in list(CASES[op](Draw(13)))[-8:]:
            got = kernel.function(*place.there(list(case)), copy="bfloat16")
            assert got[-1].dtype == arrays.SIXTEEN
            assert Bits().mismatch(kernel.reference(*case, copy="bfloat16"), place.here(got), (), {}) is None


@pytest.mark.parametrize("op", AGAIN)
@pytest.mark.parametrize("sixteen", [False, True])
def test_results_made_again(place: Place, op: str, sixteen: bool) -> None:
    """The forward's, rounded, beside gradients that do not change; of rows of any length and of arrays of 16 bits."""
    kernel = KERNELS[op]
    with np.errstate(all="ignore"):
        for case in list(CASES[op](Draw(14)))[-10:]:
            values = [short(a).astype(np.float32) if sixteen and number(a) else a for a in case]
            more = {"again": "bfloat16", **({"b": Draw(15)(case[-3].size)} if "layernorm" in op else {})}
            given = [short(a) if sixteen and number(a) else a for a in case]
            got = kernel.function(*place.there(given), **{key: place.put(a) if number(a) else a for key, a in more.items()})
            assert got[-1].dtype == arrays.SIXTEEN
            assert Bits().mismatch(kernel.reference(*values, **more), place.here(got), (), {}) is None


def test_a_format_that_is_not_stored() -> None:
    x = host_gpu.put(np.ones((2, 4), np.float32))
    for op, args in (("gelu", (x,)), ("rmsnorm", (x, x[0], 1e-5))):
        with pytest.raises(BackendError, match="no kernel stores e4m3"):
            KERNELS[op].function(*args, store="e4m3")


def test_an_operand_of_its_own_format_is_the_array(place: Place) -> None:
    x = place.put(short(Draw(5)(32, 128)))
    made = operand.operand(x, lookup("bf16"), k_axis=1)
    assert made.codes.ctypes.data == x.ctypes.data
    assert dict(made.observed) == {"count": 32 * 128, "overflowed": 0, "underflowed": 0}
    assert not operand.keeps(lookup("bf16:overflow=saturate"))
    assert not operand.keeps(lookup("bf16:rounding=stochastic"))
    assert not operand.keeps(lookup("fp16"))
    seen = operand.operand(x, lookup("bf16"), k_axis=1, collect=True).observed
    want = definition(ARRAYS.host(x), lookup("bf16"), k_axis=1).observed
    assert {key: float(v) for key, v in want.items()} == {key: float(seen[key]) for key in want}

"""The public entry points: backend, quantize, gemm, linear, and what arrays they take."""

from __future__ import annotations

import numpy as np
import pytest

import lpref
from lpref.ref.errors import BackendError, UnknownNameError
from lpref.ref.linalg import HighPrecision
from lpref.ref.linalg import gemm as ref_gemm
from lpref.ref.quantize import quantize as ref_quantize


@pytest.fixture
def x():
    return np.random.default_rng(3).standard_normal((8, 32)).astype(np.float32)


def test_backend_by_name() -> None:
    assert (lpref.backend("cpu").name, lpref.backend("cpu").numerics) == ("cpu", "fast")
    assert lpref.backend("reference", "exact").numerics == "exact"
    one = lpref.backend("cpu")
    assert lpref.backend(one) is one
    with pytest.raises(UnknownNameError, match="did you mean 'reference'"):
        lpref.backend("referense")
    with pytest.raises(BackendError, match="CUDA"):
        lpref.backend("cuda")
    with pytest.raises(BackendError, match="no op 'rmsnrm'; nearest: rmsnorm"):
        one.rmsnrm  # noqa: B018


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_quantize_and_gemm_are_the_definitions(backend, x) -> None:
    t, want = lpref.quantize(x, "mxfp8_e4m3", backend=backend), ref_quantize(x, "mxfp8_e4m3")
    assert t.codes.tolist() == want.codes.tolist()
    assert t.scales[0].tolist() == want.scales[0].tolist()
    np.testing.assert_array_equal(lpref.gemm(t, x, backend=backend), ref_gemm(want, HighPrecision(x, 1)))


def test_linear_keeps_leading_axes(x) -> None:
    w = x[:4]
    y = lpref.linear(x.reshape(2, 4, 32), w, "fp32", backend="reference")
    assert y.shape == (2, 4, 4)
    np.testing.assert_array_equal(y.reshape(8, 4), ref_gemm(HighPrecision(x, 1), HighPrecision(w, 1)))


def test_arrays_of_other_libraries(x) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    want = lpref.quantize(x.astype(ml_dtypes.bfloat16).astype(np.float32), "int8_row").codes.tolist()
    assert lpref.quantize(x.astype(ml_dtypes.bfloat16), "int8_row").codes.tolist() == want
    assert lpref.quantize(x.tolist(), "int8_row").codes.tolist() == lpref.quantize(x, "int8_row").codes.tolist()


@pytest.mark.peer
def test_torch_tensors(x) -> None:
    torch = pytest.importorskip("torch")
    t = torch.tensor(x)
    assert lpref.quantize(t, "int8_row").codes.tolist() == lpref.quantize(x, "int8_row").codes.tolist()
    half = lpref.quantize(t.to(torch.bfloat16), "int8_row").codes.tolist()
    assert half == lpref.quantize(t.to(torch.bfloat16).float().numpy(), "int8_row").codes.tolist()


def test_device_arrays_are_refused() -> None:
    class OnDevice:
        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(BackendError, match="copy it to the host"):
        lpref.quantize(OnDevice(), "int8_row")

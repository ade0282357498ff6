"""The cuda backend without a GPU: what is missing is named, `auto` is the CPU, asking for cuda never is."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

import lpref
from lpref.accel.cuda import device
from lpref.accel.cuda.backend import CudaBackend
from lpref.accel.reference import reference_ops
from lpref.ref.errors import BackendError
from lpref.trainer.doctor import backends, cuda_canaries
from lpref.trainer.setup import load_backend
from lpref.trainer.spec import load_spec


class RuntimeFailure(RuntimeError):
    """What CuPy raises."""


def fake(driver: int, count: int) -> SimpleNamespace:
    """A CuPy on a machine with this driver and so many devices; without a driver, asking fails."""

    def device_count() -> int:
        if not driver:
            raise RuntimeFailure("cudaErrorInsufficientDriver")
        return count

    runtime = SimpleNamespace(CUDARuntimeError=RuntimeFailure, driverGetVersion=lambda: driver, getDeviceCount=device_count)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(compute_capability="75")))


@pytest.fixture(params=[None, (0, 0), (13000, 0), (11080, 1), (13000, 1)], ids=["no CuPy", "no driver", "no GPU", "old driver", "old GPU"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Machines that cuda does not run on."""
    monkeypatch.setitem(sys.modules, "cupy", None if request.param is None else fake(*request.param))
    device.cupy.cache_clear()
    yield
    device.cupy.cache_clear()


def test_cuda_is_refused_and_auto_is_the_cpu(machine: None) -> None:
    with pytest.raises(BackendError, match=r"CuPy is not installed|no usable GPU|no GPU|driver serves CUDA 11\.8|capability 7"):
        lpref.backend("cuda")
    spec = load_spec("train/ci_gpt", ["backend=cuda"])
    with pytest.raises(BackendError):
        load_backend(spec)
    assert load_backend(load_spec("train/ci_gpt")).name == "cpu"
    (found,) = (b for b in backends() if b["name"] == "cuda")
    assert not found["present"]
    assert "cuda: " in found["why"]
    assert cuda_canaries() == []


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_the_table(numerics: str) -> None:
    made, definitions = CudaBackend(numerics), reference_ops("exact")
    for op, kernel in made.kernels.items():
        assert kernel.reference is definitions[op]
    with pytest.raises(BackendError, match="no op"):
        made.quantise  # noqa: B018

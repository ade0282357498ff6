"""A machine that lacks something cuda needs (no GPU): named, with what to do, before a run writes anything; never a silent move to the CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from lpref.accel.cuda import cublaslt, device, nvrtc
from lpref.cli.main import main
from lpref.ref.errors import BackendError


class RuntimeFailure(RuntimeError):
    """What CuPy raises."""


def machine(driver: int = 13000, count: int = 1, digits: str = "90") -> SimpleNamespace:
    def device_count() -> int:
        if not driver:
            raise RuntimeFailure("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")
        return count

    runtime = SimpleNamespace(CUDARuntimeError=RuntimeFailure, driverGetVersion=lambda: driver, getDeviceCount=device_count)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(compute_capability=digits)))


MACHINES = {
    "no CuPy": (None, "CuPy is not installed", "pip install 'lpref[cuda13]'"),
    "no driver": (machine(driver=0), "no usable GPU: cudaErrorInsufficientDriver", "check nvidia-smi"),
    "no GPU": (machine(count=0), "there is no GPU", "use backend 'cpu'"),
    "an old driver": (machine(driver=11080), "the driver serves CUDA 11.8, needed 12.0", "update the NVIDIA driver"),
    "an old GPU": (machine(digits="75"), "compute capability 7.5, needed 8.0", "use backend 'cpu'"),
}


@pytest.fixture(params=MACHINES)
def lacking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """(what is said, what to do) on a machine that lacks it."""
    module, said, remedy = MACHINES[request.param]
    monkeypatch.setitem(sys.modules, "cupy", module)
    device.cupy.cache_clear()
    yield said, remedy
    device.cupy.cache_clear()


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "train": lambda place: ["train", "train/ci_gpt", "--backend", "cuda", "-o", str(place / "run")],
    "the pair": lambda place: ["train", "--backend", "cuda", "-o", str(place / "run")],
    "diff step": lambda place: ["diff", "step", "train/ci_gpt", "--backend", "cuda"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_cuda_is_refused_by_name_and_nothing_is_written(command: str, lacking: tuple[str, str], tmp_path: Path) -> None:
    done = CliRunner().invoke(main, COMMANDS[command](tmp_path))
    said, remedy = lacking
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert remedy in done.output
    assert not any(tmp_path.rglob("metrics.jsonl"))


@pytest.mark.parametrize(("module", "name", "said"), [(nvrtc, "NVRTC", "NVRTC was not found"), (cublaslt, "cuBLASLt", "cuBLASLt was not found")])
def test_a_missing_library(module: object, name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_candidates", lambda: iter(["libno-such-library.so.1"]))
    module.library.cache_clear()
    try:
        with pytest.raises(BackendError, match=said) as found:
            module.library()
        assert "pip install 'lpref[cuda13]'" in str(found.value)
    finally:
        module.library.cache_clear()

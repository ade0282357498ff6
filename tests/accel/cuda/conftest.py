"""The arithmetic of the kernels, compiled for the host."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from lpref.accel.cuda import nvrtc


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    made = tmp_path_factory.mktemp("core") / "core.so"
    flags = ["-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{nvrtc.FOLDER / 'core'}"]
    subprocess.run([compiler, *flags, str(Path(__file__).with_name("core_shim.cpp")), "-o", str(made)], check=True)
    return ctypes.CDLL(str(made))

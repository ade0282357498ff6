"""NVIDIA's CUDA headers (cuda_fp8.h, cuda_fp6.h, cuda_fp4.h) compiled for the host with g++: the vendor's conversions, without a GPU.

They come with a CUDA toolkit (CUDA_HOME), or with the packages triton (cuda_fp*.h) and nvidia-cuda-cccl (nv/target); nothing is copied.
`cuda_satfinite` is __NV_SATFINITE, `ocp_nonsat` is __NV_NOSAT. E8M0: `toward_positive` is cudaRoundPosInf, `toward_zero` cudaRoundZero.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from lpref.conformance.targets.base import Case, CastCase, Target, TargetMissing

KINDS = {"e4m3": ("fp8", "__NV_E4M3"), "e5m2": ("fp8", "__NV_E5M2"), "e2m3": ("fp6", "__NV_E2M3"), "e3m2": ("fp6", "__NV_E3M2"),
         "e2m1": ("fp4", "__NV_E2M1"), "e8m0": ("e8m0", "")}  # fmt: skip
SOURCE = """
#include <cstdint>
#include <cuda_fp8.h>
#include <cuda_fp6.h>
#include <cuda_fp4.h>
#define LOOP(NAME, T, CALL) extern "C" void NAME(const T *x, int64_t n, uint8_t *y) {{ for (int64_t i = 0; i < n; i++) y[i] = (CALL); }}
{loops}
"""


class CudaHeaders(Target):
    name = "cuda_headers"
    title = "NVIDIA's conversion headers, host path"
    package = "triton"
    notes = "overflow=cuda_satfinite or ocp_nonsat; E8M0 toward_positive or toward_zero"

    @property
    def version(self) -> str:
        folders = headers()
        if not folders:
            return ""
        folder = folders[0]
        match = re.search(r"#define\s+CUDART_VERSION\s+(\d+)", (folder / "cuda_runtime_api.h").read_text(errors="replace"))
        number = int(match.group(1)) if match else 0
        return f"{number // 1000}.{number % 1000 // 10}"

    @property
    def available(self) -> str | None:
        if not headers():
            return "no cuda_fp4.h and nv/target: install the packages triton and nvidia-cuda-cccl, or set CUDA_HOME to a CUDA toolkit"
        return None if shutil.which("g++") else "g++ is not on the PATH"

    def prepare(self) -> None:
        """Compiles the loops."""
        built()

    def cases(self) -> tuple[Case, ...]:
        sat = [CastCase(f, overflow="cuda_satfinite", input=i) for f in KINDS if f != "e8m0" for i in ("float32", "float64")]
        open_ = [CastCase(f, overflow="ocp_nonsat") for f in ("e4m3", "e5m2")]
        scales = [CastCase("e8m0", r, "cuda_satfinite") for r in ("toward_positive", "toward_zero")]
        return (*sat, *open_, *scales)

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float64 if x.dtype == np.float64 else np.float32)
        y = np.empty(x.shape, np.uint8)
        getattr(built(), symbol(case.format, case.rounding, case.overflow, x.dtype == np.float64))(
            ctypes.c_void_p(x.ctypes.data), ctypes.c_int64(x.size), ctypes.c_void_p(y.ctypes.data)
        )
        return y


def symbol(format_name: str, rounding: str, overflow: str, double: bool) -> str:
    """The name of one loop."""
    return f"{format_name}_{rounding}_{'sat' if overflow == 'cuda_satfinite' else 'open'}_{'double' if double else 'float'}"


def loops() -> str:
    """One C function for each conversion."""
    lines = []
    for t in ("float", "double"):
        for name, (kind, enum) in KINDS.items():
            for sat, word in (("cuda_satfinite", "__NV_SATFINITE"), ("ocp_nonsat", "__NV_NOSAT")):
                if kind == "fp8":
                    calls = {"nearest_even": f"__nv_cvt_{t}_to_fp8(x[i], {word}, {enum})"}
                elif kind == "e8m0":
                    modes = {"toward_positive": "cudaRoundPosInf", "toward_zero": "cudaRoundZero"}
                    calls = {r: f"__nv_cvt_{t}_to_e8m0(x[i], {word}, {mode})" for r, mode in modes.items()}
                else:
                    calls = {"nearest_even": f"__nv_cvt_{t}_to_{kind}(x[i], {enum}, cudaRoundNearest)"}
                lines += [f"LOOP({symbol(name, r, sat, t == 'double')}, {t}, {call})" for r, call in calls.items()]
    return "\n".join(lines)


def headers() -> list[Path]:
    """The folders with the headers, cuda_fp4.h's first: a CUDA toolkit's, or those inside the packages; empty where one is missing."""
    folders = [Path(os.environ[k]) / "include" for k in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(k)]
    folders += [p / "backends" / "nvidia" / "include" for p in package_folders("triton")]
    folders += [Path(f) for p in package_folders("nvidia") for f in sorted(map(str, p.glob("*/include")))]
    conversions = next((f for f in folders if (f / "cuda_fp4.h").is_file() and (f / "cuda_runtime_api.h").is_file()), None)
    targets = next((f for f in [*folders, *(f / "cccl" for f in folders)] if (f / "nv" / "target").is_file()), None)
    return [conversions, targets] if conversions and targets else []


def package_folders(name: str) -> list[Path]:
    """Where a package lies; nothing is imported."""
    spec = importlib.util.find_spec(name)
    return [Path(p) for p in (spec.submodule_search_locations or ())] if spec is not None else []


@cache
def built() -> ctypes.CDLL:
    """The compiled loops, kept in the folder for temporary files.

    Raises: TargetMissing with the compiler's last words.
    """
    folders = headers()
    if not folders:
        raise TargetMissing("no headers", where="cuda_headers")
    source = SOURCE.format(loops=loops())
    name = hashlib.sha256((source + str(folders)).encode()).hexdigest()[:16]
    out = Path(tempfile.gettempdir()) / f"lpref-cuda-headers-{os.getuid()}-{name}.so"
    if not out.is_file():
        with tempfile.TemporaryDirectory() as work:
            (Path(work) / "loops.cpp").write_text(source)
            made = Path(work) / "loops.so"
            command = ["g++", "-O2", "-shared", "-fPIC", "-w", *(f"-I{f}" for f in folders), "-o", str(made), str(Path(work) / "loops.cpp")]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise TargetMissing(f"g++ failed: {done.stderr.strip().splitlines()[-1:]}", where="cuda_headers")
            shutil.copy(made, f"{out}.{os.getpid()}")
            os.replace(f"{out}.{os.getpid()}", out)
    return ctypes.CDLL(str(out))

"""NVRTC through its C interface: CUDA C++ to PTX or to machine code, with the options that keep the bits.

CuPy's own compiler is not used: it appends ``-ftz=true``, which flushes subnormals. No GPU or driver is needed to compile.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from lpref.ref.errors import BackendError

FOLDER = Path(__file__).parent
OPTIONS = ("--std=c++17", "--ftz=false", "--fmad=false", "--prec-div=true", "--prec-sqrt=true", "--restrict", "--device-as-default-execution-space")


def _candidates() -> Iterator[str]:
    """Where the library may be: NVIDIA's wheels, then what the loader knows."""
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations or []) if spec else []:
        yield from (str(p) for pattern in ("cu13/lib", "cuda_nvrtc/lib") for p in sorted(Path(place, pattern).glob("libnvrtc.so.*")))
    home = os.environ.get("CUDA_HOME", os.environ.get("CUDA_PATH", "/usr/local/cuda"))
    yield from (str(Path(home, "lib64", "libnvrtc.so")), "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")


@cache
def library() -> ctypes.CDLL:
    """The NVRTC library.

    Raises: BackendError where there is none.
    """
    for name in _candidates():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise BackendError("NVRTC was not found", where="cuda", remedy="pip install 'lpref[cuda13]' or 'lpref[cuda12]'")


def version() -> tuple[int, int]:
    """NVRTC's version."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "version")
    return major.value, minor.value


def _check(status: int, what: str, log: str = "") -> None:
    if status:
        lib = library()
        lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise BackendError(f"NVRTC {what}: {lib.nvrtcGetErrorString(status).decode()}\n{log}".rstrip(), where="cuda")


@cache
def headers() -> dict[str, str]:
    """The files that kernels include, by name."""
    files = [*(FOLDER / "core").glob("*.h"), *(FOLDER / "kernels").glob("*.cuh")]
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(files)}


@cache
def source(name: str) -> str:
    """The text of kernels/NAME.cu."""
    return (FOLDER / "kernels" / f"{name}.cu").read_text(encoding="utf-8")


def options(arch: str, defines: Mapping[str, object]) -> list[str]:
    """The command line."""
    return [*OPTIONS, f"--gpu-architecture={arch}", *(f"-D{key}={value}" for key, value in sorted(defines.items()))]


def compile_source(name: str, arch: str, defines: Mapping[str, object]) -> bytes:
    """kernels/NAME.cu for `arch`: "sm_90" gives machine code, "compute_90" PTX.

    Raises: BackendError with the compiler's log.
    """
    lib, files = library(), headers()
    program = ctypes.c_void_p()
    texts = (ctypes.c_char_p * len(files))(*(text.encode() for text in files.values()))
    names = (ctypes.c_char_p * len(files))(*(key.encode() for key in files))
    _check(lib.nvrtcCreateProgram(ctypes.byref(program), source(name).encode(), f"{name}.cu".encode(), len(files), texts, names), name)
    try:
        line = [option.encode() for option in options(arch, defines)]
        status = lib.nvrtcCompileProgram(program, len(line), (ctypes.c_char_p * len(line))(*line))
        _check(status, f"{name}.cu {dict(defines)}", _text(lib.nvrtcGetProgramLogSize, lib.nvrtcGetProgramLog, program).decode(errors="replace"))
        kind = "CUBIN" if arch.startswith("sm_") else "PTX"
        return _text(getattr(lib, f"nvrtcGet{kind}Size"), getattr(lib, f"nvrtcGet{kind}"), program)
    finally:
        lib.nvrtcDestroyProgram(ctypes.byref(program))


def _text(size_of: object, get: object, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(size_of(program, ctypes.byref(size)), "result")  # type: ignore[operator]
    buffer = ctypes.create_string_buffer(size.value)
    _check(get(program, buffer), "result")  # type: ignore[operator]
    return buffer.raw

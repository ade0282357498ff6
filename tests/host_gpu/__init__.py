"""The kernels without a GPU: compiled by g++ with fibers for threads (gpu.h), behind a module that stands for CuPy over NumPy's arrays.

What runs is the source of the kernels and the Python that launches them: grids, arguments and their sizes, reads and writes, barriers, bits.
What only a GPU shows (its compiler, its speed, races between blocks) is in tests/gpu.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lpref.accel.cuda import device, nvrtc
from lpref.accel.cuda.loss import Softmax

FOLDER = Path(__file__).parent
FLAGS = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wno-unknown-pragmas", "-fno-strict-aliasing", "-shared", "-fPIC"]


class ndarray(np.ndarray):
    """Stands for cupy.ndarray."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.ctypes.data)

    def __getitem__(self, index: Any) -> Any:
        """As CuPy's: an element is an array without axes."""
        return _own(super().__getitem__(index))

    def get(self) -> np.ndarray:
        return np.array(self).view(np.ndarray)


ndarray.__module__ = "cupy"


def _own(a: Any) -> Any:
    return np.asarray(a).view(ndarray)


def _empty(shape: Any, dtype: Any) -> Any:
    made = np.empty(shape, dtype)
    made.reshape(-1).view(np.uint8)[:] = 0xA5  # what nobody writes is seen
    return allocated(made)


class Stream:
    """Stands for a stream: what it is told is done at once; of one that is `late`, when somebody waits for it."""

    ptr = 0

    def __init__(self, non_blocking: bool = False) -> None:
        self.late, self.told = False, list[Callable[[], None]]()

    def __enter__(self) -> Stream:
        CURRENT.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        CURRENT.pop()

    def record(self) -> Stream:
        return self  # stands for an event, too: the end of all it was told

    def wait_event(self, event: Stream) -> None:
        event.synchronize()

    def synchronize(self) -> None:
        told, self.told = self.told, []
        for work in told:
            work()

    def do(self, work: Callable[[], None]) -> None:
        """work(), now or later."""
        if self.late:
            self.told.append(work)
        else:
            work()


CURRENT = [Stream()]
LATE: dict[int, Any] = {}
"""Arrays that were allocated on a late stream: what it frees serves itself again, in its own order."""


def allocated(made: np.ndarray) -> ndarray:
    """A new array of the current stream."""
    if CURRENT[-1].late:
        key = id(made)
        LATE[key] = weakref.ref(made, lambda _: LATE.pop(key, None))
    return made.view(ndarray)


def moved(function: Callable[..., Any]) -> Callable[..., Any]:
    """What the host does at once, after all that the current stream was told before."""

    def call(*args: Any, **options: Any) -> Any:
        CURRENT[-1].synchronize()
        return function(*args, **options)

    return call


CUDA = SimpleNamespace(
    Stream=Stream, get_current_stream=lambda: CURRENT[-1], using_allocator=lambda malloc: nullcontext(), get_allocator=lambda: None,
    alloc_pinned_memory=bytearray,
    MemoryPool=lambda: SimpleNamespace(malloc=None, total_bytes=lambda: 0, free_all_blocks=lambda: None),
    Device=lambda: SimpleNamespace(mem_info=(2**32, 2**32)),
    runtime=SimpleNamespace(
        memcpyHostToDevice=1, memcpyDeviceToHost=2, memcpyAsync=moved(lambda to, of, size, kind, stream: ctypes.memmove(to, of, size)),
    ),
)  # fmt: skip
"""Stands for cupy.cuda."""
MODULE = SimpleNamespace(
    ndarray=ndarray, empty=_empty, zeros=lambda *a: allocated(np.zeros(*a)), ones=lambda *a: allocated(np.ones(*a)),
    asarray=moved(lambda *a: allocated(np.array(*a))), arange=lambda *a, **k: _own(np.arange(*a, **k)),
    ascontiguousarray=moved(lambda a: a if a.flags.c_contiguous and isinstance(a, ndarray) else allocated(np.ascontiguousarray(a))),
    broadcast_to=lambda a, s: _own(np.broadcast_to(a, s)),
    sort=moved(lambda a: _own(np.sort(a))),
    equal=lambda a, b: _own(np.equal(a, b)), searchsorted=lambda a, v: _own(np.searchsorted(a, v)), cuda=CUDA,
    get_default_memory_pool=lambda: SimpleNamespace(malloc=None, free_all_blocks=lambda: None), asnumpy=moved(lambda a: np.array(a).view(np.ndarray)),
)  # fmt: skip
"""Stands for the module cupy: what moves data."""


def put(x: np.ndarray) -> ndarray:
    """A copy with the strides of the original."""
    order = np.argsort([-abs(s) for s in x.strides], kind="stable")
    return _own(x.transpose(order).copy().transpose(np.argsort(order)))


def get(x: Any) -> Any:
    """An array of NumPy's, float32 of bfloat16."""
    if isinstance(x, Softmax):
        return x.host()
    if not isinstance(x, ndarray):
        return x
    return (x.view(np.uint16).get().astype(np.uint32) << 16).view(np.float32) if x.dtype.kind == "V" else x.get()


class Host:
    """Stands for the device: compiled files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = cache(self._library)

    def function(self, name: str, entry: str, defines: tuple[tuple[str, Any], ...] = ()) -> Any:
        """`device.function`: a kernel that runs here."""
        kernel = self.library(name, tuple(sorted(defines)))[f"run_{entry}"]

        def run(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], *, shared_mem: int = 0) -> None:
            values = [_value(a) for a in args]
            pointers = (ctypes.c_void_p * len(values))(*(ctypes.cast(ctypes.pointer(v), ctypes.c_void_p) for v in values))
            sizes = (ctypes.c_int * len(values))(*(ctypes.sizeof(v) for v in values))
            shape = [(ctypes.c_uint * 3)(*(*d, 1, 1)[:3]) for d in (grid, block)]
            roots = [_root(a) for a in args if isinstance(a, ndarray)]
            own, others = [r for r in roots if id(r) in LATE], [weakref.ref(r) for r in roots if id(r) not in LATE]
            del roots

            def work(own: Any = own) -> None:
                assert all(there() is not None for there in others), f"{entry}: memory was given back before it was read or written"
                failed = kernel(shape[0], shape[1], len(values), pointers, sizes)
                assert failed >= 0, f"{entry}: a block of {block} is more than its launch bounds"
                assert failed < 1000, f"{entry} takes {failed - 1000} arguments, got {len(values)}"
                assert failed == 0, f"{entry}: the size of argument {failed - 1}"

            CURRENT[-1].do(work)

        return run

    def _library(self, name: str, defines: tuple[tuple[str, Any], ...]) -> ctypes.CDLL:
        key = hashlib.sha256(repr(defines).encode()).hexdigest()[:8]
        source, made = self.folder / f"{name}-{key}.cpp", self.folder / f"{name}-{key}.so"
        macros = [f"-D{macro}={value}" for macro, value in defines]
        includes = [f"-I{nvrtc.FOLDER / 'core'}", f"-I{nvrtc.FOLDER / 'kernels'}", "-include", str(FOLDER / "gpu.h")]
        source.write_text(nvrtc.source(name))
        command = ["g++", *FLAGS, *macros, *includes, "-DBOUNDS", "-E", str(source)]
        expanded = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        entries = re.findall(r'extern "C"\s+void\s+(?:__launch_bounds__\(((?:[^;{]|\n)*?)\)\s+)?(\w+)\(', expanded)
        wrappers = "".join(f"RUN({entry}, {bounds.partition(',')[0] or 1024})\n" for bounds, entry in entries)
        source.write_text(nvrtc.source(name) + wrappers)
        subprocess.run(["g++", *FLAGS, *macros, *includes, str(source), "-o", str(made)], check=True)
        return ctypes.CDLL(str(made))


def _root(a: Any) -> Any:
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


def _value(a: Any) -> Any:
    """An argument as CuPy passes it."""
    if isinstance(a, ndarray):
        return ctypes.c_void_p(a.ctypes.data)
    if type(a) is int:
        return ctypes.c_int64(a)
    kinds = {np.int32: ctypes.c_int32, np.uint32: ctypes.c_uint32, np.uint64: ctypes.c_uint64, np.int64: ctypes.c_int64, np.float32: ctypes.c_float,
             np.float64: ctypes.c_double}  # fmt: skip
    return kinds[type(a)](a.item() if isinstance(a, np.generic) else a)


@contextmanager
def in_place(folder: Path, processors: int = 2) -> Iterator[pytest.MonkeyPatch]:
    """`lpref.accel.cuda` on this module and on kernels that g++ compiles in `folder`; skips the tests where there is no g++."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "cupy", lambda: MODULE)
        patch.setattr(device, "function", Host(folder).function)
        patch.setattr(device, "processors", lambda: processors)
        patch.setattr(device, "shared_memory", lambda: 227 << 10)
        patch.setattr(device, "architecture", lambda: "sm_80")
        yield patch

"""The GPU: what is missing and how to get it, compiled modules, launches.

Nothing here falls back to the host: what cannot run on the device is a `BackendError` that says why.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lpref.accel.cuda import nvrtc
from lpref.ref.errors import BackendError, LprefError

LEAST_CAPABILITY = (8, 0)
LEAST_DRIVER = 12000
THREADS = 256
Macros = tuple[tuple[str, Any], ...]
_ahead = threading.local()
REMEDY = "use backend 'cpu' with an array in host memory"


@cache
def cupy() -> Any:
    """The module cupy, with a device that the kernels run on.

    Raises: BackendError without CuPy, driver or GPU, for an old driver, and for a compute capability below 8.0.
    """
    try:
        import cupy as module
    except ImportError as error:
        remedy = "pip install 'lpref[cuda13]' or 'lpref[cuda12]'; without an NVIDIA GPU take backend cpu"
        raise BackendError(f"CuPy is not installed ({error})", where="cuda", remedy=remedy) from error
    runtime = module.cuda.runtime
    try:
        driver, count = runtime.driverGetVersion(), runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise BackendError(f"no usable GPU: {error}", where="cuda", remedy=f"check nvidia-smi, or {REMEDY}") from error
    check_device(driver, count, capability(module.cuda.Device().compute_capability) if count else ())
    return module


def begin() -> None:
    """Starts the device in a thread: package, driver, context, compiler, while the caller does other things. What is wrong is said by `cupy`."""

    def start() -> None:
        try:
            cupy().cuda.runtime.free(0)  # makes the context
            nvrtc.library()
        except BackendError:
            return

    threading.Thread(target=start, name="lpref-device").start()


def usable() -> bool:
    """Whether `cupy` gives a module."""
    try:
        cupy()
    except BackendError:
        return False
    return True


def describe() -> str:
    """The present device and what drives it, for a person."""
    cp = cupy()
    found, (major, minor) = cp.cuda.runtime.getDeviceProperties(cp.cuda.Device().id), capability(cp.cuda.Device().compute_capability)
    nvrtc_version = ".".join(map(str, nvrtc.version()))
    return f"{found['name'].decode()}, compute capability {major}.{minor}, CuPy {cp.__version__}, NVRTC {nvrtc_version}"


def pci_address() -> str:
    """The PCI address of the present device, as its driver's tools name it: 0000:3B:00.0."""
    return str(cupy().cuda.Device().pci_bus_id)


def capability(digits: str) -> tuple[int, int]:
    """(major, minor) of what CuPy calls a compute capability: the last digit is the minor number.

    >>> capability("80"), capability("121")
    ((8, 0), (12, 1))
    """
    return int(digits[:-1]), int(digits[-1])


def check_device(driver: int, count: int, found: tuple[int, ...]) -> None:
    """Raise BackendError for a machine that the kernels do not run on. driver: as CUDA counts, 13000 is 13.0; found: `capability`."""
    if count == 0:
        raise BackendError("there is no GPU", where="cuda", remedy=REMEDY)
    if driver < LEAST_DRIVER:
        serves = f"{driver // 1000}.{driver % 1000 // 10}"
        raise BackendError(f"the driver serves CUDA {serves}, needed 12.0", where="cuda", remedy="update the NVIDIA driver")
    if found < LEAST_CAPABILITY:
        have = ".".join(map(str, found))
        raise BackendError(f"compute capability {have}, needed 8.0 (Ampere) or newer", where="cuda", remedy=REMEDY)


@cache
def _of_cupy(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "cupy" and hasattr(kind, "data")


def general() -> Any:
    """Inside, memory is of the general pool, whatever step is at work."""
    cp = cupy()
    return cp.cuda.using_allocator(cp.get_default_memory_pool().malloc)


def on_device(x: Any) -> bool:
    """Whether x is a CuPy array."""
    return _of_cupy(type(x))  # type: ignore[arg-type]


@cache
def architecture() -> str:
    """sm_XY of the present device."""
    return f"sm_{cupy().cuda.Device().compute_capability}"


@cache
def module(name: str, defines: Macros = ()) -> Any:
    """kernels/NAME.cu with these macros, compiled for this device."""
    return cupy().RawModule(path=str(machine_code(name, defines)))


def machine_code(name: str, defines: Macros = ()) -> Path:
    """The file of a module's machine code, in a cache folder; compiled where it is not there yet."""
    arch = architecture() + ("a" if dict(defines).get("LP_GROUP") else "")  # instructions of this architecture alone
    key = hashlib.sha256()
    for part in (nvrtc.source(name), *nvrtc.headers().values(), repr(nvrtc.options(arch, dict(defines))), repr(nvrtc.version())):
        key.update(part.encode() + b"\0")
    path = folder() / f"{name}-{key.hexdigest()[:24]}.cubin"
    if not path.is_file():
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(nvrtc.compile_source(name, arch, dict(defines)))
        os.replace(temporary, path)
    return path


@cache
def folder() -> Path:
    """Where machine code is kept: `cuda` in `$LPREF_CACHE_DIR`, `$XDG_CACHE_HOME/lpref` or `~/.cache/lpref`, else in a temporary folder."""
    home = os.environ.get("LPREF_CACHE_DIR") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lpref")
    try:
        Path(home, "cuda").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=Path(home, "cuda")):
            return Path(home, "cuda")
    except OSError:
        return Path(tempfile.mkdtemp(prefix="lpref-cuda-"))


@cache
def function(name: str, entry: str, defines: Macros = ()) -> Kernel:
    """A kernel of a module."""
    return Kernel(name, entry, defines)


class Kernel:
    """A kernel, loaded when it is first launched; the block's shared memory beyond 48 KiB is set before."""

    def __init__(self, name: str, entry: str, defines: Macros) -> None:
        self.name, self.entry, self.defines = name, entry, defines
        self.max_dynamic_shared_size_bytes = 0

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], **options: Any) -> None:
        wanted = getattr(_ahead, "wanted", None)
        if wanted is None:
            self.loaded(grid, block, args, **options)
        else:
            wanted.setdefault((self.name, self.defines))

    @cached_property
    def loaded(self) -> Any:
        """CuPy's function."""
        found = module(self.name, self.defines).get_function(self.entry)
        if self.max_dynamic_shared_size_bytes:
            found.max_dynamic_shared_size_bytes = self.max_dynamic_shared_size_bytes
        return found

    @property
    def num_regs(self) -> int:
        """Registers of a thread; of a kernel that is not to be loaded yet, any number."""
        return 32 if dry() else int(self.loaded.num_regs)


def dry() -> bool:
    """Whether kernels are only being listed (`compile_ahead`)."""
    return getattr(_ahead, "wanted", None) is not None


def compile_ahead(step: Callable[[], None]) -> None:
    """Compiles the modules that step() launches, all processors at work. In it nothing is launched: its arrays hold anything, which the host may
    refuse where it looks; what would come behind is compiled when it is launched."""
    wanted: dict[tuple[str, Macros], None] = {}
    _ahead.wanted = wanted
    try:
        step()
    except LprefError as error:
        if isinstance(error, BackendError):  # what has no kernel, whatever the numbers
            raise
    finally:
        _ahead.wanted = None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda key: machine_code(*key), wanted))


@cache
def processors() -> int:
    """Multiprocessors of the present device."""
    return int(cupy().cuda.Device().attributes["MultiProcessorCount"])


@cache
def shared_memory() -> int:
    """Bytes of shared memory that a block of the present device may have."""
    return int(cupy().cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"])


def blocks_for(items: int, threads: int = THREADS, waves: int = 8) -> int:
    """Blocks of a grid-stride loop over `items`: at least one, at most `waves` a multiprocessor."""
    return max(1, min(-(-items // threads), waves * processors()))


def plane(rows: int, columns: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Grid and block for kernels that walk the rows of a matrix (`EACH`)."""
    wide = min(256, 1 << max(columns - 1, 1).bit_length())
    high = 256 // wide
    across = max(1, min(-(-columns // wide), 64))
    return (across, max(1, min(-(-rows // high), 65535, 16 * processors()))), (wide, high)


def resident(kernel: Any, threads: int) -> int:
    """Blocks of this kernel that the device holds at once, by its registers: a persistent grid of just these has no uneven last wave."""
    each = -(-int(kernel.num_regs) * 32 // 256) * 256 * (threads // 32)
    return processors() * max(1, min(65536 // max(each, 1), 2048 // threads))


SOURCES: Mapping[str, int] = {"float32": 0, "bfloat16": 1, "float16": 2}
"""dtype -> LP_IN of the kernels."""


def source_kind(x: Any, where: str) -> int:
    """LP_IN of an array.

    Raises: BackendError for other dtypes.
    """
    kind = 0 if x.dtype == np.float32 else SOURCES.get(x.dtype.name)  # a dtype's name takes longer than a launch
    if kind is None:
        raise BackendError(f"no kernel reads {x.dtype}", where=where, remedy=f"pass {', '.join(SOURCES)}, or {REMEDY}")
    return kind

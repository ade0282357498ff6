"""cuBLASLt through its C interface: a product as data (`Product`), made into descriptors and launched, which allocates nothing and waits for nothing.

Row-major [M, K] @ [K, N] -> [M, N]. cuBLASLt counts columns first: to it the result is its transpose, b^T a^T, so that its A is our right side.
The numbers below are those of cublasLt.h and library_types.h, which NVIDIA keeps from version to version.

Source: NVIDIA, cuBLAS library documentation, chapter "Using the cuBLASLt API"; cublasLt.h of nvidia-cublas 13.1.
Pitfalls: FP8 and INT8 on Hopper read both sides with k side by side (`TN`) and nothing else; FP8 scale vectors have modes, and a mode that an
architecture lacks shows as no algorithm at all. The handle belongs to the device that is current when it is made.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lpref.ref.errors import BackendError

KINDS = {"float32": 0, "binary16": 2, "int8": 3, "int32": 10, "bfloat16": 14, "e4m3": 28, "e5m2": 29}
"""cudaDataType of a format."""
MODES = {"": 0, "scalar": 0, "vector": 3, "vector128": 4, "block128": 5}
"""cublasLtMatmulMatrixScale: one float32; one of each row of the side; of each 128 of k in a row; of each 128 x 128."""
FLOAT32_SUMS, INT32_SUMS = 68, 72
DESCRIPTION = {"pointers": 2, "a_operation": 3, "b_operation": 4, "epilogue": 7, "bias": 8, "a_scale": 17, "b_scale": 18,
               "fast_sums": 25, "a_mode": 31, "b_mode": 32}  # fmt: skip
ADD_BIAS = 4
"""cublasLtEpilogue_t: a vector of the output's type, a number for each row of D to cuBLASLt, which is a column to us."""
LAYOUT_BATCHES, LAYOUT_STEP = 5, 6
WORKSPACE, REDUCTIONS, ALIGNMENT = 1, 3, 5
IN_WORKSPACE = 2
"""cublasLtReductionScheme: the parts of a sum that is cut are kept in the type of the computation and added by one more kernel, in one order."""
"""cublasLtMatmulPreferenceAttributes; alignments of A, B, C and D are numbers 5 to 8."""
CONFIGURATION = {"id": (0, 4), "tile": (1, 4), "split": (2, 4), "reduction": (3, 4), "swizzle": (4, 4), "custom": (5, 4), "stages": (6, 4),
                 "inner": (7, 2), "cluster": (8, 2)}  # fmt: skip
"""cublasLtMatmulAlgoConfigAttributes: number, bytes."""
CAPABILITY_TILES, CAPABILITY_CUSTOM = 6, 7
"""cublasLtMatmulAlgoCapAttributes."""
CLUSTERS = tuple(range(2, 13))
"""cublasLtClusterShape: 1 x 1 to 1 x 8."""
PLACE = 4096
"""An address for a descriptor that is not launched."""
STATUS = {1: "not initialized", 3: "allocation failed", 7: "invalid value", 8: "architecture mismatch", 11: "mapping error", 13: "execution failed",
          14: "internal error", 15: "not supported"}  # fmt: skip


class Result(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (("algorithm", ctypes.c_uint64 * 8), ("workspace", ctypes.c_size_t), ("state", ctypes.c_int), ("waves", ctypes.c_float),
                ("reserved", ctypes.c_int * 4))  # fmt: skip


@dataclass(frozen=True)
class Side:
    """One side: format, whether k lies side by side, numbers from run to run and from matrix to matrix, scale mode, alignment of its address."""

    kind: str
    along_k: bool
    pitch: int
    step: int = 0
    mode: str = ""
    aligned: int = 256


@dataclass(frozen=True)
class Product:
    """`count` products of [M, K] and [K, N]; `out` is contiguous. device_alpha: factor and 0 are read from the device, not 1 and 0 from the host.
    bias: a vector [N] of the output's type is added before the result is rounded."""

    m: int
    n: int
    k: int
    left: Side
    right: Side
    out: str = "float32"
    count: int = 1
    device_alpha: bool = False
    fast_sums: bool = False
    split: bool = True
    aligned: int = 256
    bias: bool = False

    @property
    def name(self) -> str:
        """The product in one line."""
        sides = [f"{s.kind} {'k' if s.along_k else 'other'} {s.pitch} {s.step} {s.mode or 'none'} {s.aligned}" for s in (self.left, self.right)]
        told = (("alpha", self.device_alpha), ("fast", self.fast_sums), ("whole", not self.split), ("bias", self.bias))
        flags = "".join(f" {word}" for word, on in told if on)
        return f"{self.m} {self.n} {self.k} x{self.count}: {sides[0]}; {sides[1]} -> {self.out} {self.aligned}{flags}"


def _candidates() -> Iterator[str]:
    """Where the library may be: NVIDIA's wheels, then what the loader knows."""
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations or []) if spec else []:
        yield from (str(p) for pattern in ("cu13/lib", "cublas/lib") for p in sorted(Path(place, pattern).glob("libcublasLt.so.*")))
    home = os.environ.get("CUDA_HOME", os.environ.get("CUDA_PATH", "/usr/local/cuda"))
    yield from ("libcublasLt.so.13", "libcublasLt.so.12", str(Path(home, "lib64", "libcublasLt.so")), "libcublasLt.so")


@cache
def library() -> Any:
    """The library.

    Raises: BackendError where there is none.
    """
    for name in _candidates():
        try:
            found = ctypes.CDLL(name)
        except OSError:
            continue
        pointer = ctypes.c_void_p
        found.cublasLtMatmul.argtypes = [*[pointer] * 14, ctypes.c_size_t, pointer]
        found.cublasLtMatmulDescSetAttribute.argtypes = [pointer, ctypes.c_int, pointer, ctypes.c_size_t]
        found.cublasLtGetVersion.restype = ctypes.c_size_t
        return found
    raise BackendError("cuBLASLt was not found", where="cuda", remedy="pip install 'lpref[cuda13]' or 'lpref[cuda12]', or use numerics: exact")


def version() -> int:
    """130100 is 13.1.0."""
    return int(library().cublasLtGetVersion())


def check(status: int, what: str) -> None:
    """Raise BackendError for a status that is not success."""
    if status:
        raise BackendError(f"{what}: status {status} ({STATUS.get(status, 'unknown')})", where="cuBLASLt")


@cache
def handle(device: int) -> int:
    """The library's handle on a device, which is the current one."""
    made = ctypes.c_void_p()
    check(library().cublasLtCreate(ctypes.byref(made)), f"cublasLtCreate on device {device}")
    assert made.value
    return made.value


def _made(create: str, *arguments: Any) -> ctypes.c_void_p:
    made = ctypes.c_void_p()
    check(getattr(library(), create)(ctypes.byref(made), *arguments), create)
    return made


def _set(function: str, thing: ctypes.c_void_p, number: int, value: Any) -> None:
    check(getattr(library(), function)(thing, number, ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value))), f"{function} {number}")


def description(p: Product) -> list[tuple[str, Any]]:
    """What a product's descriptor is told, in order: (name in `DESCRIPTION`, value)."""
    found: list[tuple[str, Any]] = [
        ("a_operation", ctypes.c_int32(int(p.right.along_k))),
        ("b_operation", ctypes.c_int32(int(not p.left.along_k))),
    ]
    if p.device_alpha:
        found.append(("pointers", ctypes.c_int32(1)))
    if p.fast_sums:
        found.append(("fast_sums", ctypes.c_int8(1)))
    if p.bias:
        found.append(("epilogue", ctypes.c_uint32(ADD_BIAS)))
    return found + [(name, ctypes.c_int32(MODES[s.mode])) for name, s in (("a_mode", p.right), ("b_mode", p.left)) if MODES[s.mode]]


def layouts(p: Product) -> list[tuple[int, int, int, int, int]]:
    """(type, rows, columns, leading dimension, numbers from matrix to matrix) of A, B and D, columns first."""
    right, left = ((p.k, p.n), (p.n, p.k))[not p.right.along_k], ((p.k, p.m), (p.m, p.k))[not p.left.along_k]
    return [(KINDS[p.right.kind], *right, p.right.pitch, p.right.step), (KINDS[p.left.kind], *left, p.left.pitch, p.left.step),
            (KINDS[p.out], p.n, p.m, p.n, p.m * p.n)]  # fmt: skip


class Plan:
    """A product's descriptors on a device, and the algorithm that was chosen for it."""

    def __init__(self, product: Product, device: int) -> None:
        self.product, self.handle, self.device = product, handle(device), device
        self.lock = threading.Lock()
        whole = product.out == "int32"
        number = ctypes.c_int32 if whole else ctypes.c_float
        self.one, self.zero = number(1), number(0)
        self._host = (ctypes.addressof(self.one), ctypes.addressof(self.zero))
        self.descriptor = _made("cublasLtMatmulDescCreate", INT32_SUMS if whole else FLOAT32_SUMS, KINDS["int32" if whole else "float32"])
        for name, value in description(product):
            self._describe(name, value)
        if product.left.mode:  # the library proposes nothing for vectors of scales without an address
            self._describe("a_scale", ctypes.c_void_p(PLACE))
            self._describe("b_scale", ctypes.c_void_p(PLACE))
        if product.bias:
            self._describe("bias", ctypes.c_void_p(PLACE))
        self.layouts = [self._layout(*one) for one in layouts(product)]
        self.algorithm = (ctypes.c_uint64 * 8)()
        self.workspace = 0

    def _describe(self, name: str, value: Any) -> None:
        _set("cublasLtMatmulDescSetAttribute", self.descriptor, DESCRIPTION[name], value)

    def _layout(self, kind: int, rows: int, columns: int, pitch: int, step: int) -> ctypes.c_void_p:
        made = _made("cublasLtMatrixLayoutCreate", kind, ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(pitch))
        if self.product.count > 1:
            _set("cublasLtMatrixLayoutSetAttribute", made, LAYOUT_BATCHES, ctypes.c_int32(self.product.count))
            _set("cublasLtMatrixLayoutSetAttribute", made, LAYOUT_STEP, ctypes.c_int64(step))
        return made

    def candidates(self, workspace: int, split: bool = True, most: int = 16, ordered: bool = False) -> list[Result]:
        """Algorithms that the library proposes for this workspace, its favourite first; none where it has no kernel.

        split: whether K may be cut. ordered: into parts that are added in one order, if it is.
        """
        preference, p = _made("cublasLtMatmulPreferenceCreate"), self.product
        limits: list[tuple[int, Any]] = [(WORKSPACE, ctypes.c_uint64(workspace))]
        if not (split and p.split):
            limits.append((REDUCTIONS, ctypes.c_uint32(0)))
        elif ordered or p.out == "bfloat16":  # parts are never added in bfloat16
            limits.append((REDUCTIONS, ctypes.c_uint32(IN_WORKSPACE)))
        aligned = (p.right.aligned, p.left.aligned, p.aligned, p.aligned)
        for number, value in (*limits, *((ALIGNMENT + i, ctypes.c_uint32(a)) for i, a in enumerate(aligned))):
            _set("cublasLtMatmulPreferenceSetAttribute", preference, number, value)
        found, count = (Result * most)(), ctypes.c_int()
        a, b, d = self.layouts
        sides = (ctypes.c_void_p(self.handle), self.descriptor, a, b, d, d, preference)
        status = library().cublasLtMatmulAlgoGetHeuristic(*sides, most, found, ctypes.byref(count))
        library().cublasLtMatmulPreferenceDestroy(preference)
        if status not in (0, 15):
            check(status, f"cublasLtMatmulAlgoGetHeuristic of {p.name}")
        return [r for r in found[: count.value] if r.state == 0 and r.workspace <= workspace]

    def accepts(self, algorithm: bytes) -> int | None:
        """The workspace that an algorithm (its 64 bytes) needs for this product; None where it does not serve."""
        words, result = (ctypes.c_uint64 * 8).from_buffer_copy(algorithm), Result()
        a, b, d = self.layouts
        status = library().cublasLtMatmulAlgoCheck(ctypes.c_void_p(self.handle), self.descriptor, a, b, d, d, words, ctypes.byref(result))
        return int(result.workspace) if status == 0 else None

    def take(self, algorithm: bytes, workspace: int) -> None:
        """From now on launch this algorithm."""
        self.algorithm, self.workspace = (ctypes.c_uint64 * 8).from_buffer_copy(algorithm), workspace

    def launch(
        self, left: int, right: int, out: int, space: int, stream: int, alpha: int = 0, left_scale: int = 0, right_scale: int = 0, bias: int = 0
    ) -> int:
        """Queue the product of the arrays at these addresses; alpha: {factor, 0} on the device. Returns cuBLASLt's status."""
        one, zero = (alpha, alpha + 4) if alpha else self._host
        a, b, d = self.layouts
        chosen = (ctypes.addressof(self.algorithm), space, self.workspace, stream)
        with self.lock:  # addresses of scales and of the bias are read from the descriptor
            if self.product.bias:
                self._describe("bias", ctypes.c_void_p(bias))
            if self.product.left.mode:
                self._describe("a_scale", ctypes.c_void_p(right_scale))
                self._describe("b_scale", ctypes.c_void_p(left_scale))
            return int(library().cublasLtMatmul(self.handle, self.descriptor, one, right, a, left, b, zero, out, d, out, d, *chosen))


def altered(algorithm: bytes, name: str, value: int) -> bytes | None:
    """The algorithm with one entry of its configuration changed, None where it has no such value; whether it serves is for `Plan.accepts` to say."""
    words, (number, size) = (ctypes.c_uint64 * 8).from_buffer_copy(algorithm), CONFIGURATION[name]
    held = (ctypes.c_uint32 if size == 4 else ctypes.c_uint16)(value)
    status = library().cublasLtMatmulAlgoConfigSetAttribute(words, number, ctypes.byref(held), ctypes.c_size_t(size))
    return None if status else bytes(words)


def capabilities(algorithm: bytes) -> dict[str, list[int]]:
    """The values that the tile and the custom option of an algorithm's kernel can have; none where the library does not say."""
    words, written, most = (ctypes.c_uint64 * 8).from_buffer_copy(algorithm), ctypes.c_size_t(), ctypes.c_int32(-1)
    tiles, get = (ctypes.c_uint32 * 1024)(), library().cublasLtMatmulAlgoCapGetAttribute
    get(words, CAPABILITY_CUSTOM, ctypes.byref(most), ctypes.c_size_t(4), ctypes.byref(written))
    known = get(words, CAPABILITY_TILES, tiles, ctypes.c_size_t(ctypes.sizeof(tiles)), ctypes.byref(written)) == 0
    return {"custom": list(range(most.value + 1)), "tile": list(tiles[: written.value // 4]) if known else []}


def configuration(algorithm: bytes) -> dict[str, int]:
    """What an algorithm (its 64 bytes) is, by the names of `CONFIGURATION`."""
    words, found = (ctypes.c_uint64 * 8).from_buffer_copy(algorithm), {}
    for name, (number, size) in CONFIGURATION.items():
        value, written = (ctypes.c_uint32 if size == 4 else ctypes.c_uint16)(), ctypes.c_size_t()
        status = library().cublasLtMatmulAlgoConfigGetAttribute(words, number, ctypes.byref(value), ctypes.c_size_t(size), ctypes.byref(written))
        check(status, f"cublasLtMatmulAlgoConfigGetAttribute {name}")
        found[name] = int(value.value)
    return found

"""The kernels of a backend one by one: least bytes, time, share of the copy bandwidth; of products multiplications a second.

Each kernel first runs on a small input and is held to its contract against the definition: what differs is not timed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.ref.errors import BackendError, UnknownNameError
from lpref.ref.random import WordAddress
from lpref.specs import quantizer
from lpref.trainer.bench.timing import seconds

SMALL = 64
QUANTIZERS = ("fp8_tensor", "fp8_row", "mxfp8_e4m3", "mxfp4", "int8_row", "nvfp4", "nvfp4_2d")


@dataclass(frozen=True)
class Case:
    """`op` of a backend on what `make(n, draw)` gives: (positional, keyword) arguments for n rows, arrays of NumPy."""

    name: str
    op: str
    make: Callable[[int, Callable[..., Any]], tuple[tuple[Any, ...], dict[str, Any]]]
    products: bool = False


def cases() -> dict[str, Case]:
    """Every case by name; n rows of n elements, square products, heads of 64."""

    def plain(op: str, *more: Any, name: str = "", **kwargs: Any) -> Case:
        return Case(name or op, op, lambda n, draw: ((draw(n, n), *more), kwargs))

    found = [plain(op) for op in ("exp", "gelu", "amax", "tree_sum", "swiglu_packed")]
    found += [
        Case("add", "add", lambda n, draw: ((draw(n, n), draw(n, n)), {})),
        Case("rmsnorm", "rmsnorm", lambda n, draw: ((draw(n, n), draw(n), 1e-5), {})),
        Case("layernorm", "layernorm", lambda n, draw: ((draw(n, n), draw(n), draw(n), 1e-5), {})),
        Case("softmax_cross_entropy", "softmax_cross_entropy", lambda n, draw: ((draw(n, n), np.arange(n)), {})),
        Case("attention", "attention", lambda n, draw: (tuple(draw(1, max(n // 256, 1), n, 64) for _ in range(3)), {"causal": True})),
        plain("hadamard", 16, name="hadamard 16"),
        plain("cast", "bfloat16", name="cast bfloat16"),
    ]
    for name in QUANTIZERS:
        found.append(plain("quantize", quantizer(name), name=f"quantize {name}"))
        stochastic = quantizer({"base": name, "rounding": "stochastic"})
        found.append(plain("quantize", stochastic, name=f"quantize {name} stochastic", words=WordAddress(1, 0, "bench/rounding")))
    found += [product(q) for q in ("float32", "bf16", "fp8_tensor", "int8_row", "mxfp8_e4m3", "nvfp4")]
    return {case.name: case for case in found}


def product(q: str) -> Case:
    """A square product of two operands under a quantizer."""
    return Case(f"gemm {q}", "gemm", lambda n, draw: ((Operand(draw(n, n), q), Operand(draw(n, n), q)), {}), products=True)


@dataclass(frozen=True)
class Operand:
    """An operand of a product: an array and the quantizer that makes its codes."""

    array: Any
    quantizer: str


def kernel_row(case: Case, backend: Any, n: int, copy: float | None) -> dict[str, Any]:
    """The figures of one case at n rows.

    copy: bytes a second of a copy of the same run, counted once read and once written.
    Raises: BackendError where the kernel breaks its contract on the small input.
    """
    verify(case, backend)
    args, kwargs = arguments(case, backend, n)
    call = getattr(backend, case.op)
    output = call(*args, **kwargs)
    took = seconds(lambda: call(*args, **kwargs), backend)
    row = {**_head(case.name, backend, n), "us": took * 1e6}
    if case.products:
        return {**row, "T mult/s": n**3 / took / 1e12}
    moved = _bytes((args, output))
    return {**row, "GB/s": moved / took / 1e9, "share of copy": None if copy is None else moved / took / copy}


def _head(name: str, backend: Any, n: int) -> dict[str, Any]:
    return {"name": name, "backend": backend.name, "numerics": backend.numerics, "n": n}


def arguments(case: Case, backend: Any, n: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments on the backend; equal for equal n."""
    draw = np.random.default_rng(7)
    args, kwargs = case.make(n, lambda *shape: draw.standard_normal(shape, np.float32))
    return tuple(_placed(a, backend) for a in args), kwargs


def _placed(x: Any, backend: Any) -> Any:
    if isinstance(x, Operand):
        q = None if x.quantizer == "float32" else quantizer(x.quantizer)
        return backend.operand(backend.arrays.make(x.array), q, k_axis=1)
    return backend.arrays.make(x) if isinstance(x, np.ndarray) and x.dtype == np.float32 else x


def verify(case: Case, backend: Any) -> None:
    """Raise BackendError where the kernel does not keep its contract."""
    from lpref.accel import backend as backend_named

    reference = backend_named("reference", "exact")
    kernel = backend.kernels[case.op]
    (args, kwargs), (host, _) = arguments(case, backend, SMALL), arguments(case, reference, SMALL)
    problem = kernel.contract.mismatch(kernel.reference(*host, **kwargs), _home(getattr(backend, case.op)(*args, **kwargs), backend), host, kwargs)
    if problem:
        raise BackendError(f"{case.name} is not timed: {problem}", where=f"bench, {backend!r}", remedy="lpref diff finds the cause")


def _home(x: Any, backend: Any) -> Any:
    if isinstance(x, (tuple, list)):
        return type(x)(_home(v, backend) for v in x)
    return backend.arrays.host(x)


def _bytes(x: Any) -> int:
    """Of the arrays and quantized tensors in x."""
    if isinstance(x, (tuple, list)):
        return sum(map(_bytes, x))
    return 0 if dataclasses.is_dataclass(x) and not hasattr(x, "codes") else int(getattr(x, "nbytes", 0))


def copy_rate(backend: Any, n: int) -> float:
    """Bytes a second, read and written, of a copy of n x n float32."""
    source = backend.arrays.make(np.zeros((n, n), np.float32))
    target = source.copy()

    def copied() -> None:
        target[...] = source

    return 2 * source.nbytes / seconds(copied, backend)


def kernel_rows(names: Sequence[str], backend: Any, n: int) -> Iterator[dict[str, Any]]:
    """The rows of these cases, or of all that the backend has kernels for. Raises: UnknownNameError."""
    known = cases()
    for name in names:
        if name not in known:
            raise UnknownNameError("benchmark", name, known)
    copy = copy_rate(backend, n)
    yield {**_head("copy", backend, n), "us": 8e6 * n * n / copy, "GB/s": copy / 1e9, "share of copy": 1.0}
    for name in names or known:
        yield kernel_row(known[name], backend, n, copy)

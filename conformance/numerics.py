"""The numerics hash (numerics N12): SHA-256 over what the definitions compute on fixed inputs.

Any changed output bit of a format, rounding, overflow policy, quantizer, sum, matrix product, transform, elementary function, random word,
optimizer or executable recipe changes it, as far as the fixed inputs show it. It stands in ``lpref
--version``, in run folders and in reports, so that two figures can be told to rest on the same bits.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from functools import cache
from typing import Any

import numpy as np

from lpref.ref.errors import LprefError


def grid() -> np.ndarray:
    """Fixed float32 inputs: signed zeros, powers of two with their neighbours from 2^-149 to 2^127, small integers, halves, thirds."""
    powers = np.ldexp(np.float32(1), np.arange(-149, 128, 3)).astype(np.float32)
    near = np.concatenate(
        [
            powers,
            np.nextafter(powers, np.float32(np.inf)),
            np.nextafter(powers, np.float32(0)),
            powers * np.float32(1.5),
        ]
    )
    small = np.arange(0, 520, dtype=np.float32)
    values = np.concatenate([near, small, small / np.float32(8), small / np.float32(3)])
    return np.concatenate([values, -values])


@cache
def numerics_hash() -> str:
    """The hash, in hexadecimal; computed once a process."""
    from lpref.ref import elementary, random, reduce

    digest = hashlib.sha256()
    x = grid()
    digest.update(random.words(1, random.stream("numerics"), 2, 3, 64).tobytes())
    for name in ("exp", "exp2", "log", "log2", "sin", "cos", "tanh", "rsqrt", "erf", "sigmoid"):
        with np.errstate(all="ignore"):
            _add(digest, name, getattr(elementary, name)(x[np.abs(x) < 1e6]))
    _add(digest, "tree_sum", reduce.tree_sum(x[np.abs(x) < 1e30]))
    _formats(digest, x)
    _roundings(digest, x)
    _quantizers(digest)
    _products(digest)
    _optimizers(digest)
    _recipes(digest)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, values: np.ndarray) -> None:
    values = np.ascontiguousarray(values)
    if values.dtype.kind == "f":  # NaN compares as a class (N8)
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    digest.update(f"{name}\0{values.dtype.str}\0{values.shape}\0".encode())
    digest.update(values.tobytes())


def _formats(digest: hashlib._Hash, x: np.ndarray) -> None:
    from lpref.ref.formats import FORMATS, VECTOR_FORMATS

    words = np.arange(x.size, dtype=np.uint32) * np.uint32(2654435761)
    for name, f in sorted(FORMATS.items()):
        digest.update(f"{name}\0{f.standard}\0{f.revision}\0".encode())
        if f.bits <= 8:
            _add(digest, name, np.asarray(f.decode(np.arange(1 << f.bits, dtype=f.code_dtype))))
        values = x if f.signed else np.abs(x)
        _add(digest, name, f.encode(values, overflow="saturate"))
        if f.bits < 32:
            _add(digest, name, f.encode(values, rounding="stochastic", overflow="saturate", words=words))
    for name, book in sorted(VECTOR_FORMATS.items()):
        digest.update(f"{name}\0{book.standard}\0{book.revision}\0".encode())
        _add(digest, name, book.decode(np.arange(len(book.vectors))))
        _add(digest, name, book.classify(x[: x.size // 2 * 2].reshape(-1, 2)))


def _quantizers(digest: hashlib._Hash) -> None:
    from lpref.ref import random
    from lpref.ref.quantize import COMPLEX_QUANTIZERS, QUANTIZERS, quantize

    x = _matrix(128, 256, "numerics/quantizers")
    for name, q in sorted(COMPLEX_QUANTIZERS.items()):
        _add(digest, f"{name}@{q.revision}", quantize(x[:, 0::2] + 1j * x[:, 1::2], q).dequantize().view(np.float64))
    for name, q in sorted(QUANTIZERS.items()):
        t = quantize(x, q, words=random.WordAddress(5, 7, f"numerics/{name}"))
        _add(digest, f"{name}@{q.revision}", t.dequantize(np.float32))


def _roundings(digest: hashlib._Hash, x: np.ndarray) -> None:
    """Every rounding and overflow policy into one format with infinity, one with NaN only, one unsigned, and integers."""
    from lpref.ref.formats import format as format_named
    from lpref.ref.rounding import OVERFLOW, ROUNDINGS

    words = np.arange(x.size, dtype=np.uint32) * np.uint32(2654435761)
    for f in map(format_named, ("e5m2", "e4m3", "e8m0", "int8")):
        for name in ROUNDINGS:
            _add(digest, f"{f.name}/{name}", f.encode(x, name, words=words))
        for name in OVERFLOW:
            for source in (x, np.array([np.inf, -np.inf]), np.array([np.nan])):
                try:
                    _add(digest, f"{f.name}/{name}", f.encode(source, overflow=name))
                except LprefError as error:  # what has no code is part of the definition
                    digest.update(f"{f.name}/{name}\0{type(error).__name__}\0".encode())


def _matrix(rows: int, columns: int, site: str) -> np.ndarray:
    """Fixed values in (-8, 8), rows x columns."""
    from lpref.ref import random

    bits = random.words(3, random.stream(site), 0, 0, rows * columns).astype(np.float64)
    return ((bits - 2.0**31) * 2.0**-28).astype(np.float32).reshape(rows, columns)


def _products(digest: hashlib._Hash) -> None:
    from lpref.ref import linalg
    from lpref.ref.formats import format as format_named
    from lpref.ref.quantize import quantize

    x, w = _matrix(8, 64, "numerics/a"), _matrix(6, 64, "numerics/b")
    for size in (2, 16, 64):
        _add(digest, f"hadamard {size}", linalg.hadamard(x, size))
    for name in ("mxfp8_e5m2", "mxfp4", "nvfp4", "int8_row", "fp8_tensor", "nf4"):
        _add(digest, f"gemm {name}", linalg.gemm(quantize(x, name), quantize(w, name)))
    a: Any
    b: Any
    for name, accumulator in linalg.ACCUMULATORS.items():
        core, inner = accumulator.model.core, accumulator.model.inner
        if accumulator.model.scales == "aligned":
            a, b = quantize(x, "mxfp4"), quantize(w, "mxfp4")
        else:
            kind = core.inputs[0] if core else "int8" if inner == "integer" else "float32"
            a, b = (linalg.HighPrecision(format_named(kind).round(v * (16 if kind == "int8" else 1)), 1) for v in (x, w))
        _add(digest, f"gemm {name}", linalg.gemm(a, b, accumulator.model))


def _optimizers(digest: hashlib._Hash) -> None:
    from lpref.ref.optim import RULES, OptimContext, optimizer

    params, grads = {"w": _matrix(4, 8, "numerics/w")}, {"w": _matrix(4, 8, "numerics/g")}
    for name in sorted(RULES):
        opt = optimizer(name)
        state, now = opt.init(params), params
        for step in range(2):
            now, state = opt.update(now, grads, state, OptimContext(step=step, update=step, seed=1, lr=1e-2))
        _add(digest, name, now["w"])


def _recipes(digest: hashlib._Hash) -> None:
    """Every recipe that comes with the package as the lines of its file that are data: what slots compute is the business of the parts above."""
    from lpref.specs import RECIPE

    folder = importlib.resources.files("lpref.specs") / RECIPE.folder
    for name in RECIPE.names():
        lines = folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        data = [line for line in lines if not line.startswith(("#", "title:", "source:", "source_level:"))]
        digest.update("\n".join([*data, "\0"]).encode())

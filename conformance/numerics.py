"""The numerics hash (numerics N12): SHA-256 over what the definitions compute on fixed inputs.

Any changed output bit of a format, rounding, quantizer, sum, elementary function or random word changes it. It stands in ``lpref
--version``, in run folders and in reports, so that two figures can be told to rest on the same bits.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np


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
    _quantizers(digest)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, values: np.ndarray) -> None:
    values = np.ascontiguousarray(values)
    if values.dtype.kind == "f":  # NaN compares as a class (N8)
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    digest.update(f"{name}\0{values.dtype.str}\0{values.shape}\0".encode())
    digest.update(values.tobytes())


def _formats(digest: hashlib._Hash, x: np.ndarray) -> None:
    from lpref.ref.formats import FORMATS

    words = np.arange(x.size, dtype=np.uint32) * np.uint32(2654435761)
    for name, f in sorted(FORMATS.items()):
        digest.update(f"{name}\0{f.standard}\0{f.revision}\0".encode())
        if f.bits <= 8:
            _add(digest, name, np.asarray(f.decode(np.arange(1 << f.bits, dtype=f.code_dtype))))
        values = x if f.signed else np.abs(x)
        _add(digest, name, f.encode(values, overflow="saturate"))
        if f.bits < 32:
            _add(digest, name, f.encode(values, rounding="stochastic", overflow="saturate", words=words))


def _quantizers(digest: hashlib._Hash) -> None:
    from lpref.ref import random
    from lpref.ref.quantize import QUANTIZERS, quantize

    bits = random.words(3, random.stream("numerics/quantizers"), 0, 0, 128 * 256).astype(np.float64)
    x = ((bits - 2.0**31) * 2.0**-28).astype(np.float32).reshape(128, 256)
    for name, q in sorted(QUANTIZERS.items()):
        t = quantize(x, q, words=random.WordAddress(5, 7, f"numerics/{name}"))
        _add(digest, f"{name}@{q.revision}", t.dequantize(np.float32))

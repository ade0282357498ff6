"""Inputs of the tests of every kernel, CPU and CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.ref.formats import format


def around(points: np.ndarray) -> np.ndarray:
    p = points.astype(np.float32)
    return np.concatenate([np.nextafter(p, np.float32(-np.inf)), p, np.nextafter(p, np.float32(np.inf))])


def inputs(name: str) -> np.ndarray:
    """Values, midpoints and quarter points with their neighbours, the range's ends, every exponent, subnormals; finite."""
    f = format(name)
    values = f.table()[0] if f.bits <= 16 else np.float32(1 + np.arange(64) / 2**10)
    values = values if values.size < 600 else np.concatenate([values[:80], values[:: values.size // 300], values[-80:]])
    with np.errstate(over="ignore"):
        points = np.concatenate([values, (values[1:] + values[:-1]) / 2, values[:-1] * 0.75 + values[1:] * 0.25])
        edge = np.array([f.max, f.max * (1 + 2.0**-8), f.max * (1 + 2.0**-5), f.max * 1.25, 1.0])
        points = np.concatenate([points, edge, -edge])
        x = np.concatenate([around(points), patterns()])
    return np.where(np.isfinite(x), x, np.float32(0.0)).astype(np.float32)


def patterns() -> np.ndarray:
    """Every exponent with random fractions, both signs; the smallest subnormals."""
    rng = np.random.default_rng(1)
    every = (np.arange(0, 255, dtype=np.uint32)[:, None] << np.uint32(23)) | rng.integers(0, 1 << 23, (255, 3), dtype=np.uint32)
    every = np.concatenate([every[:, :1] & np.uint32(0x7F800000), every], axis=1).ravel().view(np.float32)
    tiny = np.array([0, 1, 2, 3, 0x400000, 0x400001, 0x7FFFFF], np.uint32).view(np.float32)
    return np.concatenate([every, -every, tiny, -tiny])


def special() -> np.ndarray:
    bits = [0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF800001, 0x7FFFFFFF]
    return np.array(bits, np.uint32).view(np.float32)


def wide(rows: int, columns: int, seed: int = 3) -> np.ndarray:
    """Values whose rows and columns differ by many binades, with zeros, tiny and huge ones."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns)) * np.exp2(rng.integers(-12, 12, (rows, 1)) + rng.integers(-6, 6, (1, columns)))
    x[rng.random(x.shape) < 0.02] = 0
    x[rng.random(x.shape) < 0.002] *= 2.0**60
    x[rng.random(x.shape) < 0.002] = 2.0**-140
    x[rng.random(x.shape) < 0.002] = -0.0
    return x.astype(np.float32)


def hard(rows: int, columns: int, kind: Any) -> np.ndarray:
    """Normal rows of many sizes; rows of whole binades, zeros, subnormals, ties, one infinity, one NaN."""
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, columns)).astype(np.float32)
    x *= np.exp2(rng.integers(-20, 8, (rows, 1))).astype(np.float32)
    x[1] = wide(1, columns)[0]
    x[2] = np.where(rng.random(columns) < 0.5, 0, x[2])
    x[3] = 0
    x[4, ::3], x[5, columns // 2] = 0, np.inf
    x[6, 7] = np.nan
    x[7] *= np.float32(2.0**-130)
    x[8] = rng.integers(-255, 256, columns) / 2
    x[9] = rng.integers(-28, 29, columns) / 4
    x[10] = rng.choice([-1, 1], columns) * np.float32(448)
    x[11, ::16], x[12] = 2.0**-133, 2.0**-133
    x[13, ::3] = -0.0
    with np.errstate(all="ignore"):
        return x.astype(kind)


def same(got: Any, want: Any) -> None:
    assert np.array_equal(got.codes, want.codes), np.argwhere(got.codes != want.codes)[:5]
    for mine, theirs in zip(got.scales, want.scales, strict=True):
        assert np.array_equal(mine, theirs) or np.array_equal(mine.view(np.float32), theirs.view(np.float32), equal_nan=True)
    assert np.array_equal(got.tensor_scale, want.tensor_scale, equal_nan=True)
    assert repr(dict(got.observed)) == repr(dict(want.observed))

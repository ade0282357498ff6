"""Input classes and results of casts: the rows and columns of the difference matrix.

Every input belongs to the first class of `CLASSES` that fits it. All is said in terms of the definition alone (its own roundings), so the
same words fit every format: a tie is an input whose nearest value depends on the tie rule.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from lpref.conformance import inputs
from lpref.ref.formats import Format
from lpref.ref.random import words

CLASSES: dict[str, str] = {
    "NaN": "NaN",
    "infinity": "an infinity",
    "zero": "+0 or -0",
    "negative": "a negative number, in a format without them",
    "overflow": "finite, at least half a step beyond the largest value",
    "beyond max": "finite, less than half a step beyond the largest value",
    "input subnormal": "a subnormal number of the input's type",
    "value": "a value of the format",
    "tie": "halfway between two values: the tie rule decides",
    "underflow": "smaller than half the smallest value",
    "near tie": "within 2^-21 of a tie (float16 and bfloat16 inputs: within 2 neighbours)",
    "subnormal": "in the format's subnormal range",
    "inside": "every other number",
}
RESULTS: dict[str, str] = {
    "NaN": "NaN", "infinity": "an infinity", "largest": "the largest value", "zero": "a zero", "sign": "the same value with the other sign",
    "neighbour": "the value on the other side of the input", "finite": "another finite value", "no code": "a code that the format does not have",
}  # fmt: skip
DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
DENSE = 4096  # formats with more values: this many of them, evenly, and both ends


def wide(x: np.ndarray) -> np.ndarray:
    """x in float64; a signalling NaN is a NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(x, np.float64)


def cast_inputs(f: Format, input_name: str) -> np.ndarray:
    """The inputs of a cast: all of a 16-bit type; else all values and midpoints of f with their neighbours, edges, specials, random ones."""
    dtype = DTYPES[input_name]
    if np.dtype(dtype).itemsize == 2:
        return np.arange(65536, dtype=np.uint16).view(dtype)
    parts = [inputs.overflow_edges(f, dtype), inputs.subnormal_edges(f, dtype), inputs.specials(dtype), inputs.spread(dtype), inside(f, dtype)]
    values = some(inputs.table(f))
    middle = values[:-1] + (values[1:] - values[:-1]) / 2
    parts.append(inputs.beside(np.concatenate([values, middle]), dtype))
    if input_name == "float64":
        # between two float32 numbers: what a detour through float32 rounds twice
        off = np.concatenate([middle * (1 + s * 2.0**-k) for k in (26, 30, 40, 50) for s in (1, -1)])
        parts += [off[np.isfinite(off)], inputs.beside(middle.astype(np.float32), np.float32).astype(np.float64)]
    return inputs.distinct(np.concatenate(parts))


def some(values: np.ndarray) -> np.ndarray:
    """Neighbouring pairs, evenly chosen, and both ends, where there are many."""
    if values.size <= DENSE:
        return values
    pairs = np.arange(0, values.size - 1, values.size // (DENSE // 2))
    ends = np.arange(32)
    return values[np.unique(np.concatenate([pairs, pairs + 1, ends, values.size - 1 - ends]))]


def inside(f: Format, dtype: type, count: int = 1 << 14) -> np.ndarray:
    """Numbers of every exponent of f, random significands and signs."""
    low, high = int(np.frexp(f.min_subnormal)[1]) - 3, int(np.frexp(f.max)[1]) + 1
    info = np.finfo(dtype)
    low, high = max(low, info.minexp - info.nmant), min(high, info.maxexp)
    raw = words(0, 8, 0, 0, 2 * count).astype(np.float64)
    significands: np.ndarray = (raw[:count] / 2.0**31 - 1).astype(dtype)
    return np.ldexp(significands, (low + raw[count:] % (high - low + 1)).astype(np.int32)).astype(dtype)


def classify(x: np.ndarray, f: Format) -> np.ndarray:
    """The class of every input, as an index into `CLASSES`."""
    names = list(CLASSES)
    out = np.full(x.shape, names.index("inside"), np.int8)
    v = wide(x)
    finite = np.isfinite(v)
    v = np.where(finite, v, 1.0)
    size = np.abs(v)
    near, tie = ties(x, finite, f)
    order = f.table()[0] if f.bits <= 16 else np.array([f.min, f.max])
    high, low = half_step(f, order)
    info = np.finfo(x.dtype) if x.dtype.name != "bfloat16" else ml_dtypes.finfo(ml_dtypes.bfloat16)
    masks = {
        "subnormal": size < f.min_normal,
        "near tie": near,
        "underflow": size < f.min_subnormal / 2,
        "tie": tie,
        "value": np.isin(v, order) if f.bits <= 16 else f.decode(f.encode(v)) == v,
        "input subnormal": size < float(info.smallest_normal),
        "beyond max": (v > f.max) | (v < f.min),
        "overflow": (v >= high) | ((v <= low) & f.signed),
        "negative": (v < 0) & (not f.signed),
        "zero": v == 0,
        "infinity": np.isinf(wide(x)),
        "NaN": np.isnan(wide(x)),
    }
    for name, mask in masks.items():  # the strongest last
        mask = mask & finite if name not in ("infinity", "NaN") else mask
        out[mask] = names.index(name)
    return out


def half_step(f: Format, order: np.ndarray) -> tuple[float, float]:
    """Half a step beyond the largest and the smallest value."""
    if f.precision is None or f.bits > 16:
        step = order[-1] - order[-2] if order.size > 2 else 0.0
    else:
        step = 2.0 ** (f.emax - f.precision + 1)
    return f.max + step / 2, f.min - (step / 2 if f.signed else 0.0)


def ties(x: np.ndarray, finite: np.ndarray, f: Format) -> tuple[np.ndarray, np.ndarray]:
    """(near a tie, a tie), inside the range."""
    dtype = x.dtype.type
    safe = np.where(finite, x, dtype(1))
    v = np.clip(safe.astype(np.float64), f.min, f.max)
    tie = f.encode(v, "nearest_away") != f.encode(v, "nearest_toward_zero")
    if x.dtype.itemsize == 2:
        unsigned = np.abs(safe).view(np.uint16).astype(np.int32)
        sides = [np.clip(unsigned + d, 0, 0x7F7F if x.dtype.name == "bfloat16" else 0x7BFF).astype(np.uint16).view(x.dtype) for d in (-2, 2)]
        sides = [np.copysign(s.astype(np.float64), v) for s in sides]
    else:
        sides = [v * (1 - 2.0**-21), v * (1 + 2.0**-21)]
    low, high = (f.encode(np.clip(s, f.min, f.max)) for s in sides)
    return (low != high) & ~tie, tie


def result_kinds(x: np.ndarray, got: np.ndarray, want: np.ndarray, f: Format) -> np.ndarray:
    """What came instead of `want` (values), as an index into `RESULTS`; meaningless where they agree."""
    names = list(RESULTS)
    out = np.full(x.shape, names.index("finite"), np.int8)
    v = np.where(np.isfinite(wide(x)), wide(x), 0.0)
    v = np.clip(v, f.min, f.max)
    lower, upper = f.decode(f.encode(v, "toward_negative")), f.decode(f.encode(v, "toward_positive"))
    masks = {
        "neighbour": (got == lower) | (got == upper),
        "zero": got == 0,
        "largest": (got == f.max) | (got == f.min),
        "infinity": np.isinf(got),
        "NaN": np.isnan(got),
        "sign": (got == -want) & (np.signbit(got) != np.signbit(want)),
    }
    for name, mask in masks.items():
        out[mask] = names.index(name)
    return out

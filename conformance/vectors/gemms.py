"""The vectors of an accumulation model: small matrix products whose bits depend on the order, the precision and the range of the sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lpref.conformance.products import held, noise
from lpref.conformance.vectors.blocks import digits, numbers
from lpref.conformance.vectors.files import VERSION, VectorSet
from lpref.ref.errors import LprefError
from lpref.ref.formats import Format
from lpref.ref.formats import format as format_of
from lpref.ref.linalg import Accumulate, Accumulator, HighPrecision, gemm

CATCHES = {
    "alignment": "products cut at another bit, rounded where they are cut toward zero, or normalised before they are added; a product that is "
    "rounded before it is added, or is not",
    "order": "another order of addition, several partial sums, a step of another number of products",
    "chunk": "a chunk of another length, a promotion too early, too late or never; partial sums that are kept in another format",
    "depth": "a K that is no multiple of a step: a tail that is left out or read beyond its end",
    "integer range": "wrapping where the sum saturates, saturation at the end only, an accumulator of another width",
    "range": "an overflow to infinity too early or too late; partial sums that come back from beyond the range",
    "smallest": "a flush of subnormal operands, products or sums; an alignment below the smallest exponent",
    "special": "infinities and NaNs that are lost, or made of numbers",
}
OPERANDS = {"bfloat16": "bfloat16", "binary16": "binary16", "e6m9_ieee": "e5m2", "float32": "float32"}
"""Format of a sum -> format of the operands of its vectors."""
Pair = tuple[str, np.ndarray, np.ndarray]


def operand_format(model: Accumulate) -> Format:
    """What the operands' values are values of: what a matrix unit reads, integers that leave the range, else a format as wide as the sums."""
    if model.core is not None:
        return format_of(model.core.inputs[0])
    if model.inner == "integer":
        return format_of("int8" if model.bits <= 16 else "int16")
    return format_of(OPERANDS.get(model.format, "float32"))


def refusal(model: Accumulate) -> str | None:
    """None, or why a model has no vectors."""
    if model.inner == "auto":
        return "it stands for exact or sequential, as the operands say"
    if model.order != "fixed":
        return "its order of addition is not defined"
    try:
        gemm(HighPrecision(np.ones((1, 2), np.float32)), HighPrecision(np.ones((1, 2), np.float32)), model)
    except LprefError as error:
        return f"it refuses operands without scales: {error}"
    return None


def gemm_set(entry: Accumulator, limit: int) -> VectorSet:
    """At most `limit` products, those that tell models apart first; results by the reference."""
    f = operand_format(entry.model)
    cases: list[dict[str, Any]] = []
    for label, a, b in pairs(f, entry.model):
        if len(cases) == limit:
            break
        with np.errstate(over="ignore", invalid="ignore"):
            out = gemm(HighPrecision(a), HighPrecision(b), entry.model)
        shape = [a.shape[0], b.shape[0], a.shape[1]]
        bits = {key: digits(v.astype(np.float32).view(np.uint32)) for key, v in (("a", a), ("b", b), ("out", out))}
        cases.append({"id": len(cases), "shape": shape, **bits, "catches": label})
    used = {c["catches"] for c in cases}
    header = {
        "lpref_vectors": VERSION, "op": "gemm", "subject": entry.name, "revision": entry.revision, "standard": entry.standard,
        "format": f.name, "code_bits": f.bits, "license": "CC0-1.0", "catches": {k: v for k, v in CATCHES.items() if k in used},
    }  # fmt: skip
    return VectorSet(f"gemm-{entry.name}", header, cases)


def product_of(case: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{a [M, K], b [N, K], out [M, N]} of a case, float32."""
    m, n, k = case["shape"]
    return {key: numbers(case[key], 32).view(np.float32).reshape(shape) for key, shape in (("a", (m, k)), ("b", (n, k)), ("out", (m, n)))}


def pairs(f: Format, model: Accumulate) -> Iterator[Pair]:
    """(what it catches, a [M, K], b [N, K]), values of f in float32."""
    if model.inner == "integer":
        yield from integer_pairs(f, model.bits)
        return
    yield "alignment", *between_large(f, 4, 0, 3, 40)
    for depth, first, second in ((10, 0, 9), (18, 1, 17), (34, 0, 20), (66, 15, 65)):
        yield "order", *between_large(f, depth, first, second, 10)
    for depth in (65, 129, 260):
        yield "chunk", held(f, 1 + np.abs(noise(41, (2, depth)))), held(f, 1 + np.abs(noise(42, (2, depth))))
    if (precision := format_of(model.format).precision or 24) < 24:
        ones = np.ones((1, 2**precision + 2 ** (precision - 4)), np.float32)
        yield "chunk", ones, ones
    for depth in (1, 2, 3, 5, 8, 9, 16, 17, 33):
        yield "depth", held(f, 4 * noise(43, (2, depth))), held(f, 4 * noise(44, (2, depth)))
    down = max(f.emin + 2, -66)
    fine = np.arange(40) % 8
    yield "smallest", held(f, np.ldexp(noise(45, (3, 40)), down - fine)), held(f, np.ldexp(noise(46, (3, 40)), down - fine))
    yield "smallest", held(f, np.ldexp(noise(47, (3, 20)), down)), held(f, 2 * noise(48, (3, 20)))
    top = np.float32(f.max)
    turns = np.array([[1, 1, -1, 1], [1, -1, 1, -1], [1, 1, 1, 1], [-1, -1, 1, 1]], np.float32)
    yield "range", turns * top, np.array([[top] * 4, [1, top, 1, top], [-top, top, 1, 1]], np.float32)
    yield "special", *specials(f)


def between_large(f: Format, depth: int, first: int, second: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """H at `first` and -H at `second`, with small numbers beside and between them: row by row smaller ones in a, of four sizes and signs in b.

    The large products cancel, so that what remains is what was kept of the small ones while the sum was large.
    """
    high = min(f.emax, 12)
    low = max(int(np.frexp(f.min_subnormal)[1]), -24)
    sizes = np.unique(np.linspace(low, high, rows).astype(int))[::-1]
    pattern = 1 + np.abs(noise(40, (1, depth))) / 2
    a = held(f, np.ldexp(pattern, sizes[:, None]))
    b = held(f, np.ldexp(np.array([[1.0], [-1.25], [1.5], [1.0]]) * np.ones((4, depth)), np.array([[high], [high - 1], [0], [low // 2]])))
    b[3, ::2] *= -1
    a[:, first], a[:, second] = 2.0**high, -(2.0**high)
    b[:, first], b[:, second] = 2.0**high, 2.0**high
    return a, b


def integer_pairs(f: Format, bits: int) -> Iterator[Pair]:
    """Sums that leave the range of the accumulator in the middle, at the end, on both sides, or not at all."""
    top, unit = int(f.max), 2 ** (bits - 1)
    most = unit // (top * top) + 1  # so many largest products leave the range
    for depth in (2 * most, 2 * most + 1, 4 * most + 3):
        there, back = np.full((4, depth), top), np.full((3, depth), top)
        there[1, depth // 2 :] *= -1  # comes back
        there[2, : depth // 2] *= -1  # leaves below first
        there[3, most:] = 0  # leaves by little
        back[1, 1::2] *= -1
        back[2] = np.arange(depth) % top - top // 2
        yield "integer range", there.astype(np.float32), back.astype(np.float32)
    yield "depth", np.rint(noise(49, (3, 17)) * top).astype(np.float32), np.rint(noise(50, (3, 17)) * top).astype(np.float32)
    edge = np.array([[f.min, f.min, -1], [f.max, 1, 0], [1, 1, 1]], np.float32)
    yield "integer range", edge, edge
    yield "integer range", np.full((1, 2), f.min, np.float32), np.full((1, 2), f.min, np.float32)


def specials(f: Format) -> tuple[np.ndarray, np.ndarray]:
    """Signed zeros, and the infinities and NaN that f has, against numbers, zeros and each other."""
    values = [0.0, 1.0, *([np.inf, -np.inf] if f.has_inf else []), *([np.nan] if f.has_nan else [])]
    if "negative_zero" in f.targets:
        values.append(-0.0)
    x = np.ones((len(values), 5), np.float32)
    x[:, 1] = values
    y = np.ones((len(values), 5), np.float32)
    y[:, 1], y[:, 3] = values[::-1], values
    return x, y

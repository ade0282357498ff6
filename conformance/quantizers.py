"""Any block quantizer against its definition: codes, block scales, tensor scale."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.conformance import check, edges, inputs
from lpref.conformance.report import Outcome
from lpref.ref.errors import DTypeError, FormatError, NonFiniteError, ShapeError
from lpref.ref.formats import format as format_of
from lpref.ref.quantize import QTensor, Quantizer, quantize
from lpref.ref.quantize.packing import row_bytes, unpack
from lpref.ref.random import bits, words
from lpref.ref.rounding import default_word_bits, is_stochastic

Run = Callable[..., Any]
SMALL = 64  # elements of blocks of which a test matrix has more


def grid_of(rows: int, columns: int) -> tuple[int, int]:
    """How many blocks of this size a test matrix has."""
    return (16, 12) if rows * columns <= SMALL else (4, 6)


def matrices(q: Quantizer) -> Iterator[tuple[str, np.ndarray]]:
    """Name → [R, C] float32: several blocks, each with a size of its own, so that a wrong scale cannot pass."""
    rows, columns = (min(b, 256) if b else 48 for b in (q.blocks.other, q.blocks.k))
    grid = grid_of(rows, columns)
    shape = (rows * grid[0], columns * grid[1])
    n = shape[0] * shape[1]
    spread = block_sizes(rows, columns, -12, 12)
    noise = (words(0, 3, 0, 0, n).astype(np.float64) / 2.0**31 - 1).reshape(shape)
    yield "blocks of different size", (noise * spread).astype(np.float32)
    yield "ties", tied(q, shape, rows, columns)
    yield "amax at thresholds", at_thresholds(noise, rows, columns)
    yield (
        "wide range inside a block",
        (noise * np.ldexp(1.0, -(words(0, 4, 0, 0, n) % 40).astype(int)).reshape(shape)).astype(np.float32),
    )
    empty = (noise * spread).astype(np.float32)
    empty[:rows, :columns] = 0
    empty[rows : 2 * rows, :columns] *= np.float32(-0.0)
    yield "blocks of zeros", empty
    yield "all zeros", np.zeros(shape, np.float32)
    yield "tiny", (noise * block_sizes(rows, columns, -148, -120)).astype(np.float32)
    yield "huge", (noise * block_sizes(rows, columns, 120, 127)).astype(np.float32)
    yield (
        "powers of two",
        np.ldexp(np.sign(noise), (words(0, 5, 0, 0, n) % 60).astype(int).reshape(shape) - 30).astype(np.float32),
    )
    if q.tail != "error":
        yield "ragged tail", (noise * spread).astype(np.float32)[: shape[0] - rows // 2, : shape[1] - columns // 2]
    for name, value in (("a NaN", np.nan), ("an infinity", np.inf), ("a negative infinity", -np.inf)):
        special = (noise * spread).astype(np.float32)
        special[0, 1] = value
        yield name, special


def block_sizes(rows: int, columns: int, low: int, high: int) -> np.ndarray:
    """2^e per block, e running through low … high, repeated over the elements of the blocks."""
    grid = grid_of(rows, columns)
    e = low + np.arange(grid[0] * grid[1]) * 7 % (high - low + 1)
    return np.ldexp(1.0, np.repeat(np.repeat(e.reshape(grid), rows, 0), columns, 1))


def at_thresholds(noise: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Blocks whose amax is just at, below or above a place where some scale rule changes its exponent; its sign alternates.

    Significands: 1 and what precedes it (a logarithm rounds up there), 1.25 (5/4), 1.5, 1.75, 1.875, 1.9375: the largest elements of
    the small formats and the midpoints to the next ones.
    """
    grid = grid_of(rows, columns)
    marks = np.array([2, 1.25, 1.5, 1.75, 1.875, 1.9375], np.float32)
    amax = np.stack([np.nextafter(marks, np.float32(0)), marks, np.nextafter(marks, np.float32(9)), marks * np.float32(1.03125)], 1)
    amax = np.resize(amax, grid[::-1]).T * np.ldexp(np.float32(1), np.arange(grid[0])[:, None] * 3 - 5)
    amax = amax.astype(np.float32)
    grow = lambda a: np.repeat(np.repeat(a, rows, 0), columns, 1)  # noqa: E731
    x = (noise * grow(amax) * 0.99).astype(np.float32)
    signs = np.where(np.arange(grid[0] * grid[1]).reshape(grid) // 5 % 2, np.float32(-1), np.float32(1))
    x[rows // 2 :: rows, columns // 3 :: columns] = amax * signs
    return x


def tied(q: Quantizer, shape: tuple[int, int], rows: int, columns: int) -> np.ndarray:
    """Midpoints of the element format and the floats beside them, under scales that are powers of two; max in each block."""
    f = format_of(q.format)
    middle = inputs.midpoints(f)
    middle = middle[np.abs(middle) < f.max]
    x = middle[words(0, 6, 0, 0, shape[0] * shape[1]) % np.uint32(len(middle))].reshape(shape)
    x[::rows, ::columns] = f.max
    with np.errstate(over="ignore"):
        return (x * block_sizes(rows, columns, -6, 6)).astype(np.float32)


def parts(t: QTensor) -> dict[str, Any]:
    """A QTensor as the mapping that other implementations return."""
    scales = t.scales if len(t.scales) > 1 else t.scales[0] if t.scales else None
    return {"codes": t.codes, "scales": scales, "tensor_scale": t.tensor_scale, "zero": t.zero, "residual": t.residual, "aux": t.aux}


@dataclass(frozen=True)
class QuantizerSuite:
    """`run(x [R, C]) -> {codes, scales, tensor_scale} | QTensor | values` against `q`."""

    run: Run
    q: Quantizer
    canonical_nan: bool

    def outcomes(self, examples: int = 0) -> tuple[Outcome, ...]:
        """One per test matrix, and one for `examples` Hypothesis examples where asked."""
        found = [self.compare(name, x) for name, x in (*matrices(self.q), *self.edges())]
        return (*found, self.search(examples)) if examples else tuple(found)

    def edges(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name → [R, C] at the places where the definition's codes and block scales change."""
        rows, columns = block = (min(self.q.blocks.other or 48, 256), min(self.q.blocks.k or 48, 256))
        grid = (8, 6) if rows * columns <= SMALL else (2, 3)
        kinds = [("elements where their code changes", edges.element_edges)]
        if self.q.blocks.other is not None and self.q.blocks.k is not None:
            kinds.append(("blocks where their scale changes", edges.scale_edges))
        for name, make in kinds:
            try:
                sides = list(make(self.define, block, grid))
            except (FormatError, NonFiniteError, ShapeError):  # not defined there; the other classes say what is refused
                continue
            yield from ((f"{name}, {side}", x) for side, x in zip(("below", "above"), sides, strict=True))

    def define(self, x: np.ndarray) -> QTensor:
        """The definition's answer, with the fixed words."""
        return quantize(x, self.q, words=self.words(x.shape))

    def search(self, examples: int) -> Outcome:
        """Hypothesis over mixed matrices of all shapes beside the block's edges, shrunk to the smallest failure."""
        from lpref.conformance import strategies
        from lpref.conformance.searching import search

        return search(strategies.matrices(self.q), lambda x: self.compare("Hypothesis", x), examples)

    def words(self, shape: tuple[int, int]) -> np.ndarray | None:
        """Fixed words of the matrix's shape; None for deterministic roundings."""
        if not is_stochastic(self.q.rounding):
            return None
        r = self.q.word_bits or default_word_bits(format_of(self.q.format).bits)
        return bits(0, 7, 0, 0, shape[0] * shape[1], r).reshape(shape)

    def compare(self, name: str, x: np.ndarray) -> Outcome:
        """Scales first (a wrong scale explains wrong codes), then codes or values."""
        words = self.words(x.shape)
        try:
            want = self.define(x)
        except (FormatError, NonFiniteError):
            return Outcome(name, 0, 0, refused=x.size)
        got = self.run(x.copy()) if words is None else self.run(x.copy(), words=words.copy())
        got = parts(got) if isinstance(got, QTensor) else got
        if not isinstance(got, Mapping):
            return self.values(name, x, np.asarray(got), want)
        problems = list(self.problems(x, got, want))
        failures = sum(count for count, _ in problems)
        return Outcome(name, x.size, failures, 0, problems[0][1] if problems else "")

    def problems(self, x: np.ndarray, got: Mapping[str, Any], want: QTensor) -> Iterator[tuple[int, str]]:
        """(how many differ, the smallest), scales before codes."""
        yield from self.tensor_scale(got, want)
        yield from self.scales(x, got, want)
        yield from self.others(got, want)
        yield from self.codes(x, got, want)
        if want.residual is not None:
            second = got.get("residual")
            second = parts(second) if isinstance(second, QTensor) else second
            if not isinstance(second, Mapping):
                yield want.residual.codes.size, "no second tensor (residual) came back"
                return
            yield from ((count, f"second tensor: {text}") for count, text in self.problems(x, second, want.residual))

    def others(self, got: Mapping[str, Any], want: QTensor) -> Iterator[tuple[int, str]]:
        """Zero points, further levels of scales, and what else decoding needs."""
        levels = got.get("scales")
        theirs = list(levels[1:]) if isinstance(levels, tuple | list) else []
        wanted = {f"scales of level {i}": level for i, level in enumerate(want.scales[1:], 1)}
        found: dict[str, Any] = dict(zip(wanted, theirs, strict=False))
        if want.zero is not None:
            wanted["zero"], found["zero"] = want.zero, got.get("zero")
        for name, value in (want.aux or {}).items():
            wanted[name], found[name] = np.asarray(value), (got.get("aux") or {}).get(name)
        for name, value in wanted.items():
            if found.get(name) is None:
                yield value.size, f"{name}: none came back"
                continue
            mine = np.asarray(found[name])
            if mine.size != value.size:
                raise ShapeError(f"{name} of shape {mine.shape}, the definition has {value.shape}", where="run_suite")
            mine = mine.reshape(value.shape)
            bad = check.differing_values(mine.astype(np.float64), value.astype(np.float64), signed_zero=False)
            if bad.any():
                at = check.first(bad, None)
                yield int(np.count_nonzero(bad)), f"{name}{list(at)}: got {mine[at]!r}, the definition gives {value[at]!r}"

    def values(self, name: str, x: np.ndarray, got: np.ndarray, want: QTensor) -> Outcome:
        """Dequantized values, rounded to the dtype that came."""
        if got.dtype.kind != "f":
            raise DTypeError(f"the quantizer returned {got.dtype}", where="run_suite",
                             remedy="return {codes, scales, tensor_scale}, a QTensor, or values in floating point")  # fmt: skip
        wanted = want.dequantize(got.dtype)
        check.same_shape("values", got, wanted)
        bad = check.differing_values(got, wanted, signed_zero=False)
        at = check.first(bad, x) if bad.any() else ()
        text = (
            f"x{list(at)} = {check.show_input(x[at])}: got {got[at]!r}, the definition gives {wanted[at]!r}"
            if at
            else ""
        )
        return Outcome(name, x.size, int(np.count_nonzero(bad)), 0, text)

    def tensor_scale(self, got: Mapping[str, Any], want: QTensor) -> Iterator[tuple[int, str]]:
        """The second level, bit for bit; one that is 1 may be left out."""
        mine, theirs = np.float32(want.tensor_scale), got.get("tensor_scale")
        theirs = np.float32(1 if theirs is None else np.asarray(theirs).reshape(()))
        if mine.view(np.uint32) != theirs.view(np.uint32) and not (np.isnan(mine) and np.isnan(theirs)):
            yield 1, f"tensor scale: got {check.show_input(theirs)}, the definition gives {check.show_input(mine)}"

    def scales(self, x: np.ndarray, got: Mapping[str, Any], want: QTensor) -> Iterator[tuple[int, str]]:
        """Block scales: unsigned integers are codes of the scale format, floats are values."""
        theirs = got.get("scales")
        theirs = theirs[0] if isinstance(theirs, tuple | list) and len(theirs) == len(want.scales) > 1 else theirs
        if not want.scales or theirs is None:
            if want.scales and want.scale_values().size > 1:
                yield want.scales[0].size, "no block scales came back"
            return
        theirs = np.asarray(theirs)
        coded = theirs.dtype.kind == "u"
        wanted = want.scales[0] if coded else want.scale_values()
        if theirs.size != wanted.size:
            raise ShapeError(f"{theirs.shape} scales, the definition has {wanted.shape}", where="run_suite")
        theirs = theirs.reshape(wanted.shape)
        as_values = want.scale_values()
        bad = theirs != wanted if coded else check.differing_values(theirs, wanted, signed_zero=False)
        if bad.any():
            i, j = check.first(bad, None)
            shown = f"code {int(theirs[i, j]):#x}" if coded else repr(float(theirs[i, j]))
            wants = f"code {int(wanted[i, j]):#x}, " if coded else ""
            (br, bc) = want.block
            amax = np.max(np.abs(x[i * br : (i + 1) * br, j * bc : (j + 1) * bc]))
            yield (
                int(np.count_nonzero(bad)),
                f"scale of block [{i}, {j}]: got {shown}, the definition gives {wants}{float(as_values[i, j])!r}; amax {check.show_input(amax)}",
            )

    def codes(self, x: np.ndarray, got: Mapping[str, Any], want: QTensor) -> Iterator[tuple[int, str]]:
        """Element codes, packed or one an element."""
        f = format_of(self.q.format)
        theirs = np.asarray(got["codes"])
        if theirs.dtype.kind != "u":
            raise DTypeError(
                f"codes are {theirs.dtype}, not unsigned integers", where="run_suite", remedy="view them as unsigned"
            )
        if theirs.shape != x.shape:
            if theirs.shape != (x.shape[0], row_bytes(x.shape[1], f.bits)):
                raise ShapeError(f"codes of shape {theirs.shape} for x of shape {x.shape}", where="run_suite")
            theirs = unpack(theirs, f.bits, x.shape[1])
        expected = want.unpacked()
        bad = check.differing_codes(theirs, expected, f, self.canonical_nan)
        if bad.any():
            at = check.first(bad, x)
            blocks = want.block
            scale = (
                float(want.scale_values()[tuple(a // b for a, b in zip(at, blocks, strict=True))])
                if want.scales
                else 1.0
            )
            yield (
                int(np.count_nonzero(bad)),
                (
                    f"x{list(at)} = {check.show_input(x[at])}, block scale {scale!r}, tensor scale {float(want.tensor_scale)!r}: "
                    f"got {check.show_code(f, theirs[at])}, the definition gives {check.show_code(f, expected[at])}"
                ),
            )

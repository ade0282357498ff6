"""Comparing a block quantizer with its definition: block by block, scales first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.conformance import check
from lpref.conformance.diff.block_results import CLASSES, RESULTS, Blocks, of_qtensor, results_of, spread
from lpref.conformance.diff.cast import taken_notes
from lpref.conformance.diff.known import Known, about
from lpref.conformance.diff.models import MODELS
from lpref.conformance.diff.numberline import bits_of, place
from lpref.conformance.diff.report import UNEXPLAINED, CaseReport, Cell, Example
from lpref.conformance.diff.shrink import shrink_matrix
from lpref.conformance.diff.trace import trace_block
from lpref.conformance.quantizers import matrices
from lpref.conformance.targets.base import QuantizeCase, TargetAnswer, TargetError
from lpref.conformance.targets.client import Session
from lpref.ref.errors import FormatError, LprefError, NonFiniteError
from lpref.ref.formats import format as format_of
from lpref.ref.quantize import QTensor, Quantizer, quantize
from lpref.ref.quantize.packing import row_bytes, unpack
from lpref.ref.quantize.registry import lookup
from lpref.ref.random import bits
from lpref.ref.rounding import default_word_bits, is_stochastic


class BlockComparison:
    """One case of one target."""

    def __init__(self, session: Session, version: str, case: QuantizeCase) -> None:
        self.session, self.version, self.case = session, version, case
        self.q = lookup(case.quantizer)
        self.f = format_of(self.q.format)
        self.entries = about(session.spec, version, case)

    def words(self, shape: tuple[int, int]) -> np.ndarray | None:
        """Fixed words; None for deterministic roundings."""
        if not is_stochastic(self.q.rounding):
            return None
        r = self.q.word_bits or default_word_bits(self.f.bits)
        return bits(0, 11, 0, 0, shape[0] * shape[1], r).reshape(shape)

    def definition(self, x: np.ndarray, quantizer: Quantizer | str | None = None) -> Blocks:
        """What the definition gives."""
        return of_qtensor(quantize(x, quantizer or self.q, words=self.words(x.shape)))

    def ask(self, x: np.ndarray) -> Blocks:
        """What the target gives, in the same terms."""
        arrays = {"x": x}
        words = self.words(x.shape)
        if words is not None:
            arrays["words"] = words
        got = self.session.ask(self.case, arrays)
        if "codes" not in got:
            return Blocks(got["values"].astype(np.float64))
        if self.case.layout != "linear":
            given = {"tensor_scale": np.ones((), np.float32), **got}
            return of_qtensor(QTensor.from_layout(self.case.layout, given, self.q, x.shape))
        return self.assembled(x, got)

    def assembled(self, x: np.ndarray, got: Mapping[str, np.ndarray]) -> Blocks:
        """Codes (packed or one an element) and scales (codes or values) as a QTensor would hold them."""
        codes = got["codes"]
        packed = (x.shape[0], row_bytes(x.shape[1], self.f.bits))
        if codes.shape == packed and packed != x.shape:
            codes = unpack(codes, self.f.bits, x.shape[1])
        if codes.shape != x.shape:
            raise TargetAnswer(f"codes have shape {list(codes.shape)}, not {list(x.shape)} or, packed, {list(packed)}", where=self.session.spec)
        grid, sf = self.q.blocks.grid(x.shape, 1), self.q.scale.format
        scales = got.get("scales", np.ones(grid, np.float32))
        if scales.size != grid[0] * grid[1]:
            raise TargetAnswer(f"scales have shape {list(scales.shape)}, not {list(grid)}", where=self.session.spec)
        scales = scales.reshape(grid)
        if scales.dtype.kind == "u":
            scales = scales.view(np.float32) if sf == "float32" else format_of(sf).decode(scales)
        scales = scales.astype(np.float64)
        tensor = float(got["tensor_scale"].reshape(())) if "tensor_scale" in got else 1.0
        values = self.f.decode(np.where(codes < 2**self.f.bits, codes, 0).astype(np.uint64))
        with np.errstate(invalid="ignore", over="ignore"):
            return Blocks(values * spread(scales, x.shape, self.q.blocks.on(x.shape, 1)) * tensor, scales, codes, tensor)

    def label(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every block (class, result, label): label -1 same, 0 unexplained, i + 1 explained by entry i."""
        want, got = self.definition(x), self.ask(x)
        block = self.q.blocks.on(x.shape, 1)
        results = results_of(got, want, block)
        classes = self.classify(x, want, block)
        label = np.where(results < 0, -1, 0)
        names, kinds = list(CLASSES), list(RESULTS)
        for i, entry in enumerate(self.entries):
            at = label == 0
            if entry.classes:
                at = at & np.isin(classes, [names.index(c) for c in entry.classes])
            if at.any():
                if "result" in entry.becomes:
                    at = at & np.isin(results, [kinds.index(r) for r in entry.becomes["result"]])
                else:
                    other = self.alternative(entry.becomes, x, want)
                    at = at & (results_of(got, other, block) < 0)
                label[at] = i + 1
        return classes, results, label

    def alternative(self, becomes: Mapping[str, Any], x: np.ndarray, want: Blocks) -> Blocks:
        """The blocks under an entry's alternative definition."""
        if "values" in becomes:
            return Blocks(np.full(x.shape, np.nan if becomes["values"] == "nan" else 0.0))
        if "scale_code" in becomes:
            return self.under_scale(x, int(becomes["scale_code"]), becomes)
        if "model" in becomes:
            return Blocks(**MODELS[becomes["model"]](x, self.q))
        named = str(becomes.get("quantizer", self.case.quantizer))
        via = becomes.get("via")
        given = x if via is None else format_of(via).round(x)
        return self.definition(given, lookup(named))

    def under_scale(self, x: np.ndarray, code: int, becomes: Mapping[str, Any]) -> Blocks:
        """Every block under one scale code; elements by the format's own conversion, with the entry's rounding and overflow."""
        scale = float(format_of(self.q.scale.format).decode(np.array([code]))[0])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            u = np.where(np.isnan(scale), np.float32(0), x / np.float32(scale)) * np.float32(self.q.scale.multiplier)
        codes = self.f.encode(u.astype(np.float32), becomes.get("rounding", self.q.rounding), becomes.get("overflow", self.q.overflow))
        grid = self.q.blocks.grid(x.shape, 1)
        return Blocks(self.f.decode(codes) * scale, np.full(grid, scale), codes)

    def classify(self, x: np.ndarray, want: Blocks, block: tuple[int, int]) -> np.ndarray:
        """The class of every block."""
        names = list(CLASSES)
        grid = self.q.blocks.grid(x.shape, 1)
        out = np.full(grid, names.index("others"), np.int8)
        target = float(self.q.scale.target or self.f.max)
        top = np.frexp(target)[0]
        top_of_all = np.max(np.abs(x)) if x.size else np.float32(0)
        spoilt = self.q.scale.rule == "nvfp4" and not (top_of_all == 0 or 8e-36 <= top_of_all < np.inf)
        for i, j in np.ndindex(*grid):
            part = x[i * block[0] : (i + 1) * block[0], j * block[1] : (j + 1) * block[1]]
            amax = np.max(np.abs(part)) if part.size else np.float32(0)
            fraction = np.frexp(amax)[0]
            if np.isnan(amax):
                name = "NaN"
            elif np.isinf(amax):
                name = "infinity"
            elif spoilt:
                name = "tensor out of range"
            elif amax == 0:
                name = "zeros"
            elif want.scales is not None and self.at_end(float(want.scales[i, j])):
                name = "scale at its end"
            elif fraction >= 1 - 2.0**-23:
                name = "just below 2^k"
            elif fraction > top:
                name = "above max"
            else:
                continue
            out[i, j] = names.index(name)
        return out

    def at_end(self, scale: float) -> bool:
        """Whether a block scale is the first or the last of its format."""
        sf = format_of(self.q.scale.format)
        return bool(scale <= max(sf.min_subnormal, 2.0**-149) or scale >= sf.max)

    def report(self, trace: bool = False) -> CaseReport:
        """The matrix over all test matrices, and the simplest block of every difference."""
        same: dict[str, int] = {}
        cells: dict[tuple[str, str, str], int] = {}
        first: dict[int, np.ndarray] = {}
        refused = 0
        examples = []
        try:
            for _, x in matrices(self.q):
                try:
                    self.definition(x)
                except (FormatError, NonFiniteError):
                    refused += int(np.prod(self.q.blocks.grid(x.shape, 1)))
                    continue
                classes, results, label = self.label(x)
                for c, r, l in zip(classes.flat, results.flat, label.flat, strict=True):
                    name = list(CLASSES)[c]
                    if l < 0:
                        same[name] = same.get(name, 0) + 1
                        continue
                    key = name, list(RESULTS)[r], self.entries[l - 1].id if l else UNEXPLAINED
                    same.setdefault(name, 0)
                    cells[key] = cells.get(key, 0) + 1
                    first.setdefault(int(l), x)
            for which in sorted(first):
                examples.append(self.example(self.shrink(first[which], which), which, trace))
        except TargetError as error:
            return CaseReport(self.session.spec, self.version, self.case, error=(error.kind, str(error)), notes=taken_notes(self.session))
        table = tuple(Cell(c, r, n, k) for (c, r, k), n in cells.items())
        used = tuple(e for i, e in enumerate(self.entries) if i + 1 in first)
        ordered = {c: same[c] for c in CLASSES if c in same}
        return CaseReport(self.session.spec, self.version, self.case, ordered, table, refused, tuple(examples), used, None,
                          taken_notes(self.session), self.session.seconds)  # fmt: skip

    def shrink(self, x: np.ndarray, which: int) -> np.ndarray:
        """One block with few elements that still differs in the same way."""
        label = self.label(x)[2]
        i, j = (int(v) for v in np.argwhere(label == which)[0])
        block = self.q.blocks.on(x.shape, 1)

        def fails(tried: np.ndarray) -> bool:
            try:
                return bool((self.label(tried)[2] == which).any())
            except LprefError:
                return False

        return shrink_matrix(x, block, (i * block[0], j * block[1]), fails)

    def example(self, x: np.ndarray, which: int, trace: bool) -> Example:
        """Everything about the first block of x with that label, and its first element that differs."""
        entry: Known | None = self.entries[which - 1] if which else None
        want, got = self.definition(x), self.ask(x)
        _, results, label = self.label(x)
        block = self.q.blocks.on(x.shape, 1)
        i, j = (int(v) for v in np.argwhere(label == which)[0])
        rows, columns = slice(i * block[0], (i + 1) * block[0]), slice(j * block[1], (j + 1) * block[1])
        part = x[rows, columns]
        bad = check.differing_values(got.values[rows, columns], want.values[rows, columns], signed_zero=False)
        if got.codes is not None and want.codes is not None and not bad.any():
            bad = got.codes[rows, columns] != want.codes[rows, columns]
        bad = bad if bad.any() else part != 0
        at = check.first(bad, part) if bad.any() else (0, 0)
        e = (rows.start + at[0], columns.start + at[1])
        amax = np.max(np.abs(part))
        scale = float(want.scales[i, j]) if want.scales is not None else 1.0
        theirs = "" if got.scales is None else f"scale {float(got.scales[i, j])!r}, "
        u = float(x[e]) / (scale * want.tensor_scale) if scale and want.tensor_scale else 0.0
        lines = [
            f"block of {part.size} elements, {int(np.count_nonzero(part))} not zero, amax = {float(amax)!r} = {float(amax).hex()}",
            f"x[{e[0]}, {e[1]}] = {float(x[e])!r} = {float(x[e]).hex()} = 0b{bits_of(x[e])}",
            f"got {theirs}{self.shown(got, e)}, the definition gives scale {scale!r}, {self.shown(want, e)}",
            f"x / scale: {place(u, self.f, 0.0)}" if np.isfinite(u) else "x / scale is not finite",
        ]
        data = {
            "block": [[float(v).hex() for v in row] for row in part] if part.size <= 512 else [], "amax": float(amax), "x": float(x[e]),
            "x_hex": float(x[e]).hex(), "got": float(got.values[e]), "expected": float(want.values[e]), "expected_scale": scale,
            "got_scale": None if got.scales is None else float(got.scales[i, j]), "result": list(RESULTS)[results[i, j]],
        }  # fmt: skip
        traced = trace_block(self.case, self.q, part, at, want, got, (i, j), e) if trace else ()
        return Example(entry.id if entry else UNEXPLAINED, tuple(lines), data, traced)

    def shown(self, b: Blocks, at: tuple[int, int]) -> str:
        """Code and value of an element."""
        value = repr(float(b.values[at]))
        return value if b.codes is None else f"code {check.show_code(self.f, b.codes[at])}, value {value}"


def compare_blocks(session: Session, version: str, case: QuantizeCase, trace: bool = False) -> CaseReport:
    """The report of one quantizer."""
    return BlockComparison(session, version, case).report(trace)

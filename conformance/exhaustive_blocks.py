"""The exhaustive prover of block quantizers, by factorisation: every float32 amax -> scale code, then every (scale code, bfloat16) -> code.

    proof = prove_block("cpu", "mxfp4")                # every amax: minutes; budget= stops earlier, resume= goes on
    proof = prove_block(my_quantizer, "nvfp4", all_amax=False)      # borders ± 2, all exponents × 2^12 significands

A block of the first part is zero but for its amax, whose place and sign change from block to block. In the second part every block holds the
smallest or the largest amax of its scale code and bfloat16 elements, all that do not exceed it. NVFP4 is proved under one tensor amax.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpref.conformance import check, state, stratified
from lpref.conformance.block_definition import BlockDefinition, block_definition
from lpref.conformance.intervals import ANY_NAN, INFINITY
from lpref.conformance.progress import Progress, to_stderr
from lpref.conformance.proof import BlockProof
from lpref.conformance.targets.base import QuantizeCase, Target, TargetRefused
from lpref.ref.errors import ShapeError, UnknownNameError
from lpref.ref.quantize import QTensor
from lpref.ref.quantize.packing import row_bytes, unpack
from lpref.specs import quantizer as quantizer_of

AMAX = 1 << 31
ROWS = 1 << 15
SAVE_EVERY = 5.0

Ask = Callable[[np.ndarray], Mapping[str, Any]]


def prove_block(
    target: Any,
    quantizer: str,
    *,
    tensor_amax: float = 2688.0,
    all_amax: bool = True,
    budget: float | None = None,
    resume: str | Path | None = None,
    progress: Callable[[Progress], None] | None = to_stderr,
) -> BlockProof:
    """Compare scale codes and element codes with the definition.

    target      a Target, "cpu", "reference", or a callable f(x [R, k], amax) -> {codes, scales} or QTensor, amax the tensor's or None
    quantizer   an MX or NVFP4 quantizer in rows, deterministic
    budget      minutes for the first part; resume: its state file

    Raises: SpecError for other quantizers or another state; ShapeError for an answer of the wrong shape; what the target raises.
    """
    q = quantizer_of(quantizer)
    d = block_definition(q, tensor_amax)
    amax = tensor_amax if q.scale.rule == "nvfp4" else None
    name, version, ask = _asking(target, quantizer, amax)
    run = _Run(ask, d, q.blocks.k or 0)
    start = time.perf_counter()
    pairs = run.pairs()
    found_in_pairs = run.failures
    points = None if all_amax else stratified_amax(d)
    total = AMAX if points is None else points.size
    what = {"target": name, "version": version, "case": {"quantizer": quantizer, "tensor_amax": amax}, "words": [], "definition": "amax"}
    saved = state.load(None if resume is None else Path(resume), what)
    done, kept, spoke = int(saved["done"]), start, start
    run.failures, run.first = run.failures + int(saved["failures"]), str(saved["first"] or run.first)
    tell = progress or (lambda _: None)
    begun, began = done, time.perf_counter()
    while done < total and (budget is None or time.perf_counter() - began <= 60 * budget):
        stop = min(done + ROWS, total)
        run.scales(np.arange(done, stop, dtype=np.uint32) if points is None else points[done:stop])
        done, now = stop, time.perf_counter()
        rate = (done - begun) / max(now - began, 1e-9)
        if begun + ROWS == done or now - spoke > 1:
            tell(Progress(name, quantizer, done, total, now - began, rate, estimate=begun + ROWS == done))
            spoke = now
        if resume is not None and now - kept > SAVE_EVERY:
            run.save(Path(resume), what, done, now - start, found_in_pairs)
            kept = now
    if resume is not None:
        run.save(Path(resume), what, done, time.perf_counter() - start, found_in_pairs)
    mode = "all" if points is None else "stratified"
    seconds = time.perf_counter() - start
    return BlockProof(name, version, quantizer, amax, mode, done, total, pairs, run.failures, run.first, seconds)


def stratified_amax(d: BlockDefinition) -> np.ndarray:
    """Borders ± 2, all exponents × 2^12 significands, specials; magnitude patterns."""
    around = (d.starts[:, None] + np.arange(-2, 3)).reshape(-1)
    inside = around[(around >= 0) & (around < AMAX)].astype(np.uint32)
    grid = stratified.grid()
    return np.unique(np.concatenate([inside, grid[grid < AMAX], stratified.specials()[:6].astype(np.uint32)]))


def _asking(target: Any, quantizer: str, amax: float | None) -> tuple[str, str, Ask]:
    given = None if amax is None else np.float32(amax)
    if isinstance(target, Target):
        case = QuantizeCase(quantizer)
        refusal = target.available or target.refuses(case)
        if refusal:
            raise TargetRefused(refusal, where=target.name)
        return target.name, target.version, lambda x: _plain(target.quantize(x, case, amax=None if given is None else np.asarray(given)))
    if not isinstance(target, str):
        return getattr(target, "__qualname__", type(target).__name__), "", lambda x: _plain(target(x, given))
    if target not in ("cpu", "reference"):
        raise UnknownNameError("backend", target, ("cpu", "reference"), where="prove_block")
    from lpref import __version__
    from lpref.accel import quantize

    return target, __version__, lambda x: _plain(quantize(x, quantizer, amax=given, backend=target))


def _plain(answer: Any) -> Mapping[str, Any]:
    return {"codes": answer.codes, "scales": answer.scales[0]} if isinstance(answer, QTensor) else answer


@dataclass
class _Run:
    ask: Ask
    d: BlockDefinition
    k: int
    failures: int = 0
    first: str = ""

    def answer(self, x: np.ndarray, packed: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(codes, one an element, or as they came if `packed`; scale codes, one a row)."""
        got = self.ask(x)
        codes, scales = np.asarray(got["codes"]), np.asarray(got["scales"]).reshape(-1)
        bits = self.d.elements.format.bits
        if codes.shape == (x.shape[0], row_bytes(x.shape[1], bits)) and codes.shape != x.shape and not packed:
            codes = unpack(codes, bits, x.shape[1])
        if (codes.shape != x.shape and not packed) or scales.size != x.shape[0]:
            raise ShapeError(f"codes {codes.shape} and {scales.size} scales for x of shape {x.shape}", where="prove_block")
        return codes, scales

    def scales(self, patterns: np.ndarray) -> None:
        """Scale codes of these amax."""
        rows = np.arange(patterns.size)
        x = np.zeros((patterns.size, self.k), np.float32)
        x[rows, patterns % np.uint32(self.k)] = (patterns | (patterns >> np.uint32(3)) << np.uint32(31)).view(np.float32)
        _, got = self.answer(x, packed=True)
        want = self.d.scale_codes(patterns)
        self.note(
            self.wrong_scales(got, want),
            lambda i: f"amax {check.show_input(patterns[i].view(np.float32))}: scale code {int(got[i]):#x}, "
            f"the definition gives {hex(int(want[i])) if want[i] != ANY_NAN else 'NaN'}",
        )

    def wrong_scales(self, got: np.ndarray, want: np.ndarray) -> np.ndarray:
        nan = (255,) if self.d.quantizer.scale.rule == "mx" else (0x7F, 0xFF)
        bad: np.ndarray = np.where(want == ANY_NAN, ~np.isin(got, nan), got != want)
        return bad

    def pairs(self) -> int:
        """Every scale code with every bfloat16 element; how many pairs."""
        tried = 0
        for code, x in self.blocks():
            codes, scales = self.answer(x)
            self.compare_pairs(code, x.reshape(-1), codes.reshape(-1), scales)
            tried += x.shape[0] * (self.k - 1)
        return tried

    def compare_pairs(self, code: int, x: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> None:
        """The blocks of one scale code, flat."""
        f = self.d.elements.format
        want = self.d.element_codes(x, code)
        wrong = self.wrong_scales(scales, np.full(scales.shape, code))
        self.note(wrong, lambda i: f"amax {check.show_input(x[0])} among other elements: scale code {int(scales[i]):#x}, not {code:#x}")
        self.note(
            codes.astype(np.int64) != want,
            lambda i: f"scale code {code:#x}, element {check.show_input(x[i])}: {check.show_code(f, codes[i])}, "
            f"the definition gives {check.show_code(f, want[i])}",
        )

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """(scale code, blocks [n, k] that have it): amax first, then bfloat16 elements."""
        every = (np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)).view(np.float32)
        for j, code in enumerate(self.d.codes.tolist()):
            if code == ANY_NAN or self.d.starts[j] >= INFINITY:
                continue
            for pattern in sorted({int(self.d.starts[j]), int(min(self.d.starts[j + 1], INFINITY)) - 1}):
                amax = np.uint32(pattern).view(np.float32)
                elements = every[np.abs(every) <= amax]
                rows = -(-elements.size // (self.k - 1))
                x = np.zeros((rows, self.k), np.float32)
                x[:, 0] = amax
                x[:, 1:] = np.resize(elements, (rows, self.k - 1))
                yield code, x

    def save(self, path: Path, what: dict[str, Any], done: int, seconds: float, found_in_pairs: int) -> None:
        """The first part's state; the pairs are tried again in every call."""
        failures = self.failures - found_in_pairs
        state.save(path, what, {"done": done, "seconds": seconds, "failures": failures, "first": self.first if failures else None})

    def note(self, bad: np.ndarray, text: Callable[[int], str]) -> None:
        """Count failures, describe the first."""
        if bad.any():
            self.failures += int(np.count_nonzero(bad))
            self.first = self.first or text(int(np.flatnonzero(bad)[0]))

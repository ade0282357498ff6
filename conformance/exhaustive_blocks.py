"""The exhaustive prover of block quantizers, by factorisation: every float32 amax -> scale code, then every (scale code, bfloat16) -> code.

    proof = prove_block("cpu", "mxfp4")                # every amax: minutes; budget= stops earlier, resume= goes on
    proof = prove_block(my_quantizer, "nvfp4", all_amax=False)      # borders ± 2, all exponents × 2^12 significands

A block of amax is zero but for it; its place and sign change from block to block. Among the pairs every block holds the smallest or the largest
amax of its scale code and bfloat16 elements, all that do not exceed it. NVFP4 is proved under one tensor amax. First come the stratified
amax and the pairs; every amax only where those pass, and where the target is not slow (`lpref.conformance.exhaustive.SLOW` elements a second).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lpref.conformance import check, state, stratified
from lpref.conformance.block_definition import BlockDefinition, block_definition
from lpref.conformance.exhaustive import SLOW
from lpref.conformance.intervals import ANY_NAN, INFINITY
from lpref.conformance.progress import Progress, to_stderr
from lpref.conformance.proof import BlockProof
from lpref.conformance.targets.base import QuantizeCase, Target, TargetRefused
from lpref.ref.errors import FormatError, ShapeError, UnknownNameError
from lpref.ref.quantize import QTensor
from lpref.ref.quantize.packing import row_bytes, unpack
from lpref.specs import quantizer as quantizer_of

AMAX = 1 << 31
ROWS = 1 << 15
SAVE_EVERY = 5.0
EXAMPLES = 64
"""How many failures are kept, at most one a step."""
EVERY_BFLOAT16 = (np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)).view(np.float32)

Ask = Callable[[np.ndarray], Mapping[str, Any]]


def prove_block(
    target: Any,
    quantizer: str,
    *,
    tensor_amax: float = 2688.0,
    all_amax: bool | None = None,
    budget: float | None = None,
    resume: str | Path | None = None,
    progress: Callable[[Progress], None] | None = to_stderr,
) -> BlockProof:
    """Compare scale codes and element codes with the definition.

    target      a Target, "cpu", "reference", or a callable f(x [R, k], amax) -> {codes, scales} or QTensor, amax the tensor's or None
    quantizer   an MX or NVFP4 quantizer in rows, deterministic
    all_amax    True or False overrides what the target's speed decides
    budget      minutes; what is not reached stays untried, `complete` is false
    resume      a state file of the pass over every amax: written every few seconds, read if it exists
    progress    called with a `Progress`, in elements: first the estimate, then about every second; None: silent

    Raises: SpecError for other quantizers or another state; ShapeError and FormatError for an answer of another kind; what the target raises.
    """
    q = quantizer_of(quantizer)
    d = block_definition(q, tensor_amax)
    amax = tensor_amax if q.scale.rule == "nvfp4" else None
    name, version, ask = _asking(target, quantizer, amax)
    run = _Run(ask, d, q.blocks.k or 0, name, quantizer, time.perf_counter(), None if budget is None else 60 * budget, progress or (lambda _: None))
    path = None if resume is None else Path(resume)
    case = {"quantizer": quantizer, "tensor_amax": amax}
    what = {"target": name, "version": version, "case": case, "words": [], "definition": "amax, with examples"}
    saved = state.load(path, what)
    rate = run.measure()
    everything = bool(saved["done"]) or (rate >= SLOW if all_amax is None else all_amax)
    points = stratified_amax(d)
    total_pairs = sum(size for _, _, size in run.steps())

    def proof(mode: str, tried: int, total: int, pairs: int, note: str = "") -> BlockProof:
        seconds = float(saved["seconds"]) + time.perf_counter() - run.started
        return BlockProof(name, version, quantizer, amax, mode, tried, total, pairs, total_pairs, run.failures, tuple(run.examples), seconds, note)

    def keep(counts: dict[str, Any]) -> None:
        if path is not None:
            state.save(path, what, counts)

    if not saved["done"]:  # else they passed before
        run.estimate(AMAX if everything else points.size, total_pairs, rate)
        tried = run.amax(points.size, points)
        pairs = run.pairs()
        slow = "" if everything else f"{rate / 1e6:.1f} Melem/s: every amax would take {AMAX * run.k / rate / 60:.0f} min"
        if run.failures or not everything or tried < points.size or pairs < total_pairs:
            return proof("stratified", tried, points.size, pairs, slow or "stopped at the stratified amax and the pairs, which come first")
    done = run.amax(AMAX, None, saved, keep)
    return proof("all", done, AMAX, total_pairs)


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
    """One call of `prove_block`."""

    ask: Ask
    d: BlockDefinition
    k: int
    name: str
    case: str
    started: float
    budget: float | None
    tell: Callable[[Progress], None]
    rate: float = 0.0  # elements a second
    failures: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def spent(self) -> bool:
        return self.budget is not None and time.perf_counter() - self.started > self.budget

    def measure(self) -> float:
        """The target's own elements per second, after a first call that may compile."""
        rows = 64
        while True:
            x = self.amax_blocks(np.arange(rows, dtype=np.uint32) * np.uint32(0x7F800000 // rows))
            seconds = []
            for _ in range(2):
                start = time.perf_counter()
                self.ask(x)
                seconds.append(max(time.perf_counter() - start, 1e-7))
            self.rate = x.size / min(seconds)
            if rows >= ROWS or seconds[1] > 0.05:
                return self.rate
            rows *= 8

    def estimate(self, amax: int, pairs: int, rate: float) -> None:
        """The first word: how long it will take."""
        self.tell(Progress(self.name, self.case, 0, amax * self.k + pairs, 0.0, rate, estimate=True))

    def answer(self, x: np.ndarray, packed: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(codes, one an element, or as they came if `packed`; scale codes, one a row).

        Raises: FormatError where the answer is not codes, ShapeError for another number of them.
        """
        got = self.ask(x)
        kinds = [np.asarray(got[key]).dtype.kind if isinstance(got, Mapping) and key in got else "" for key in ("codes", "scales")]
        if kinds != ["u", "u"]:
            raise FormatError("the answer is not codes and scale codes, as unsigned integers", where="prove_block",
                              remedy="a proof compares codes: return {codes, scales}")  # fmt: skip
        codes, scales = np.asarray(got["codes"]), np.asarray(got["scales"]).reshape(-1)
        bits = self.d.elements.format.bits
        if codes.shape == (x.shape[0], row_bytes(x.shape[1], bits)) and codes.shape != x.shape and not packed:
            codes = unpack(codes, bits, x.shape[1])
        if (codes.shape != x.shape and not packed) or scales.size != x.shape[0]:
            raise ShapeError(f"codes {codes.shape} and {scales.size} scales for x of shape {x.shape}", where="prove_block")
        return codes, scales

    def amax_blocks(self, patterns: np.ndarray) -> np.ndarray:
        """A block for each amax: zero but for it."""
        x = np.zeros((patterns.size, self.k), np.float32)
        at = patterns % np.uint32(self.k)
        x[np.arange(patterns.size), at] = (patterns | (patterns >> np.uint32(3)) << np.uint32(31)).view(np.float32)
        return x

    def amax(
        self, total: int, points: np.ndarray | None, saved: Mapping[str, Any] | None = None, keep: Callable[[dict[str, Any]], None] = lambda _: None
    ) -> int:
        """The scale codes of `points`, or of every amax from where `saved` stopped; how many were tried."""
        saved = saved or state.FRESH
        done = begun = int(saved["done"])
        self.failures, self.examples = self.failures + int(saved["failures"]), [*self.examples, *(saved["first"] or ())]
        start = saved_at = spoke = time.perf_counter()
        rows = int(min(ROWS, max(256, self.rate / self.k)))  # a second at the most

        def counts() -> dict[str, Any]:
            seconds = float(saved["seconds"]) + time.perf_counter() - self.started
            return {"done": done, "seconds": seconds, "failures": self.failures, "first": self.examples or None}

        while done < total and not self.spent():
            stop = min(done + rows, total)
            self.scales(np.arange(done, stop, dtype=np.uint32) if points is None else points[done:stop])
            done, now = stop, time.perf_counter()
            if now - spoke > 1:
                pace = (done - begun) * self.k / (now - start)
                self.tell(Progress(self.name, self.case, done * self.k, total * self.k, now - start, pace))
                spoke = now
            if now - saved_at > SAVE_EVERY:
                keep(counts())
                saved_at = now
        keep(counts())
        return done

    def scales(self, patterns: np.ndarray) -> None:
        """Scale codes of these amax."""
        x = self.amax_blocks(patterns)
        _, got = self.answer(x, packed=True)
        want = self.d.scale_codes(patterns)

        def text(i: int) -> str:
            wanted = hex(int(want[i])) if want[i] != ANY_NAN else "NaN"
            return f"amax {check.show_input(patterns[i].view(np.float32))}: scale code {int(got[i]):#x}, the definition gives {wanted}"

        self.note("scale", self.wrong_scales(got, want), x, text)

    def wrong_scales(self, got: np.ndarray, want: np.ndarray) -> np.ndarray:
        nan = (255,) if self.d.quantizer.scale.rule == "mx" else (0x7F, 0xFF)
        bad: np.ndarray = np.where(want == ANY_NAN, ~np.isin(got, nan), got != want)
        return bad

    def pairs(self) -> int:
        """Every scale code with every bfloat16 element; how many pairs."""
        tried = 0
        for code, pattern, size in self.steps():
            if self.spent():
                break
            x = self.pair_blocks(pattern)
            codes, scales = self.answer(x)
            self.compare_pairs(code, x, codes.reshape(-1), scales)
            tried += size
        return tried

    def compare_pairs(self, code: int, x: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> None:
        """The blocks of one scale code; codes flat."""
        f, flat = self.d.elements.format, x.reshape(-1)
        want = self.d.element_codes(flat, code)
        wrong = self.wrong_scales(scales, np.full(scales.shape, code))
        self.note(
            "scale", wrong, x, lambda i: f"amax {check.show_input(x[i, 0])} among other elements: scale code {int(scales[i]):#x}, not {code:#x}"
        )
        self.note("element", codes.astype(np.int64) != want, x, lambda i: (
            f"scale code {code:#x}, element {check.show_input(flat[i])}: {check.show_code(f, codes[i])}, "
            f"the definition gives {check.show_code(f, want[i])}"
        ))  # fmt: skip

    def steps(self) -> Iterator[tuple[int, int, int]]:
        """(scale code, the pattern of an amax that has it, how many bfloat16 elements go with it): the smallest and the largest amax of each code."""
        for j, code in enumerate(self.d.codes.tolist()):
            if code == ANY_NAN or self.d.starts[j] >= INFINITY:
                continue
            for pattern in sorted({int(self.d.starts[j]), int(min(self.d.starts[j + 1], INFINITY)) - 1}):
                yield code, pattern, 2 * ((pattern >> 16) + 1)

    def pair_blocks(self, pattern: int) -> np.ndarray:
        """Blocks [n, k]: this amax first, then all bfloat16 elements that do not exceed it, the first ones again to fill the last block."""
        amax = np.uint32(pattern).view(np.float32)
        elements = EVERY_BFLOAT16[np.abs(EVERY_BFLOAT16) <= amax]
        x = np.empty((-(-elements.size // (self.k - 1)), self.k), np.float32)
        x[:, 0] = amax
        x[:, 1:] = np.resize(elements, (x.shape[0], self.k - 1))
        return x

    def note(self, part: str, bad: np.ndarray, x: np.ndarray, text: Callable[[int], str]) -> None:
        """Count failures; keep the first of them, with its block."""
        if bad.any():
            self.failures += int(np.count_nonzero(bad))
            if len(self.examples) < EXAMPLES:
                i = int(np.flatnonzero(bad)[0])
                block = x[i * x.shape[0] // bad.size]
                self.examples.append({"part": part, "text": text(i), "block": [float(v).hex() for v in block]})

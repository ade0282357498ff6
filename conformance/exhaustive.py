"""The exhaustive prover: a cast's codes for all 2^32 float32 inputs, against the definition.

The definition is a list of intervals (`lpref.conformance.intervals`), so a chunk of consecutive patterns is compared with a handful of
constant runs; nearly all the time is the target's own. First comes the stratified set, which finds most mistakes in a second; targets of
less than 20 Melem/s get only that, and the proof says so.

    from lpref.conformance import exhaustive
    python -m lpref.conformance.exhaustive e4m3 e5m2             # the CPU backend, without Python of your own
    proof = exhaustive.prove("cpu", "e4m3")                      # 2^32 inputs, some ten seconds
    proof = exhaustive.prove(my_cast, "e4m3", budget=5, resume="e4m3.state.json")

NaN inputs are one class: any NaN code will do. Inputs that the definition refuses (NaN in a format without one) are left out and counted.
Stochastic roundings: the same for every word of `words`, one pass each, all elements of a pass under the same word.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lpref.conformance import check, state, stratified
from lpref.conformance.answers import Ask, asking
from lpref.conformance.intervals import ANY_NAN, PATTERNS, REFUSED, Intervals, intervals
from lpref.conformance.progress import Progress, to_stderr
from lpref.conformance.proof import Proof
from lpref.conformance.run_kernel import runs_hold
from lpref.conformance.targets.base import CastCase
from lpref.ref.errors import FormatError
from lpref.ref.formats import format as format_of
from lpref.ref.rounding import default_word_bits, is_stochastic

CHUNK = 1 << 20
SLOW = 20e6
"""Elements per second below which a target is given the stratified set only: 2^32 would take over three and a half minutes."""
SAVE_EVERY = 5.0  # seconds
EXAMPLES = 64
"""How many counter-examples are kept."""


def prove(
    target: Any,
    case: CastCase | str,
    *,
    budget: float | None = None,
    resume: str | Path | None = None,
    progress: Callable[[Progress], None] | None = to_stderr,
    words: Sequence[int] | None = None,
    all_inputs: bool | None = None,
) -> Proof:
    """Compare a cast with the definition on all 2^32 float32 inputs, or on the stratified set where the target is slow.

    target      a Target, a callable f(x) or f(x, words) -> codes or values, "cpu" or "reference"
    case        a CastCase, or a format's name
    budget      minutes; what is not reached stays untried, `complete` is false and the state can be resumed
    resume      a state file: written every few seconds in one atomic step, read if it exists
    progress    called with a `Progress`: first the estimate, then about every second; None: silent
    words       stochastic roundings: one pass for each (default: 0, 1, the middle, the last, and an uneven one)
    all_inputs  True or False overrides what the target's speed decides

    Raises: SpecError for formats above 16 bits and for a state file of something else; what the target raises.
    """
    case = CastCase(case) if isinstance(case, str) else case
    f, ask = format_of(case.format), asking(target, case)
    r = case.word_bits or default_word_bits(f.bits)
    chosen = tuple(words if words is not None else _words(r)) if is_stochastic(case.rounding) else ()
    passes = [intervals(f, case.rounding, case.overflow, w, r) for w in chosen or (0,)]
    run = _Run(ask, case, passes, chosen, time.monotonic(), None if budget is None else 60.0 * budget)
    path = None if resume is None else Path(resume)
    saved = state.load(path, run.what())
    rate = run.measure()
    everything = rate >= SLOW if all_inputs is None else all_inputs
    if saved["done"] and everything:  # the stratified set came first then
        return run.all(rate, saved, path, progress)
    quick = run.stratified()
    if quick.failures or not everything:
        slow = f"{rate / 1e6:.1f} Melem/s: all inputs would take {PATTERNS * len(passes) / rate / 60:.0f} min" if not everything else ""
        return replace(quick, note=slow or "stopped at the stratified set, which comes first")
    return run.all(rate, saved, path, progress)


def _words(r: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys((0, 1, 1 << (r - 1), (1 << r) - 1, 0x9E3779B9 >> (32 - r))))


@dataclass
class _Run:
    """One call of `prove`."""

    ask: Ask
    case: CastCase
    passes: list[Intervals]
    words: tuple[int, ...]
    started: float
    budget: float | None
    failures: int = 0
    first: dict[str, Any] | None = None
    examples: list[tuple[int, int | None]] = field(default_factory=list)  # (pattern, word), at most one a chunk

    def proof(self, mode: str, inputs: int, total: int, refused: int, seconds: float) -> Proof:
        rate = inputs / seconds if seconds else 0.0
        return Proof(self.ask.name, self.ask.version, self.case, mode, inputs, total, refused, self.failures, self.first, seconds, rate,
                     self.words, examples=tuple(self.examples))  # fmt: skip

    def measure(self) -> float:
        """The target's own inputs per second, after a first call that may compile."""
        x, word = (np.arange(CHUNK, dtype=np.uint32) << np.uint32(12)), self.words[0] if self.words else None
        x = x[self.passes[0].expected(x) != REFUSED]
        n = 1024
        while True:
            first, second = self.seconds(x[:n], word), self.seconds(x[:n], word)  # the first call may compile
            if n >= x.size or second > 0.05:
                return min(n, x.size) / min(first, second)
            n *= 8

    def seconds(self, x: np.ndarray, word: int | None) -> float:
        start = time.perf_counter()
        self.ask(x, word)
        return max(time.perf_counter() - start, 1e-7)

    def stratified(self) -> Proof:
        start, tried, refused = time.perf_counter(), 0, 0
        for k, runs in enumerate(self.passes):
            patterns = stratified.patterns(runs)
            expected = runs.expected(patterns)
            tried += patterns.size
            refused += int(np.count_nonzero(expected == REFUSED))
            for at in range(0, patterns.size, CHUNK):
                self.compare(patterns[at : at + CHUNK], expected[at : at + CHUNK], k)
        return self.proof("stratified", tried, tried, refused, time.perf_counter() - start)

    def what(self) -> dict[str, Any]:
        """What a state file must be about to be resumed."""
        return {"target": self.ask.name, "version": self.ask.version, "case": self.case.fields(), "words": list(self.words),
                "definition": state.digest(self.passes)}  # fmt: skip

    def all(self, rate: float, saved: dict[str, Any], path: Path | None, progress: Callable[[Progress], None] | None) -> Proof:
        total = PATTERNS * len(self.passes)
        what = self.what()
        done, before = saved["done"], saved["seconds"]
        self.failures, self.first = saved["failures"], saved["first"]
        self.examples = [(self.first["pattern"], self.first["word"])] if self.first else []
        start = spoke = kept = time.perf_counter()
        tell = progress or (lambda _: None)
        tell(Progress(self.ask.name, str(self.case), done, total, 0.0, rate, estimate=True))
        begun = done
        while done < total and not self.spent():
            k, at = divmod(done, PATTERNS)
            self.consecutive(at, k)
            done, now = done + CHUNK, time.perf_counter()
            if now - spoke > 1.0:
                spoke = now
                tell(Progress(self.ask.name, str(self.case), done, total, now - start, (done - begun) / (now - start)))
            if path is not None and now - kept > SAVE_EVERY:
                kept = now
                self.save(path, what, done, before + now - start)
        seconds = before + time.perf_counter() - start
        if path is not None:
            self.save(path, what, done, seconds)
        refused = sum(p.refused for p in self.passes)
        return replace(self.proof("all", done, total, refused, seconds), rate=(done - begun) / max(seconds - before, 1e-9))

    def save(self, path: Path, what: dict[str, Any], done: int, seconds: float) -> None:
        state.save(path, what, {"done": done, "seconds": seconds, "failures": self.failures, "first": self.first})

    def spent(self) -> bool:
        return self.budget is not None and time.monotonic() - self.started > self.budget

    def consecutive(self, at: int, k: int) -> None:
        """The chunk that begins at pattern `at`: runs where the answers are codes, else element by element."""
        patterns = np.arange(at, at + CHUNK, dtype=np.uint32)
        bounds, codes = self.passes[k].between(at, at + CHUNK)
        got = None
        if codes.min() >= 0:
            got = self.ask(patterns, self.words[k] if self.words else None)
            if got.dtype.kind == "u" and 8 * got.dtype.itemsize >= self.passes[k].format.bits:
                wanted = codes.astype(got.dtype)
                if runs_hold(got, bounds, wanted):
                    return
        self.compare(patterns, np.repeat(codes, np.diff(bounds)), k, got)

    def compare(self, patterns: np.ndarray, expected: np.ndarray, k: int, got: np.ndarray | None = None) -> None:
        """Ask, compare, note what differs."""
        if expected.min() == REFUSED:
            keep = expected != REFUSED
            patterns, expected = patterns[keep], expected[keep]
            if not patterns.size:
                return
        word = self.words[k] if self.words else None
        got = self.ask(patterns, word) if got is None else got
        bad = differing(self.passes[k], got, expected)
        if bad is not None:
            self.failures += int(np.count_nonzero(bad))
            i = int(np.flatnonzero(bad)[0])
            if len(self.examples) < EXAMPLES:
                self.examples.append((int(patterns[i]), word))
            if self.first is None:
                self.first = self.explain(int(patterns[i]), got[i], int(expected[i]), word)

    def explain(self, pattern: int, got: Any, expected: int, word: int | None) -> dict[str, Any]:
        """The counter-example as text and as data."""
        f = format_of(self.case.format)
        shown = check.show_code(f, got) if got.dtype.kind == "u" else repr(float(got))
        wanted = "a NaN code" if expected == ANY_NAN else check.show_code(f, expected)
        text = f"x = {check.show_input(np.uint32(pattern).view(np.float32))}"
        text += "" if word is None else f", word {word:#x}"
        return {"pattern": pattern, "word": word, "got": shown, "expected": wanted, "text": f"{text}: got {shown}, the definition gives {wanted}"}


def differing(runs: Intervals, got: np.ndarray, expected: np.ndarray) -> np.ndarray | None:
    """Where the answers differ, None where nowhere. Codes are compared as integers, values with NaN as a class and signed zeros.

    Raises: FormatError for an answer that is neither unsigned integers nor floating point.
    """
    nan = expected == ANY_NAN if expected.min() == ANY_NAN else None
    if got.dtype.kind == "u":
        if nan is None and 8 * got.dtype.itemsize >= runs.format.bits and np.array_equal(got, expected.astype(got.dtype)):
            return None
        bad: np.ndarray = got.astype(np.int64) != expected
        if nan is not None:
            bad = np.where(nan, ~np.isin(got, sorted(runs.line.nan_codes)), bad)
        return bad if bad.any() else None
    if got.dtype.kind != "f":
        raise FormatError(f"an answer of {got.dtype}", where="prove", remedy="return unsigned codes, or values in floating point")
    values = runs.format.decode(np.where(expected == ANY_NAN, 0, expected)).astype(np.float64)
    bad = check.differing_values(got.astype(np.float64), values, signed_zero="negative_zero" in runs.format.targets)
    if nan is not None:
        bad = np.where(nan, ~np.isnan(got), bad)
    return bad if bad.any() else None


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m lpref.conformance.exhaustive FORMAT…`: proofs of the CPU backend's casts; 0 where all passed, else 1."""
    parser = argparse.ArgumentParser(prog="python -m lpref.conformance.exhaustive", description=main.__doc__)
    parser.add_argument("formats", nargs="+", metavar="FORMAT")
    parser.add_argument("--rounding", default="nearest_even")
    parser.add_argument("--overflow", default="saturate")
    parser.add_argument("--budget", type=float, help="minutes for each format")
    given = parser.parse_args(arguments)
    passed = True
    for name in given.formats:
        proof = prove("cpu", CastCase(name, given.rounding, given.overflow), budget=given.budget, all_inputs=True)
        print(proof, flush=True)
        passed &= proof.passed
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())

"""Comparing a cast with its definition."""

from __future__ import annotations

from functools import partial

import numpy as np

from lpref.conformance import check
from lpref.conformance.diff.alternatives import encode_where_defined, explains_cast
from lpref.conformance.diff.classes import CLASSES, DTYPES, RESULTS, cast_inputs, classify, result_kinds
from lpref.conformance.diff.known import Known, about
from lpref.conformance.diff.numberline import bits_of, place
from lpref.conformance.diff.report import UNEXPLAINED, CaseReport, Cell, Example
from lpref.conformance.diff.shrink import shrink_cast
from lpref.conformance.diff.trace import trace_cast
from lpref.conformance.targets.base import CastCase, TargetError
from lpref.conformance.targets.client import Session
from lpref.ref.formats import Format
from lpref.ref.formats import format as format_of
from lpref.ref.random import bits
from lpref.ref.rounding import default_word_bits, is_stochastic

CHUNK = 1 << 20


class CastComparison:
    """One case of one target: asks, compares, labels."""

    def __init__(self, session: Session, version: str, case: CastCase) -> None:
        self.session, self.version, self.case = session, version, case
        self.f: Format = format_of(case.format)
        self.entries = about(session.spec, version, case)
        self.word_bits = case.word_bits or default_word_bits(self.f.bits)
        self.stochastic = is_stochastic(case.rounding)

    def words(self, n: int) -> np.ndarray | None:
        """Fixed random words for n inputs; None for deterministic roundings."""
        if not self.stochastic:
            return None
        r = 8 if self.word_bits <= 8 else 16 if self.word_bits <= 16 else 32
        return (bits(0, 9, 0, 0, n, r).astype(np.uint32) & np.uint32(2**self.word_bits - 1)).astype(np.uint32)

    def ask(self, x: np.ndarray, words: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """(values, codes or None, which codes exist) of the target."""
        parts = []
        for start in range(0, max(x.size, 1), CHUNK):
            arrays = {"x": x[start : start + CHUNK]}
            if words is not None:
                arrays["words"] = words[start : start + CHUNK]
            parts.append(self.session.ask(self.case, arrays))
        name = "codes" if "codes" in parts[0] else "values"
        found = np.concatenate([p[name] for p in parts])
        if name == "values":
            return found.astype(np.float64), None, np.ones(x.shape, bool)
        exists = found < 2**self.f.bits
        return self.f.decode(np.where(exists, found, 0).astype(np.uint64)), found, exists

    def expected(self, x: np.ndarray, words: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """(codes, where defined) by the definition."""
        return encode_where_defined(self.f, x, self.case.rounding, self.case.overflow, words, self.word_bits)

    def label(self, x: np.ndarray, words: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """For every input (class, result kind, label, defined, values): label -1 same, 0 unexplained, i + 1 explained by entry i."""
        want_codes, ok = self.expected(x, words)
        want, got, exists = self.f.decode(want_codes), np.full(x.shape, np.nan), np.ones(x.shape, bool)
        got[ok], codes, exists[ok] = self.ask(x[ok], None if words is None else words[ok])
        signed = "negative_zero" in self.f.targets
        bad = check.differing_values(got, want, signed) & ok
        if codes is not None:  # codes: two codes of one value differ too, NaN apart
            bad[ok] |= (codes.astype(np.int64) != want_codes[ok].astype(np.int64)) & ~(np.isnan(got) & np.isnan(want))[ok]
            bad |= ~exists
        kinds, classes = result_kinds(x, got, want, self.f), classify(x, self.f)
        kinds[~exists] = list(RESULTS).index("no code")
        label = np.where(bad, 0, -1)
        names = list(CLASSES)
        for i, entry in enumerate(self.entries):
            at = np.flatnonzero((label == 0) & exists)
            if entry.classes:
                at = at[np.isin(classes[at], [names.index(c) for c in entry.classes])]
            if at.size:
                given = None if words is None else words[at]
                label[at[explains_cast(entry.becomes, x[at], got[at], kinds[at], self.case, given, signed)]] = i + 1
        return classes, kinds, label, ok, got

    def report(self, trace: bool = False, shrink: bool = True) -> CaseReport:
        """The matrix, and the simplest input of every difference."""
        x = cast_inputs(self.f, self.case.input)
        words = self.words(x.size)
        try:
            classes, kinds, label, ok, _ = self.label(x, words)
            examples = tuple(self.examples(x, words, label, trace, shrink))
        except TargetError as error:
            return CaseReport(self.session.spec, self.version, self.case, error=(error.kind, str(error)), notes=taken_notes(self.session))
        cells, same = [], {}
        for c, name in enumerate(CLASSES):
            mine = (classes == c) & ok
            if mine.any():
                same[name] = int(np.count_nonzero(mine & (label == -1)))
            for k, result in enumerate(RESULTS):
                for which in range(len(self.entries) + 1):
                    count = int(np.count_nonzero(mine & (kinds == k) & (label == which)))
                    if count:
                        cells.append(Cell(name, result, count, self.entries[which - 1].id if which else UNEXPLAINED))
        used = tuple(e for i, e in enumerate(self.entries) if (label == i + 1).any())
        return CaseReport(self.session.spec, self.version, self.case, same, tuple(cells), int(np.count_nonzero(~ok)), examples, used,
                          None, taken_notes(self.session), self.session.seconds)  # fmt: skip

    def examples(self, x: np.ndarray, words: np.ndarray | None, label: np.ndarray, trace: bool, shrink: bool) -> list[Example]:
        """One for each label that occurs, unexplained first, the simplest input of each."""
        out = []
        for which in range(len(self.entries) + 1):
            at = np.flatnonzero(label == which)
            if not at.size:
                continue
            if self.stochastic or not shrink:
                i = int(at[0])
                value, word = x[i], None if words is None else words[i : i + 1]
            else:
                value, word = shrink_cast(x[at], partial(self.labelled, which)), None
            out.append(self.example(value, word, self.entries[which - 1] if which else None, trace))
        return out

    def labelled(self, which: int, x: np.ndarray) -> np.ndarray:
        """Which inputs have that label."""
        return self.label(x, None)[2] == which

    def example(self, value: np.generic, word: np.ndarray | None, entry: Known | None, trace: bool) -> Example:
        """Everything about one input."""
        x = np.array([value], DTYPES[self.case.input])
        got, codes, _ = self.ask(x, word)
        want_codes, _ = self.expected(x, word)
        f, shown = self.f, float(x[0])
        want = check.show_code(f, want_codes[0])
        given = repr(float(got[0])) if codes is None else check.show_code(f, codes[0])
        lines = [
            f"x = {shown!r} = {shown.hex()} = 0b{bits_of(x[0])}" + (f", word {int(word[0]):#x}" if word is not None else ""),
            f"got {given}, the definition gives {want}",
            place(shown, f, float(got[0])),
        ]
        data = {
            "x": shown, "x_hex": shown.hex(), "x_bits": bits_of(x[0]), "got": float(got[0]), "expected": float(f.decode(want_codes)[0]),
            "got_code": None if codes is None else int(codes[0]), "expected_code": int(want_codes[0]), "place": lines[2],
            **({} if word is None else {"word": int(word[0])}),
        }  # fmt: skip
        traced = trace_cast(self.case, f, x[0], word, got[0], None if codes is None else codes[0]) if trace else ()
        return Example(entry.id if entry else UNEXPLAINED, tuple(lines), data, traced)


def taken_notes(session: Session) -> tuple[str, ...]:
    """What the target printed since the last case."""
    notes = tuple(dict.fromkeys(session.printed))
    session.printed.clear()
    return notes


def compare_cast(session: Session, version: str, case: CastCase, trace: bool = False) -> CaseReport:
    """The report of one cast."""
    return CastComparison(session, version, case).report(trace)

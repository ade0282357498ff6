"""run_suite: any cast against its definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.conformance import check, inputs
from lpref.ref.errors import FormatError, LprefError, NonFiniteError, ShapeError
from lpref.ref.formats import Format
from lpref.ref.formats import format as format_of
from lpref.ref.random import bits
from lpref.ref.rounding import Overflow, Rounding, default_word_bits, is_stochastic
from lpref.ref.rounding import overflow as overflow_of
from lpref.ref.rounding import rounding as rounding_of

Cast = Callable[..., Any]


@dataclass(frozen=True)
class Outcome:
    """One class of inputs: how many were tried, how many differ, how many the definition refuses, the smallest failure."""

    name: str
    cases: int
    failures: int
    refused: int = 0
    counterexample: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing differed."""
        return self.failures == 0

    def __str__(self) -> str:
        refused = f", {self.refused} left out: the definition refuses them" if self.refused else ""
        failed = f"\n      {self.counterexample}" if self.failures else ""
        count = f"{self.failures} of {self.cases} differ" if self.failures else f"{self.cases} cases"
        return f"  {'passed' if self.passed else 'FAILED'}  {self.name}: {count}{refused}{failed}"


@dataclass(frozen=True)
class SuiteReport:
    """What was tested and how it went; prints as a table, true when passed."""

    title: str
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether every class passed."""
        return all(o.passed for o in self.outcomes)

    @property
    def cases(self) -> int:
        """The number of inputs compared."""
        return sum(o.cases for o in self.outcomes)

    @property
    def counterexample(self) -> str:
        """The first class's smallest failure; empty when passed."""
        return next((o.counterexample for o in self.outcomes if not o.passed), "")

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        head = f"{self.title}: {'passed' if self.passed else 'failed'}, {self.cases} cases"
        return "\n".join([head, *map(str, self.outcomes)])


def run_suite(
    cast: Cast,
    *,
    format: Any,
    rounding: str | Rounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    word_bits: int | None = None,
    dtype: Any = np.float32,
    canonical_nan: bool = False,
    examples: int = 0,
) -> SuiteReport:
    """Test `cast(x) -> codes | values` against the definition of `format` under `rounding` and `overflow`.

    cast takes a one-dimensional array of `dtype` (float32, float64, float16) and returns codes (an unsigned integer
    dtype) or values (any other), as an array or anything NumPy reads. A stochastic rounding is called cast(x, words).
    Tried are all values, all midpoints, their neighbours, the edges of the range and of the subnormals, specials, and
    fixed random bit patterns (of formats above 16 bits: a sample); for deterministic roundings also monotonicity.
    Inputs that the definition refuses (NaN in a format without one) are left out. NaN compares as a class unless
    `canonical_nan`. `examples` > 0 adds that many Hypothesis examples, and shrinks what fails.

    >>> import lpref
    >>> print(run_suite(lpref.format("e2m1").encode, format="e2m1").passed)
    True
    """
    f, rule, policy = format_of(format), rounding_of(rounding), overflow_of(overflow)
    dtype = np.dtype(dtype).type
    suite = _Suite(cast, f, rule, policy, word_bits or default_word_bits(f.bits), canonical_nan)
    outcomes = [suite.compare(name, x) for name, x in classes(f, dtype).items()]
    if not rule.stochastic:
        outcomes.append(suite.monotone(np.concatenate([inputs.midpoints(f, dtype), inputs.spread(dtype)])))
    if examples:
        outcomes.append(suite.search(dtype, examples))
    title = f"{getattr(cast, '__qualname__', type(cast).__name__)} against {f.name}, {rule.name}"
    return SuiteReport(title, tuple(outcomes))


def classes(f: Format, dtype: type) -> dict[str, np.ndarray]:
    """Name → inputs, the most telling first."""
    return {
        "every value": inputs.codes(f, dtype),
        "midpoints and their neighbours": inputs.midpoints(f, dtype),
        "neighbours of values": inputs.neighbours(f, dtype),
        "edges of the range": inputs.overflow_edges(f, dtype),
        "subnormal edges": inputs.subnormal_edges(f, dtype),
        "specials": inputs.specials(dtype),
        "random bit patterns": inputs.spread(dtype),
    }


@dataclass(frozen=True)
class _Suite:
    cast: Cast
    f: Format
    rule: Rounding
    policy: Overflow
    word_bits: int
    canonical_nan: bool

    def words(self, n: int) -> np.ndarray | None:
        """Fixed words for n inputs, the extremes first; None for deterministic roundings."""
        if not is_stochastic(self.rule):
            return None
        r = 8 if self.word_bits <= 8 else 16 if self.word_bits <= 16 else 32
        w = bits(0, 2, 0, 0, n, r).astype(np.uint32) & np.uint32(2**self.word_bits - 1)
        w[0::7], w[1::7] = 0, 2**self.word_bits - 1
        return w

    def call(self, x: np.ndarray, words: np.ndarray | None) -> np.ndarray:
        """The cast's answer as an array: codes stay unsigned, everything else becomes float64."""
        y = np.asarray(self.cast(x.copy()) if words is None else self.cast(x.copy(), words.copy()))
        if y.shape != x.shape:
            raise ShapeError(f"the cast returned shape {y.shape} for an input of shape {x.shape}", where="run_suite",
                             remedy="it must keep the shape")  # fmt: skip
        return y if y.dtype.kind == "u" else y.astype(np.float64)

    def defined(self, x: np.ndarray, words: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """(codes, which inputs have one). Far beyond the range all are refused or none; others are found by halving."""
        codes, ok = np.zeros(x.shape, self.f.code_dtype), np.ones(x.shape, bool)
        if self.policy.finite == "raise":
            ok = ~(np.isfinite(x) & (np.abs(x) >= 4 * max(abs(self.f.max), abs(self.f.min))))
        codes[ok], ok[ok] = self.halve(x[ok], None if words is None else words[ok])
        return codes, ok

    def halve(self, x: np.ndarray, words: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """`defined` by trying the whole, then each half, …"""
        if not x.size:
            return np.zeros(0, self.f.code_dtype), np.zeros(0, bool)
        try:
            codes = self.f.encode(x, self.rule, self.policy, words, self.word_bits if words is not None else None)
            return codes, np.ones(x.shape, bool)
        except (FormatError, NonFiniteError):
            if x.size == 1:
                return np.zeros(1, self.f.code_dtype), np.zeros(1, bool)
        half = x.size // 2
        parts = [self.halve(x[s], None if words is None else words[s]) for s in (slice(half), slice(half, None))]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def compare(self, name: str, x: np.ndarray) -> Outcome:
        """One class of inputs against the definition."""
        words = self.words(x.size)
        expected, ok = self.defined(x, words)
        refused = int(x.size - np.count_nonzero(ok))
        x, expected, words = x[ok], expected[ok], None if words is None else words[ok]
        if not x.size:
            return Outcome(name, 0, 0, refused)
        actual = self.call(x, words)
        if actual.dtype.kind == "u":
            bad = check.differing_codes(actual, expected, self.f, self.canonical_nan)
        else:
            wanted = self.f.decode(expected)
            bad = check.differing_values(actual, wanted, "negative_zero" in self.f.targets)
        failures = int(np.count_nonzero(bad))
        text = self.explain(x, actual, expected, words, bad) if failures else ""
        return Outcome(name, x.size, failures, refused, text)

    def explain(self, x: Any, actual: Any, expected: Any, words: Any, bad: np.ndarray) -> str:
        """The smallest failing input, what came, what the definition gives, and between which values it lies."""
        (i,) = check.first(bad, x)
        got = check.show_code(self.f, actual[i]) if actual.dtype.kind == "u" else repr(float(actual[i]))
        word = "" if words is None else f", word {int(words[i]):#x}"
        text = f"x = {check.show_input(x[i])}{word}: got {got}, the definition gives {check.show_code(self.f, expected[i])}"
        if self.f.bits <= 16 and np.isfinite(x[i]):
            values = self.f.table()[0]
            k = int(np.searchsorted(values, float(x[i]), "right"))
            around = [repr(float(v)) for v in values[max(k - 1, 0) : k + 1]]
            text += f" (x lies {'between ' + ' and '.join(around) if len(around) == 2 else 'beside ' + around[0]})"
        return text

    def monotone(self, x: np.ndarray) -> Outcome:
        """Order is kept (codes decoded; NaN left out)."""
        x = x[self.defined(x, None)[1]]

        def values(v: np.ndarray) -> np.ndarray:
            y = self.call(v, None)
            return y if y.dtype.kind != "u" else self.f.decode(np.where(y < 2**self.f.bits, y, 0))

        try:
            check.check_monotone(values, x)
        except check.Mismatch as error:
            return Outcome("monotone", x.size, 1, 0, str(error))
        return Outcome("monotone", x.size, 0)

    def search(self, dtype: type, examples: int) -> Outcome:
        """Hypothesis over mixed inputs, shrunk to the smallest failure."""
        from hypothesis import HealthCheck, given, settings

        from lpref.conformance import strategies

        failed: list[Outcome] = []

        @settings(max_examples=examples, derandomize=True, database=None, deadline=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(strategies.inputs(self.f, dtype=dtype))
        def run(x: np.ndarray) -> None:
            outcome = self.compare("Hypothesis", x)
            if not outcome.passed:
                failed.append(outcome)
                raise check.Mismatch(outcome.counterexample, index=())

        try:
            run()
        except LprefError:
            return failed[-1]  # the last failure is the shrunk one
        return Outcome("Hypothesis", examples, 0)

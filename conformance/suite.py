"""run_suite: any cast or block quantizer against its definition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.conformance import check, inputs
from lpref.conformance.products import ProductSuite
from lpref.conformance.quantizers import QuantizerSuite
from lpref.conformance.report import Outcome, SuiteReport
from lpref.ref.errors import FormatError, NonFiniteError, ShapeError, SpecError
from lpref.ref.formats import Format
from lpref.ref.formats import format as format_of
from lpref.ref.linalg import accumulator
from lpref.ref.quantize import Quantizer
from lpref.ref.random import bits
from lpref.ref.rounding import Overflow, Rounding, default_word_bits, is_stochastic
from lpref.ref.rounding import overflow as overflow_of
from lpref.ref.rounding import rounding as rounding_of

Cast = Callable[..., Any]


def run_suite(
    candidate: Cast,
    *,
    format: Any = None,
    quantizer: Any = None,
    accumulate: Any = None,
    rounding: str | Rounding = "nearest_even",
    overflow: str | Overflow = "saturate",
    word_bits: int | None = None,
    dtype: Any = np.float32,
    canonical_nan: bool = False,
    examples: int = 0,
) -> SuiteReport:
    """Test a cast against `format`, a block quantizer against `quantizer` (a Quantizer, a name, a mapping), or a matrix product
    against `accumulate` (an accumulation model or its name).

    A cast takes a one-dimensional array of `dtype` (float32, float64, float16) and returns codes (an unsigned integer
    dtype) or values (any other), as an array or anything NumPy reads. A stochastic rounding is called f(x, words).
    Tried are all values, all midpoints, their neighbours, the edges of the range and of the subnormals, specials, and
    fixed random bit patterns (of formats above 16 bits: a sample); for deterministic roundings also monotonicity.
    `examples` > 0 adds that many Hypothesis examples, and shrinks what fails.

    A quantizer takes float32 [R, C] (stochastic: and words=) and returns {codes, scales, tensor_scale} (codes packed or
    one an element; scales as codes or values; rounding and overflow are the quantizer's own), a QTensor, or values. Definitions with more
    to them: `zero` (zero points), `scales` as a tuple of levels, `aux` by name, `residual` (a second answer of this kind).
    Tried are blocks of different size, ties, scales at their thresholds, zeros, tiny and huge blocks, ragged tails, NaN and infinities.

    A matrix product takes a [M, K] and b [N, K], float32 with values of `format` (default bfloat16), and returns a b^T as float32
    [M, N]. Tried are cancellation, sums that stall, one-sided values, wide exponents, and K beside every usual chunk size.

    Inputs that the definition refuses (NaN in a format without one) are left out. NaN compares as a class unless
    `canonical_nan`.

    >>> import lpref
    >>> print(run_suite(lpref.format("e2m1").encode, format="e2m1").passed)
    True
    >>> print(run_suite(lambda x: lpref.quantize(x, "mxfp4", backend="reference"), quantizer="mxfp4").passed)
    True
    """
    name = getattr(candidate, "__qualname__", type(candidate).__name__)
    if accumulate is None and (format is None) == (quantizer is None):
        raise SpecError(["format, quantizer: give one of the two"], where="run_suite")
    if accumulate is not None:
        f = format_of("bfloat16" if format is None else format)
        called = accumulate if isinstance(accumulate, str) else "its accumulation model"
        return SuiteReport(f"{name} against {called}, {f.name}", ProductSuite(candidate, accumulator(accumulate), f).outcomes())
    if quantizer is not None:
        q = load_quantizer(quantizer)
        return SuiteReport(f"{name} against {q.name or q.format}", QuantizerSuite(candidate, q, canonical_nan).outcomes(examples))
    f, rule, policy = format_of(format), rounding_of(rounding), overflow_of(overflow)
    dtype = np.dtype(dtype).type
    suite = _Suite(candidate, f, rule, policy, word_bits or default_word_bits(f.bits), canonical_nan)
    outcomes = list(suite.outcomes(dtype))
    if examples:
        outcomes.append(suite.search(dtype, examples))
    return SuiteReport(f"{name} against {f.name}, {rule.name}", tuple(outcomes))


def load_quantizer(quantizer: Any) -> Quantizer:
    """A Quantizer as it is; names and mappings through the loader."""
    from lpref.specs import quantizer as load

    return quantizer if isinstance(quantizer, Quantizer) else load(quantizer)


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

    def outcomes(self, dtype: type) -> Iterator[Outcome]:
        """One per class of inputs, then the order."""
        for label, x in classes(self.f, dtype).items():
            yield self.compare(label, x)
        if self.rule.stochastic:
            yield self.compare("steps of the word", *inputs.word_steps(self.f, self.word_bits, dtype))
        else:
            yield self.monotone(np.concatenate([inputs.midpoints(self.f, dtype), inputs.spread(dtype)]))

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
        with np.errstate(invalid="ignore"):  # among the inputs are signalling NaNs
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

    def compare(self, name: str, x: np.ndarray, words: np.ndarray | None = None) -> Outcome:
        """One class of inputs against the definition."""
        words = self.words(x.size) if words is None else words
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
        from lpref.conformance import strategies
        from lpref.conformance.searching import search

        return search(strategies.inputs(self.f, dtype=dtype), lambda x: self.compare("Hypothesis", x), examples)

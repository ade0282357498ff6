r"""What a number format is: a finite table of exact values, and the conversions that follow from it.

A format gives every code a value (`decode`). Everything else is derived. A finite x is located between its two
neighbours in the table, a `Rounding` chooses one, an `Overflow` policy answers for what lies outside:

    encode(x) = code of [ overflow( round(x) ) ],      decode(encode(v)) = v for every value v of the table.

x is read exactly (float64, float32, float16, bfloat16 and the other ml_dtypes, integers) and rounded **once**. Results are arrays of
x's library.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lpref.ref.arrays import device_casts, give, host, library
from lpref.ref.errors import FormatError
from lpref.ref.formats.entry import Entry
from lpref.ref.formats.exact_input import as_float64
from lpref.ref.formats.outside import overflowed, special_codes
from lpref.ref.rounding import Overflow, Remainder, Rounding, check_words, default_word_bits
from lpref.ref.rounding import overflow as overflow_of
from lpref.ref.rounding import rounding as rounding_of


@dataclass(frozen=True, kw_only=True)
class Format(Entry, ABC):
    """A number format. Two formats are equal when all their parameters are."""

    name: str
    bits: int  # bits of a code, the sign included
    title: str
    standard: str  # title, version, section
    source_level: str  # read | secondary | memory: how the source was consulted
    revision: int = 1  # raised with any changed output bit
    tie: str = "even_significand"  # even_significand | even_code | lower_code | away | toward_zero | up | down
    module: str = __name__  # the page: sys.modules[module].__doc__
    exact: bool = True  # decode is exact in float64

    # -- what a subclass defines ---------------------------------------------------------------------------------
    @property
    @abstractmethod
    def signed(self) -> bool:
        """Whether negative values exist."""

    @property
    @abstractmethod
    def max(self) -> float:
        """The largest finite value."""

    @property
    @abstractmethod
    def min(self) -> float:
        """The smallest (most negative) finite value."""

    @property
    @abstractmethod
    def min_normal(self) -> float:
        """The smallest positive value of full precision."""

    @property
    @abstractmethod
    def min_subnormal(self) -> float:
        """The smallest positive value (equal to `min_normal` in formats without subnormals)."""

    @property
    def precision(self) -> int | None:
        """Significand bits, the hidden one included; None for code books."""
        return None

    @property
    def midpoint(self) -> str:
        """Where nearest roundings change over: arithmetic | geometric | bit_string | listed."""
        return "arithmetic"

    @property
    def emax(self) -> int:
        """floor(log2(max))."""
        return int(np.frexp(self.max)[1]) - 1

    @property
    def emin(self) -> int:
        """floor(log2(min_normal))."""
        return int(np.frexp(self.min_normal)[1]) - 1

    @property
    def nan_code(self) -> int | None:
        """The canonical NaN, None where the format has none."""
        return None

    @property
    def inf_code(self) -> int | None:
        """+infinity, None where the format has none."""
        return None

    @property
    def targets(self) -> frozenset[str]:
        """What an overflow policy can choose from: see `Overflow.resolve`."""
        has = {"max", *(["infinity"] if self.has_inf else []), *(["nan"] if self.has_nan else [])}
        return frozenset(has | {"zero"})

    @abstractmethod
    def _decode(self, codes: np.ndarray) -> np.ndarray:
        """uint64 codes in range -> float64."""

    @abstractmethod
    def _locate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | int, Remainder]:
        """Finite float64 x -> (position of the neighbour nearer to zero, step to the other one, where x lies)."""

    @abstractmethod
    def _finish(self, position: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions, clamped into the range, as uint64 codes; and which of them were outside."""

    @abstractmethod
    def _target_code(self, target: str, negative: np.ndarray) -> np.ndarray:
        """The code of max | zero | negative_zero | infinity | nan with the sign `negative`, as uint64."""

    # -- what follows --------------------------------------------------------------------------------------------
    @property
    def has_nan(self) -> bool:
        return self.nan_code is not None

    @property
    def has_inf(self) -> bool:
        return self.inf_code is not None

    def decode(self, codes: Any) -> np.ndarray:
        """Codes (integers, any shape) -> float64 values.

        Raises: FormatError for other dtypes than integers and for codes outside 0 .. 2^bits - 1.
        """
        if (casts := device_casts(codes)) is not None:
            return casts.decode(codes, self)  # type: ignore[no-any-return]
        to, codes = library(codes), host(codes, f"{self.name}.decode")
        if codes.dtype.kind not in "ui":
            raise FormatError(f"codes are {codes.dtype}, not integers", where=f"{self.name}.decode")
        bad = (codes < 0) | (codes.astype(np.uint64) > np.uint64(2**self.bits - 1))
        if bad.any():
            raise FormatError(
                f"code {int(codes[bad].flat[0])} is not in 0 .. {2**self.bits - 1}", where=f"{self.name}.decode"
            )
        return give(self._decode(codes.astype(np.uint64)), to)

    def encode(
        self,
        x: Any,
        rounding: str | Rounding = "nearest_even",
        overflow: str | Overflow = "saturate",
        words: np.ndarray | None = None,
        word_bits: int | None = None,
    ) -> np.ndarray:
        """Reals (any shape) -> codes of `code_dtype`; rounded once, from x's own dtype.

        x: floats of at most 64 bits, or integers. words: integers of x's shape, the low `word_bits` bits are used
        (stochastic roundings only; default: `default_word_bits`).

        Raises: UnknownNameError, WordsError; FormatError and NonFiniteError as the overflow policy says.
        """
        if (casts := device_casts(x)) is not None:
            return casts.encode(x, self, rounding, overflow, words, word_bits)  # type: ignore[no-any-return]
        rule, policy, to = rounding_of(rounding), overflow_of(overflow), library(x)
        x = as_float64(x, f"{self.name}.encode")
        if policy.unsigned == "absolute" and not self.signed:
            x = np.abs(x)
        special = ~np.isfinite(x)
        finite = np.where(special, 1.0, x)
        position, step, remainder = self._locate(finite)
        r = (word_bits or default_word_bits(self.bits)) if rule.stochastic else None
        chosen = (
            None
            if r is None
            else check_words(None if words is None else host(words), r, x.shape, f"{self.name}.encode")
        )
        codes, over = self._finish(position + step * rule.up(remainder, chosen, r), finite)
        over &= ~special
        if policy.unsigned == "absolute":
            over &= finite != 0  # |0| rounds to the smallest value of a format without zero
        if over.any():
            codes = overflowed(self, codes, over, finite, rule, policy)
        if special.any():
            codes = special_codes(self, codes, x, policy)
        return give(codes.astype(self.code_dtype), to)

    def round(
        self,
        x: Any,
        rounding: str | Rounding = "nearest_even",
        overflow: str | Overflow = "saturate",
        words: np.ndarray | None = None,
        word_bits: int | None = None,
    ) -> np.ndarray:
        """decode(encode(x)) in x's dtype (float64 for integers); where decode is not exact anyway, rounded to that dtype.

        Raises: what `encode` raises; FormatError where a result is not a value of x's dtype (bfloat16 in float16).
        """
        if (casts := device_casts(x)) is not None:
            return casts.qdq(x, self, rounding, overflow, words, word_bits)  # type: ignore[no-any-return]
        to, given, x = library(x), x, host(x, f"{self.name}.round")
        values = self.decode(self.encode(x, rounding, overflow, words, word_bits))
        if x.dtype.kind in "iub":
            return give(values, to)
        with np.errstate(over="ignore", invalid="ignore"):  # NaN stays NaN, and what is lost is reported
            out = values.astype(x.dtype) if to is None else give(values, to, given.dtype)
        kept = host(out).astype(np.float64)
        lost = (kept != values) & ~np.isnan(values)
        if not self.exact:  # the nearest value of the dtype, as long as there is one
            lost &= ~np.isfinite(kept) | (kept == 0)
        if lost.any():
            raise FormatError(
                f"{float(values[lost].flat[0])!r} is not a value of {getattr(given, 'dtype', x.dtype)}",
                where=f"{self.name}.round",
                remedy="pass a wider dtype, or use encode and decode",
            )
        return out

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """(values, codes): the distinct finite values ascending (float64) and the code of each; +0 stands for zero.

        Raises: FormatError above 16 bits.
        """
        return self._table

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        if self.bits > 16:
            raise FormatError(f"a table of 2^{self.bits} values is not made", where=f"{self.name}.table")
        codes = np.arange(2**self.bits, dtype=np.uint64)
        values = self._decode(codes)
        keep = np.isfinite(values)
        values, first = np.unique(values[keep], return_index=True)  # the first code of +0 and -0 is +0's
        codes = codes[keep][first].astype(self.code_dtype)
        values = values + 0.0  # -0 -> +0
        values.setflags(write=False)
        codes.setflags(write=False)
        return values, codes

    def _stops(self, rule: Rounding, policy: Overflow, negative: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Where a finite overflow of x stays at the largest finite value of its sign whatever the policy's rule."""
        has_end = self.signed or policy.unsigned in ("smallest", "nan")  # those rules count 0 as the end below
        below = negative & has_end & ("-" in rule.toward_zero_for)
        above = ~negative & (x != 0) & ("+" in rule.toward_zero_for)
        return below | above

    def tie_up(self, odd: np.ndarray, negative: np.ndarray) -> np.ndarray:
        """What the tie rule says, per element: does the magnitude go up at nu = 1/2?"""
        if self.tie in ("even_significand", "even_code"):
            return odd
        if self.tie in ("up", "down"):
            return negative if self.tie == "down" else ~negative
        return np.full(np.shape(odd), self.tie == "away")  # lower_code compares codes: the format decides

    def _repr_html_(self) -> str:
        from lpref.ref.formats.portrait import html

        return html(self)

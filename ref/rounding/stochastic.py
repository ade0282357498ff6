r"""Stochastic rounding with r random bits: five variants, their exact probabilities and biases.

With R uniform on 0 .. 2^r - 1 and nu in [0, 1), the probability of rounding up is

    A (stochastic):          floor(nu 2^r) / 2^r
    B (stochastic_b):        floor(nu 2^r + 1/2) / 2^r
    C (stochastic_c):        rne(nu 2^r) / 2^r                  ties to the even integer
    odd (stochastic_odd):    rno(nu 2^r) / 2^r                  ties to the odd integer
    uniform:                 B's, but ceil(nu 2^r - 1/2) / 2^r where the code of the lower neighbour is even

and the bias is that minus nu, in units of the target's spacing, away from zero where positive. Its size is below 2^-r for A and at most
2^-(r+1) for the others. All biases are 0 iff nu 2^r is an integer: where r is at least the number s of discarded bits, every variant is
exactly unbiased. *Few-bit* rounding is r < s; then, over all 2^s fractions i 2^-s, the mean bias is

    A: -(2^-r - 2^-s) / 2        B: +2^-s / 2        C, odd: 0        uniform: +-2^-s / 2, odd and even codes alike, together 0

(`mean_bias`). The variance of a rounded number is w^2 P (1 - P), with w the spacing and P the probability above: w^2 nu (1 - nu) without bias.
Same R: all are monotone in x. Among subnormals, and below the smallest, nu counts the subnormal spacing.

A is what cvt.rs does, and what the carry trick `(u + R) & ~mask` does: random bits are added below the kept ones. *uniform* is the
folklore "add U(-1/2, 1/2), then round to nearest": x / w + (R + 1/2) 2^-r - 1/2, rounded to nearest even; it is B except at its ties.
Names in gfloat: A StochasticFastest, B StochasticFast, C Stochastic, odd StochasticOdd.

Source: P3109 interim report v4.0, sec. 4.7.4 (variants A, B, C); gfloat 0.5 round.py (StochasticOdd); arXiv 1804.01526 (uniform, in HBFP).
Source level: read (P3109, gfloat; HBFP in its emulator). Gradient: straight through.
Pitfalls: gfloat's text calls its StochasticFastest (A) biased away from zero; its code, like P3109's, is toward zero. With u = R 2^-r - 1/2
instead of its centred form, R = 0 moves numbers that are exactly representable. A sticky bit kept beside nu breaks the probabilities.
Deriving the exponent again after the addition of the increment is wrong: the carry into the next binade is right as it is.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from lpref.ref.errors import WordsError

if TYPE_CHECKING:
    from lpref.ref.rounding.mode import Remainder


def _floor_ratio(d: np.ndarray, w: np.ndarray | float) -> np.ndarray:
    """floor(d / w), exactly: np.floor_divide removes fmod(d, w), which is exact, before it divides."""
    return np.floor(d) if isinstance(w, float) and w == 1.0 else np.floor_divide(d, w)


def variant_a(m: Remainder, words: np.ndarray | None, r: int | None) -> np.ndarray:
    """floor(nu 2^r) + R >= 2^r."""
    assert words is not None
    assert r is not None
    return _floor_ratio(np.ldexp(m.d, r), m.w) + words >= 2.0**r


def variant_b(m: Remainder, words: np.ndarray | None, r: int | None) -> np.ndarray:
    """floor(nu 2^(r+1)) + 2 R + 1 >= 2^(r+1)."""
    assert words is not None
    assert r is not None
    return _floor_ratio(np.ldexp(m.d, r + 1), m.w) + (2.0 * words + 1.0) >= 2.0 ** (r + 1)


def variant_c(m: Remainder, words: np.ndarray | None, r: int | None) -> np.ndarray:
    """rne(nu 2^r) + R >= 2^r."""
    assert words is not None
    assert r is not None
    return _nearest(m, r, 1) + words >= 2.0**r


def variant_odd(m: Remainder, words: np.ndarray | None, r: int | None) -> np.ndarray:
    """rno(nu 2^r) + R >= 2^r: nearest, ties to odd."""
    assert words is not None
    assert r is not None
    return _nearest(m, r, 0) + words >= 2.0**r


def uniform(m: Remainder, words: np.ndarray | None, r: int | None) -> np.ndarray:
    """nu + (2 R + 1) 2^-(r+1) > 1, or equal to 1 and the code of the lower neighbour is odd."""
    assert words is not None
    assert r is not None
    scaled = np.ldexp(m.d, r + 1)
    whole = _floor_ratio(scaled, m.w)
    exact = (scaled - whole if isinstance(m.w, float) and m.w == 1.0 else np.remainder(scaled, m.w)) == 0
    total = whole + (2.0 * words + 1.0)
    return (total > 2.0 ** (r + 1)) | ((total == 2.0 ** (r + 1)) & (~exact | m.odd))


def _nearest(m: Remainder, r: int, parity: int) -> np.ndarray:
    """nu 2^r to the nearest integer; ties go up where the lower integer is odd (parity 1) or even (0)."""
    scaled = np.ldexp(m.d, r)
    whole = _floor_ratio(scaled, m.w)
    rest = 2.0 * (scaled - whole if isinstance(m.w, float) and m.w == 1.0 else np.remainder(scaled, m.w))
    nearest: np.ndarray = whole + ((rest > m.w) | ((rest == m.w) & (whole % 2 == parity)))
    return nearest


def probability_up(name: str, nu: Fraction, r: int, odd: bool = False) -> Fraction:
    """P(up) of a variant at the fraction `nu`, over all 2^r words; `odd`: the code of the lower neighbour is.

    >>> [str(probability_up(n, Fraction(3, 16), 2)) for n in ("stochastic", "stochastic_b", "stochastic_c")]
    ['0', '1/4', '1/4']
    """
    scaled = nu * 2**r
    count = {
        "stochastic": scaled.__floor__(),
        "stochastic_b": ((2 * scaled).__floor__() + 1) // 2,
        "stochastic_c": round(scaled),
        "stochastic_odd": scaled.__floor__() | 1 if scaled.denominator == 2 else round(scaled),
        "stochastic_uniform": ((2 * scaled).__floor__() + 1) // 2 if odd else (scaled - Fraction(1, 2)).__ceil__(),
    }[name]
    return Fraction(count, 2**r)


def bias(name: str, nu: Fraction, r: int, odd: bool = False) -> Fraction:
    """P(up) - nu: the mean error in units of the spacing, exactly.

    >>> str(bias("stochastic", Fraction(3, 16), 2))
    '-3/16'
    """
    return probability_up(name, nu, r, odd) - nu


def mean_bias(name: str, r: int, s: int, odd: bool = False) -> Fraction:
    """The mean of `bias` over the 2^s fractions i 2^-s: sources with s discarded bits, all alike likely.

    >>> str(mean_bias("stochastic", 8, 16))
    '-255/131072'
    """
    if r >= s:
        return Fraction(0)
    half = Fraction(1, 2 ** (s + 1))
    return {
        "stochastic": half - Fraction(1, 2 ** (r + 1)),
        "stochastic_b": half,
        "stochastic_c": Fraction(0),
        "stochastic_odd": Fraction(0),
        "stochastic_uniform": half if odd else -half,
    }[name]


def default_word_bits(format: Any) -> int:
    """Random bits per element for a target format (or its number of bits): 8 up to 6 bits, 16 up to 8, else 32.

    >>> default_word_bits(4), default_word_bits(8), default_word_bits(16)
    (8, 16, 32)
    """
    bits = getattr(format, "bits", format)
    return 8 if bits <= 6 else 16 if bits <= 8 else 32


def check_words(words: np.ndarray | None, word_bits: int, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The low `word_bits` bits of `words` as float64 (exact), checked against x's shape.

    Raises: WordsError for no words, other dtypes than integers, another shape, or word_bits outside 1 .. 32.
    """
    if not 1 <= word_bits <= 32:
        raise WordsError(f"word_bits is {word_bits}, not in 1 .. 32", where=where)
    if words is None:
        raise WordsError(
            "stochastic rounding without words", where=where, remedy="pass words=lpref.random.bits(...) of x's shape"
        )
    words = np.asarray(words)
    if words.dtype.kind not in "ui":
        raise WordsError(f"words are {words.dtype}, not integers", where=where)
    if words.shape != shape:
        raise WordsError(f"words have shape {words.shape}, x has {shape}", where=where)
    return (words.astype(np.uint64) & np.uint64(2**word_bits - 1)).astype(np.float64)

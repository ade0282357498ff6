r"""Stochastic rounding with r random bits: three variants, their exact probabilities.

With R uniform on 0 .. 2^r - 1 and nu in [0, 1), the probability of rounding up is

    A (stochastic):    floor(nu 2^r) / 2^r                       mean error over nu: -2^-(r+1), largest 2^-r
    B (stochastic_b):  floor((floor(nu 2^(r+1)) + 1) / 2) / 2^r   mean error ~0,     largest 2^-(r+1)
    C (stochastic_c):  rne(nu 2^r) / 2^r                         mean error 0,       largest 2^-(r+1)

A is what cvt.rs does and what the carry trick `(u + R) & ~mask` does; its bias is toward zero, and it vanishes
when nu 2^r is an integer, i.e. when r is at least the number of discarded bits. Same R: all three are monotone in x.

Source: P3109 interim report v4.0, sec. 4.7.4 (variants A, B, C).
Pitfall: gfloat's text calls its StochasticFastest (A) biased away from zero; its code, like P3109's, is toward zero.
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
    scaled = np.ldexp(m.d, r)
    whole = _floor_ratio(scaled, m.w)
    rest = 2.0 * (scaled - whole if isinstance(m.w, float) and m.w == 1.0 else np.remainder(scaled, m.w))
    up = (rest > m.w) | ((rest == m.w) & (whole % 2 == 1))
    return whole + up + words >= 2.0**r


def probability_up(name: str, nu: Fraction, r: int) -> Fraction:
    """P(up) of a variant at the fraction `nu`, over all 2^r words.

    >>> [str(probability_up(n, Fraction(3, 16), 2)) for n in ("stochastic", "stochastic_b", "stochastic_c")]
    ['0', '1/4', '1/4']
    """
    scaled = nu * 2**r
    count = {
        "stochastic": scaled.__floor__(),
        "stochastic_b": ((2 * scaled).__floor__() + 1) // 2,
        "stochastic_c": round(scaled),
    }[name]
    return Fraction(count, 2**r)


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

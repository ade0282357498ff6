"""identify for casts: every rounding x overflow policy (x nibble order of packed 4-bit codes)."""

from __future__ import annotations

import itertools

import numpy as np

from lpref.conformance import check, inputs
from lpref.conformance.matches import NIBBLES, Answer, Match, grouped, mean, policies_of, swapped
from lpref.conformance.targets.base import CastCase
from lpref.ref.errors import FormatError, LprefError, NonFiniteError
from lpref.ref.formats import Format
from lpref.ref.formats import format as format_of
from lpref.ref.quantize.packing import unpack
from lpref.ref.random import bits
from lpref.ref.rounding import ROUNDINGS, default_word_bits, is_stochastic

MOST = 3000  # inputs of a class


def cast_classes(f: Format, dtype: type) -> dict[str, np.ndarray]:
    """Name → inputs; long classes thinned evenly."""
    found = {
        "midpoints": inputs.midpoints(f, dtype),
        "range": inputs.overflow_edges(f, dtype),
        "subnormals": inputs.subnormal_edges(f, dtype),
        "infinities": dtype([np.inf, -np.inf]),
        "NaN": dtype([np.nan]),
        "zeros": dtype([0.0, -0.0]),
    }
    return {name: x[:: -(-x.size // MOST)] for name, x in found.items()}


def identify_cast(answer: Answer, case: CastCase) -> list[Match]:
    """Every rounding x overflow policy (x nibble order of packed codes)."""
    f = format_of(case.format)
    dtype = {"float64": np.float64, "float16": np.float16}.get(case.input, np.float32)
    random = is_stochastic(case.rounding)
    word_bits = case.word_bits or default_word_bits(f.bits)
    classes = {name: (x, cast_words(x.size, word_bits) if random else None) for name, x in cast_classes(f, dtype).items()}
    if random:
        classes["steps of the word"] = inputs.word_steps(f, word_bits, dtype)
    if case.input == "bfloat16":
        classes = {name: (format_of("bfloat16").round(x), words) for name, (x, words) in classes.items()}
    asked = [(x, words, ask(answer, x, words)) for x, words in classes.values()]
    nibbles = NIBBLES if any(packed(got, x, f) for x, _, got in asked if got is not None) else ("",)
    results = []
    for rounding, (overflow, policies), nibble in itertools.product(ROUNDINGS, policies_of(f).items(), nibbles):
        if is_stochastic(rounding) != random:
            continue
        shares, key = [], []
        for x, words, got in asked:
            want, defined = definition(f, x, rounding, overflow, words, word_bits)
            key.append(want.tobytes() + defined.tobytes())
            shares.append(share(got, want, defined, x, f, nibble))
        order = {"order": nibble} if nibble else {}
        results += [({"rounding": rounding, "overflow": p, **order}, b"".join(key) + nibble.encode(), mean(shares)) for p in policies]
    return grouped(results)


def cast_words(n: int, word_bits: int) -> np.ndarray:
    """Fixed words."""
    r = 8 if word_bits <= 8 else 16 if word_bits <= 16 else 32
    return bits(0, 2, 0, 0, n, r).astype(np.uint32) & np.uint32(2**word_bits - 1)


def ask(answer: Answer, x: np.ndarray, words: np.ndarray | None) -> np.ndarray | None:
    """The answer as an array; None where it refuses the class whole."""
    try:
        y = np.asarray(answer(x.copy()) if words is None else answer(x.copy(), words=words.copy()))
    except (LprefError, ValueError, ArithmeticError):
        return None
    return y if y.dtype.kind == "u" else y.astype(np.float64)


def packed(got: np.ndarray, x: np.ndarray, f: Format) -> bool:
    """Whether codes came two to a byte."""
    return f.bits == 4 and got.dtype.kind == "u" and x.size > 1 and got.size == -(-x.size // 2)


def definition(
    f: Format, x: np.ndarray, rounding: str, overflow: str, words: np.ndarray | None, word_bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """(codes, which inputs have one)."""
    try:
        return f.encode(x, rounding, overflow, words, word_bits if words is not None else None), np.ones(x.shape, bool)
    except (FormatError, NonFiniteError):
        if x.size == 1:
            return np.zeros(1, f.code_dtype), np.zeros(1, bool)
    order = np.argsort(np.where(np.isnan(x), np.inf, np.abs(x)), kind="stable")  # what is refused lies together: few halvings
    half = x.size // 2
    codes, defined = np.zeros(x.shape, f.code_dtype), np.zeros(x.shape, bool)
    for part in (order[:half], order[half:]):
        codes[part], defined[part] = definition(f, x[part], rounding, overflow, None if words is None else words[part], word_bits)
    return codes, defined


def share(got: np.ndarray | None, want: np.ndarray, defined: np.ndarray, x: np.ndarray, f: Format, nibble: str) -> float:
    """The share of inputs on which both say the same; refusing what the definition refuses is agreement."""
    if got is None:
        return float(np.mean(~defined))
    if packed(got, x, f):
        got = unpack(swapped(got[None], nibble), 4, x.size)[0]
    if got.dtype.kind == "u":
        bad = check.differing_codes(got, want, f)
    else:
        bad = check.differing_values(got, f.decode(want), "negative_zero" in f.targets)
    return float(np.mean(~bad & defined))

"""identify: which registered definition does a cast or quantizer follow? Every combination is tried and ranked by agreement.

    cast       rounding x overflow policy x (packed 4-bit codes) nibble order
    quantizer  scale rule with its settings x rounding x overflow policy x nibble order

The inputs are those on which definitions differ: ties, edges of the range, subnormals, specials; amax at the thresholds of the scale
rules, blocks of different size, zero blocks, NaN, infinities. Agreement is the mean over these classes of the share of equal answers, so
that a rare class (three infinities) counts as much as a large one. Definitions with the same answers everywhere are listed together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from lpref.conformance import check, inputs
from lpref.conformance.quantizers import QuantizerSuite, matrices
from lpref.conformance.targets.base import CastCase, QuantizeCase, Target
from lpref.ref.errors import FormatError, LprefError, NonFiniteError, SpecError
from lpref.ref.formats import Format
from lpref.ref.formats import format as format_of
from lpref.ref.quantize import QTensor, Quantizer, Scale, lookup, quantize
from lpref.ref.quantize.packing import unpack
from lpref.ref.random import bits
from lpref.ref.rounding import OVERFLOW, ROUNDINGS, default_word_bits, is_stochastic
from lpref.ref.scaling import rule as scale_rule

Answer = Callable[..., Any]
NIBBLES = ("low nibble first", "high nibble first")
MOST = 3000  # inputs of a class
FINALISTS = 6  # scale rules that are tried with every rounding and policy
CLASSES = ("blocks of different size", "ties", "amax at thresholds", "blocks of zeros", "powers of two", "a NaN", "an infinity")


@dataclass(frozen=True)
class Match:
    """One definition, or several that give the same answers here: settings as text, and their agreement."""

    settings: tuple[Mapping[str, str], ...]
    agreement: float

    @property
    def label(self) -> str:
        """``rounding nearest_even, overflow saturate | ocp_sat``: settings that differ among the definitions are listed."""
        keys = dict.fromkeys(key for s in self.settings for key in s)
        return ", ".join(f"{key} {' | '.join(dict.fromkeys(s[key] for s in self.settings if key in s))}" for key in keys)


@dataclass(frozen=True)
class Identification:
    """The definitions in order of agreement; prints as a table."""

    title: str
    matches: tuple[Match, ...]

    @property
    def best(self) -> Match:
        """The first."""
        return self.matches[0]

    def __str__(self) -> str:
        rows = [f"  {100 * m.agreement:8.4f} %  {m.label}" for m in self.matches]
        return "\n".join([f"{self.title}: agreement with each definition", *rows])

    def to_json(self) -> dict[str, Any]:
        """The same as data."""
        return {"title": self.title, "matches": [{"agreement": m.agreement, "settings": [dict(s) for s in m.settings]} for m in self.matches]}


def identify(answer: Target | Answer, case: CastCase | QuantizeCase, *, top: int = 8) -> Identification:
    """The `top` definitions closest to `answer`: a target, or a function of x (and words, for a stochastic rounding).

    `case` says the format, or the quantizer whose element format and blocks hold; its other settings are not believed, except that a
    stochastic rounding is sought among the stochastic ones, with words.

    >>> import lpref
    >>> found = identify(lambda x: lpref.format("e4m3").encode(x, "nearest_away"), CastCase("e4m3"))
    >>> found.best.agreement, found.best.settings[0]["rounding"]
    (1.0, 'nearest_away')
    """
    if isinstance(case, CastCase):
        ask = (lambda x, **words: answer.cast(x, case, **words)) if isinstance(answer, Target) else answer
        found = identify_cast(ask, case)
    else:
        ask = (lambda x, **words: answer.quantize(x, case, **words)) if isinstance(answer, Target) else answer
        found = identify_quantizer(ask, lookup(case.quantizer))
    name = answer.name if isinstance(answer, Target) else getattr(answer, "__qualname__", type(answer).__name__)
    return Identification(f"{name}, {case}", tuple(sorted(found, key=lambda m: -m.agreement)[:top]))


def grouped(results: Iterable[tuple[Mapping[str, str], bytes, float]]) -> list[Match]:
    """Definitions with equal answers (bytes) as one match."""
    groups: dict[bytes, tuple[list[Mapping[str, str]], float]] = {}
    for settings, key, agreement in results:
        groups.setdefault(key, ([], agreement))[0].append(settings)
    return [Match(tuple(settings), agreement) for settings, agreement in groups.values()]


def mean(shares: Iterable[float]) -> float:
    """The mean."""
    found = list(shares)
    return sum(found) / len(found)


# -- casts -------------------------------------------------------------------------------------------------------------
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


def policies_of(f: Format) -> dict[str, list[str]]:
    """The overflow policies, those that mean the same in this format under the first of them."""
    first: dict[tuple[str, ...], str] = {}
    groups: dict[str, list[str]] = {}
    for name, policy in OVERFLOW.items():
        means = []
        for source in ("finite", "infinity", "nan"):
            try:
                means.append(policy.resolve(source, f.targets, ""))
            except LprefError:
                means.append("raise")
        sign = policy.unsigned if not f.signed else ""
        groups.setdefault(first.setdefault((*means, sign), name), []).append(name)
    return groups


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


def swapped(codes: np.ndarray, nibble: str) -> np.ndarray:
    """Packed 4-bit codes with the first element in the low nibble."""
    return (codes << 4 | codes >> 4).astype(np.uint8) if nibble == NIBBLES[1] else codes


# -- quantizers --------------------------------------------------------------------------------------------------------
SETTINGS: dict[str, tuple[str, ...]] = {  # rule -> what is tried of it, beside the format of the stored scale
    "amax": ("pow2", "apply"), "te": ("pow2", "apply"), "mx": ("mode", "multiplier"), "nvfp4": ("apply", "select", "scale_max"),
    "absmean": ("apply",), "affine": ("apply",), "double": ("apply",), "bfp": ("mode",),
}  # fmt: skip
STORED = ("float32", "e8m0", "e4m3", "ue4m3", "ue5m3", "dynamic8")
NUMBERS: dict[str, tuple[float, ...]] = {"multiplier": (1.0, 0.75), "scale_max": (448.0, 256.0)}


def scale_rules(q: Quantizer) -> Iterator[tuple[str, Scale]]:
    """Every scale rule with every setting that its elements allow: (text, rule). The numbers eps, target and multiplier also as in q."""
    choices = scale_rule._CHOICES
    known = {f.name for f in fields(Scale)}
    for name in choices["rule"]:
        spaces: dict[str, tuple[Any, ...]] = {"format": STORED}
        spaces |= {k: choices[k] if k in choices else NUMBERS[k] for k in SETTINGS.get(name, ()) if k in known}
        if "multiplier" in spaces:
            spaces["multiplier"] = tuple(dict.fromkeys((*NUMBERS["multiplier"], q.scale.multiplier)))
        same = replace(q.scale, rule=name) if name == q.scale.rule else None
        for values in itertools.product(*spaces.values()):
            settings = dict(zip(spaces, values, strict=True))
            try:
                scale = replace(same, **settings) if same else Scale(**{"rule": name, "target": q.scale.target, **settings})
                replace(q, scale=scale)
            except SpecError:
                continue
            shown = [f"{k}={v}" for k, v in settings.items() if v != getattr(Scale, k) or k == "mode"]
            yield " ".join([name, *shown]), scale


@dataclass(frozen=True)
class Asked:
    """What a quantizer said of one matrix."""

    x: np.ndarray
    words: np.ndarray | None
    codes: np.ndarray | None  # as they came: packed or not; None where values came
    scales: np.ndarray | None
    values: np.ndarray | None
    tensor_scale: float = 1.0


def identify_quantizer(answer: Answer, q: Quantizer) -> list[Match]:
    """Scale rules first, under all roundings; the best of them with every overflow policy and nibble order."""
    q = replace(q, name="", standard="")
    suite = QuantizerSuite(answer, q, False)
    asked = [a for name, x in matrices(q) if name in CLASSES and (a := ask_quantizer(answer, smaller(x, q), suite)) is not None]
    if not asked:
        return []
    pairs = [a for a in asked if a.codes is not None and a.codes.shape != a.x.shape]
    nibbles = NIBBLES if pairs and format_of(q.format).bits == 4 else ("",)
    roundings = [r for r in ROUNDINGS if is_stochastic(r) == is_stochastic(q.rounding)]
    rules = list(scale_rules(q))
    for again in (True, False):
        groups = ranked(asked, q, rules, roundings[0], nibbles)[:FINALISTS]
        if again:  # rules with the same answers so far may part where the likeliest changes its own
            best = replace(q, scale=groups[0][0][1], rounding=roundings[0])
            found = (ask_quantizer(answer, x, suite) for _, x in QuantizerSuite(answer, best, False).edges())
            asked += [a for a in found if a is not None]
            rules = [named for group in groups for named in group]
    (usual, same), *others = policies_of(format_of(q.format)).items()
    tried = [tell(asked, q, g, r, usual, same, n) for g, r, n in itertools.product(groups, roundings, nibbles)]
    likely = sorted(tried, key=lambda t: -t[0][2])[:FINALISTS]
    tried += [tell(asked, q, t[1], t[2], overflow, same, t[3]) for t in likely for overflow, same in others]
    return grouped((settings, key, share) for (all_settings, key, share), *_ in tried for settings in all_settings)


Rules = list[tuple[str, Scale]]
Told = tuple[tuple[list[dict[str, str]], bytes, float], Rules, str, str]


def tell(asked: list[Asked], q: Quantizer, rules: Rules, rounding: str, overflow: str, policies: list[str], nibble: str) -> Told:
    """((settings of all definitions with these answers, the answers, agreement), rules, rounding, nibble order)."""
    d = replace(q, scale=rules[0][1], rounding=rounding, overflow=overflow)
    told = [agreement(a, d, nibble) for a in asked]
    order = {"order": nibble} if nibble else {}
    settings = [{"scale": name, "rounding": rounding, "overflow": policy, **order} for (name, _), policy in itertools.product(rules, policies)]
    return (settings, b"".join(k for _, k in told) + nibble.encode(), mean(s for s, _ in told)), rules, rounding, nibble


def ranked(asked: list[Asked], q: Quantizer, rules: Rules, rounding: str, nibbles: tuple[str, ...]) -> list[Rules]:
    """Scale rules by agreement under one rounding; rules with the same answers together."""
    groups: dict[bytes, tuple[float, Rules]] = {}
    for text, scale in rules:
        (_, key, share), *_ = max((tell(asked, q, [(text, scale)], rounding, "saturate", [], n) for n in nibbles), key=lambda t: t[0][2])
        groups.setdefault(key, (share, []))[1].append((text, scale))
    return [names for _, names in sorted(groups.values(), key=lambda g: -g[0])]


def smaller(x: np.ndarray, q: Quantizer) -> np.ndarray:
    """Whole blocks, about 16 x 128 elements; scales of a whole tensor or row keep it."""
    rows, columns = q.blocks.other or x.shape[0], q.blocks.k or x.shape[1]
    return x[: max(rows, 16 // rows * rows), : max(columns, 128 // columns * columns)]


def ask_quantizer(answer: Answer, x: np.ndarray, suite: QuantizerSuite) -> Asked | None:
    """None where it refuses."""
    words = suite.words(x.shape)
    try:
        got = answer(x.copy()) if words is None else answer(x.copy(), words=words.copy())
    except (LprefError, ValueError, ArithmeticError):
        return None
    if isinstance(got, QTensor):
        got = {"codes": got.codes, "scales": got.scales[0] if got.scales else None, "tensor_scale": got.tensor_scale}
    if not isinstance(got, Mapping):
        return Asked(x, words, None, None, np.asarray(got))
    scales, tensor = got.get("scales"), got.get("tensor_scale")
    return Asked(x, words, np.asarray(got["codes"]), None if scales is None else np.asarray(scales), None, 1.0 if tensor is None else float(tensor))


def agreement(a: Asked, d: Quantizer, nibble: str) -> tuple[float, bytes]:
    """(mean of the shares of equal scales and equal codes, the definition's answer as bytes)."""
    try:
        want = quantize(a.x, d, words=a.words)
    except LprefError:  # the definition refuses this matrix
        return 0.0, b"refused"
    scales = want.scale_values() if want.scales else np.ones((1, 1), np.float32)
    key = want.codes.tobytes() + scales.tobytes() + np.float32(want.tensor_scale).tobytes()
    if a.values is not None:
        wanted = want.dequantize(a.values.dtype)
        return float(np.mean(~check.differing_values(a.values.reshape(wanted.shape), wanted, False))), key
    assert a.codes is not None
    f = format_of(d.format)
    codes = a.codes if a.codes.shape == a.x.shape else unpack(swapped(a.codes, nibble), f.bits, a.x.shape[1])
    equal = [float(np.mean(~check.differing_codes(codes, want.unpacked(), f)))]
    if a.scales is not None:
        equal.append(scale_share(a.scales, want, scales))
    equal.append(float(np.isclose(a.tensor_scale, float(want.tensor_scale), rtol=0, atol=0, equal_nan=True)))
    return float(np.mean(equal)), key


def scale_share(theirs: np.ndarray, want: QTensor, values: np.ndarray) -> float:
    """The share of equal block scales; codes where unsigned integers of the same size came, values else."""
    if not want.scales or theirs.size != want.scales[0].size:
        return 0.0
    if theirs.dtype.kind == "u":
        return float(np.mean(theirs.reshape(want.scales[0].shape).astype(np.int64) == want.scales[0].astype(np.int64)))
    return float(np.mean(~check.differing_values(theirs.reshape(values.shape).astype(np.float64), values.astype(np.float64), False)))

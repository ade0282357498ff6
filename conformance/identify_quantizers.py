"""identify for block quantizers: every scale rule with its settings x rounding x overflow policy x nibble order.

Three rounds: the scale rules under one rounding; the likeliest of them under every rounding, with matrices that stand where the likeliest
changes its answers; the likeliest of those under every overflow policy.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from lpref.conformance import check
from lpref.conformance.matches import NIBBLES, Answer, Match, grouped, mean, policies_of, swapped
from lpref.conformance.quantizers import QuantizerSuite, matrices, parts
from lpref.ref.errors import LprefError, SpecError
from lpref.ref.formats import format as format_of
from lpref.ref.quantize import QTensor, Quantizer, Scale, quantize
from lpref.ref.quantize.packing import unpack
from lpref.ref.rounding import ROUNDINGS, is_stochastic
from lpref.ref.scaling import rule as scale_rule

FINALISTS = 6  # scale rules that are tried with every rounding, and those with every policy
CLASSES = ("blocks of different size", "ties", "amax at thresholds", "blocks of zeros", "powers of two", "a NaN", "an infinity")


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
    got = parts(got) if isinstance(got, QTensor) else got
    if not isinstance(got, Mapping):
        return Asked(x, words, None, None, np.asarray(got))
    scales, tensor = got.get("scales"), got.get("tensor_scale")
    scales = scales[0] if isinstance(scales, tuple | list) else scales
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

"""The vectors of a cast: inputs chosen from the definition's intervals, each with what it catches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lpref.conformance.intervals import ANY_NAN, INFINITY, NEGATIVE, REFUSED, Intervals, intervals
from lpref.conformance.stratified import specials
from lpref.conformance.targets.base import CastCase
from lpref.conformance.vectors.files import VERSION, VectorSet
from lpref.ref.formats import Format
from lpref.ref.formats import format as format_of
from lpref.ref.random import words
from lpref.ref.rounding import default_word_bits, is_stochastic

CATCHES = {
    "special": "signs of zero, infinities and NaNs of every kind: swapped, dropped, or payloads mistaken for numbers",
    "range": "overflow too early or too late; saturation, infinity and NaN swapped; a clamp before the rounding",
    "smallest": "a flush of subnormals of the format or of float32, a lost sign of zero, an underflow that is rounded twice",
    "tie": "a wrong tie rule",
    "beside a tie": "a lost sticky bit; rounding through another format first",
    "border": "a wrong direction, or a threshold off by one input",
    "value": "a wrong table of values; rounding what needs none",
    "spread": "whatever the other classes miss",
}
SPREAD = 64
PASSES = 5  # words of a stochastic file


def cast_set(case: CastCase, limit: int) -> VectorSet:
    """At most `limit` cases; special inputs and the ends of the range stay, the rest is thinned evenly."""
    f = format_of(case.format)
    r = case.word_bits or default_word_bits(f.bits)
    stochastic = is_stochastic(case.rounding)
    chosen = list(dict.fromkeys((0, 1, 1 << (r - 1), (1 << r) - 1, 0x9E3779B9 >> (32 - r))))[:PASSES] if stochastic else [0]
    header = {
        "lpref_vectors": VERSION, "op": "cast", "subject": f.name, "revision": f.revision, "standard": f.standard,
        "rounding": case.rounding, "overflow": case.overflow, **({"word_bits": r} if stochastic else {}), "code_bits": f.bits,
    }  # fmt: skip
    cases: list[dict[str, object]] = []
    nan_codes: list[int] = []
    for word in chosen:
        runs = intervals(f, case.rounding, case.overflow, word, r)
        nan_codes = sorted(runs.line.nan_codes)
        patterns, labels = thinned(runs, max(limit // len(chosen), 16))
        for pattern, label, code in zip(patterns.tolist(), labels, runs.expected(patterns).tolist(), strict=True):
            out = f.nan_code if code == ANY_NAN else code
            given = {"word": f"{word:#x}"} if stochastic else {}
            cases.append({"id": len(cases), "in": f"0x{pattern:08x}", **given, "out": f"0x{out:0{-(-f.bits // 4)}x}", "catches": label})
    used = {str(c["catches"]) for c in cases}
    header |= {"nan_codes": [f"{c:#x}" for c in nan_codes], "license": "CC0-1.0", "catches": {k: v for k, v in CATCHES.items() if k in used}}
    return VectorSet(f"cast-{f.name}-{case.rounding}-{case.overflow}", header, cases[:limit])


def thinned(runs: Intervals, limit: int) -> tuple[np.ndarray, list[str]]:
    """(uint32 patterns, what each catches): distinct, the most telling class first, refused inputs left out."""
    found: dict[int, str] = {}
    kept = {"special", "range", "smallest"}
    groups = list(classes(runs))
    for label, patterns in groups:
        room = limit - len(found) - (SPREAD if label != "spread" else 0)
        fresh = [p for p in dict.fromkeys(patterns.tolist()) if p not in found]
        fresh = [p for p, code in zip(fresh, runs.expected(np.array(fresh, np.uint32)).tolist(), strict=True) if code != REFUSED]
        share = len(fresh) if label in kept else max(room, 0) if label in ("value", "spread") else max(room * 2 // 3, 0)
        step = -(-len(fresh) // share) if share else 0
        found.update(dict.fromkeys(fresh[::step] if step else [], label))
    patterns = np.array(list(found)[:limit], np.uint32)
    return patterns, list(found.values())[:limit]


def classes(runs: Intervals) -> Iterator[tuple[str, np.ndarray]]:
    """(what they catch, patterns), most telling first."""
    f = runs.format
    starts = runs.starts[(runs.starts & (NEGATIVE - 1) > 0) & (runs.starts & (NEGATIVE - 1) <= INFINITY)]
    yield "special", specials()
    last = [s for sign in (0, NEGATIVE) for s in starts[(starts & NEGATIVE == sign) & (starts & (NEGATIVE - 1) < INFINITY)][-2:]]
    ends = np.array([*last, INFINITY - 1, INFINITY - 1 + NEGATIVE], np.int64)
    yield "range", _clip((ends[:, None] + [0, -1, 1]).reshape(-1))
    tiny = [s for sign in (0, NEGATIVE) for s in starts[starts & NEGATIVE == sign][:2]]
    small = np.array([*tiny, 1, 0x7FFFFF, 0x800000, NEGATIVE + 1, NEGATIVE + 0x7FFFFF], np.int64)
    yield "smallest", _clip((small[:, None] + [0, -1, 1]).reshape(-1))
    pairs = np.stack([starts - 1, starts], 1)
    tied = ties(f, runs, pairs)
    yield "tie", pairs[tied].astype(np.uint32)
    beside = pairs[tied.any(1)]
    around = np.concatenate([beside[:, 0] - 1, beside[:, 0], beside[:, 1], beside[:, 1] + 1])
    yield "beside a tie", _interleaved(_clip(around))
    yield "border", pairs[~tied.any(1)].reshape(-1).astype(np.uint32)
    with np.errstate(over="ignore"):
        values = f.table()[0]
        held = values.astype(np.float32)
    yield "value", held[held == values].view(np.uint32)
    yield "spread", words(0, 12, 0, 0, SPREAD)


def ties(f: Format, runs: Intervals, pairs: np.ndarray) -> np.ndarray:
    """Which of the patterns beside a border lie exactly half way between the values of the two codes."""
    codes = runs.expected(pairs.reshape(-1).astype(np.uint32)).reshape(pairs.shape)
    values = np.where(codes >= 0, f.decode(np.maximum(codes, 0).astype(np.uint64)), np.nan)
    with np.errstate(invalid="ignore"):
        x = pairs.astype(np.uint32).view(np.float32).astype(np.float64)
        found: np.ndarray = 2 * x == values[:, :1] + values[:, 1:]
    return found


def _clip(points: np.ndarray) -> np.ndarray:
    return points[(points >= 0) & (points < 2 * NEGATIVE)].astype(np.uint32)


def _interleaved(points: np.ndarray) -> np.ndarray:
    """By magnitude, so that thinning out keeps neighbours of every size."""
    ordered: np.ndarray = points[np.argsort(points & np.uint32(NEGATIVE - 1), kind="stable")]
    return ordered

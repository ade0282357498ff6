"""What a cast kernel needs to know: a format, a rounding and an overflow policy as a few integers.

Nothing is defined here: results beyond the range, infinities and NaN are asked of the format itself, thresholds are
found by bisection of its `encode` over the ordered float32 values. A cast that would raise is left to the definition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from lpref.accel.cpu.cast_kernels import FIELDS
from lpref.ref.errors import LprefError
from lpref.ref.formats import FloatFormat, Format, IntFormat
from lpref.ref.rounding import Overflow, Rounding

BASES = {  # rounding -> base, c_odd, c_neg of the kernels' `add`
    "nearest_even": (0x7FFFFFFF, 1, 0),
    "nearest_away": (0x80000000, 0, 0),
    "nearest_toward_zero": (0x7FFFFFFF, 0, 0),
    "toward_zero": (0, 0, 0),
    "toward_positive": (0xFFFFFFFF, 0, 1),
    "toward_negative": (0, 0, 0xFFFFFFFF),
    "to_odd": (0xFFFFFFFF, 1, 0),
}
INFINITY_BITS = 0x7F800000
NEVER = 0xFFFFFFFF


@dataclass(frozen=True)
class Plan:
    """How to run one cast. kind: shift | clamp | any | steps | definition."""

    kind: str
    scalars: np.ndarray  # uint32, `FIELDS`
    raises_above: int = NEVER  # magnitude bits above which the definition must speak: it raises
    thresholds: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    codes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint32))
    specials: np.ndarray = field(default_factory=lambda: np.zeros(3, np.uint32))
    drop_sign: bool = False


@lru_cache(maxsize=512)
def plan(f: Format, rule: Rounding, policy: Overflow) -> Plan:
    """The plan of a cast from float32."""
    outcome, raises_above = _outcomes(f, rule, policy)
    empty = np.zeros(len(FIELDS), np.uint32)
    if raises_above < 0:
        return Plan("definition", empty)
    fields = _integer_fields(f) if isinstance(f, IntFormat) else _float_fields(f)
    if fields is None:
        if f.bits > 8 or rule.stochastic:
            return Plan("definition", empty)
        return _steps(f, rule, policy, outcome, raises_above)
    base, c_odd, c_neg = BASES.get(rule.name, (0, 0, 0))
    drop = policy.unsigned == "absolute" and not f.signed
    fields |= outcome | {"base": base, "c_odd": c_odd, "c_neg": c_neg, "use_sign": int(not drop)}
    scalars = np.array([fields[name] for name in FIELDS], np.uint32)
    if isinstance(f, FloatFormat) and f.signed and f.zero == "signed" and _clamps(fields, f):
        scalars[FIELDS.index("limit_pos")] = fields["over_pos"]
        same_exponent = f.bias == 127 and 1 <= f.trailing_bits < 23
        return Plan("shift" if same_exponent else "clamp", scalars, raises_above)
    return Plan("any", scalars, raises_above)


def _clamps(fields: dict[str, int], f: FloatFormat) -> bool:
    """Overflow and infinity have one code, next to or at the largest finite one, with the sign in its bit."""
    one = fields["over_pos"] == fields["inf_pos"] and f.max_code <= fields["over_pos"] <= f.max_code + 1
    return one and fields["over_neg"] == fields["inf_neg"] == fields["over_pos"] | fields["sign"]


def _outcomes(f: Format, rule: Rounding, policy: Overflow) -> tuple[dict[str, int], int]:
    """Codes of what is beyond the range, asked of the format; and the magnitude bits above which something raises."""
    found: dict[str, int] = {}
    raises_above = NEVER
    largest = int(np.float32(f.max).view(np.uint32)) if f.max < 3.4e38 else INFINITY_BITS - 1
    beyond = {"over": largest, "inf": INFINITY_BITS - 1, "nan": INFINITY_BITS}
    word = np.zeros((), np.uint32) if rule.stochastic else None
    cases = (("over_pos", 1e308), ("over_neg", -1e308), ("inf_pos", np.inf), ("inf_neg", -np.inf), ("nan", np.nan))
    for name, x in cases:
        try:
            found[name] = int(f.encode(x, rule, policy, word))
        except LprefError:
            found[name] = 0
            raises_above = min(raises_above, beyond[name[:4].rstrip("_")])
            if name == "over_neg" and not f.signed:
                raises_above = -1  # every negative value may raise
    return found, raises_above


def _float_fields(f: Format) -> dict[str, int] | None:
    """The scalars of an ExMy format whose grid lies on float32's, None for the others."""
    if not isinstance(f, FloatFormat) or f.subnormals != "yes" or not f.tie.startswith("even"):
        return None
    if not (1 <= f.emin + 127 and f.trailing_bits <= 23 and f.emax <= 127 and f.bits <= 32):
        return None
    sign = 1 << (f.bits - 1) if f.signed else 0
    return {
        "shift": 23 - f.trailing_bits, "emin": f.emin + 127, "limit_pos": f.max_code,
        "limit_neg": f.max_code if f.signed else 0, "sign": sign, "sign_of_zero": sign if f.zero == "signed" else 0,
        "flip": 0, "one": 0, "mask": 2**f.bits - 1,
    }  # fmt: skip


def _integer_fields(f: IntFormat) -> dict[str, int]:
    """An integer is a format with spacing 1: 23 trailing bits, all of float32's below 2^23 among the subnormals."""
    return {
        "shift": 0, "emin": 150, "limit_pos": int(f.max), "limit_neg": int(-f.min), "sign": 0, "sign_of_zero": 0,
        "flip": 0xFFFFFFFF, "one": 1, "mask": 2**f.bits - 1,
    }  # fmt: skip


def _from_key(key: np.ndarray) -> np.ndarray:
    """Ordered int64 keys -> float32 values; -1 is -0, 0 is +0."""
    bits = np.where(key >= 0, key, (-1 - key) | 0x80000000)
    return bits.astype(np.uint32).view(np.float32)


def _first(low: np.ndarray, high: np.ndarray, holds: object) -> np.ndarray:
    """The smallest key in low .. high where the monotone predicate holds (high where nowhere below it)."""
    while (low < high).any():
        middle = (low + high) >> 1
        yes = holds(middle)  # type: ignore[operator]
        low, high = np.where(yes | (low >= high), low, middle + 1), np.where(yes, middle, high)
    return low


def _steps(f: Format, rule: Rounding, policy: Overflow, outcome: dict[str, int], raises_above: int) -> Plan:
    """The cast as a step function of the ordered finite float32 values."""
    drop = policy.unsigned == "absolute" and not f.signed
    saturate = Overflow("max", "max", policy.nan, policy.unsigned)
    minus_zero, zero = (int(c) for c in f.encode(np.array([-0.0, 0.0], np.float32), "toward_zero", saturate))
    ordered = f.table()[1].astype(np.int64).tolist()
    if minus_zero != zero and minus_zero not in ordered:
        ordered.insert(ordered.index(zero), minus_zero)
    rank = np.zeros(2**f.bits, np.int64)
    rank[ordered] = np.arange(len(ordered))
    lowest, highest = (0 if drop else -INFINITY_BITS), INFINITY_BITS - 1
    want = np.arange(1, len(ordered))
    low, high = np.full(want.shape, lowest), np.full(want.shape, highest)
    keys = _first(low, high, lambda k: rank[f.encode(_from_key(k), rule, saturate)] >= want).tolist()
    if outcome["over_pos"] != ordered[-1] and raises_above >= INFINITY_BITS - 1:
        start, code = np.array([keys[-1]]), ordered[-1]
        keys += _first(start, np.array([highest + 1]), lambda k: _differs(f, k, rule, policy, code, highest)).tolist()
        ordered = [*ordered, outcome["over_pos"]]
    if outcome["over_neg"] != ordered[0] and not drop and raises_above >= INFINITY_BITS - 1:
        code, below = ordered[0], np.array([lowest])
        keys = (
            _first(below, np.array([keys[0]]), lambda k: f.encode(_from_key(k), rule, policy) == code).tolist() + keys
        )
        ordered = [outcome["over_neg"], *ordered]
    size, entries = (511, 512) if len(keys) > 15 else (len(keys), len(ordered))
    thresholds = np.full(size, np.iinfo(np.int32).max, np.int32)
    thresholds[: len(keys)] = keys
    codes = np.full(entries, ordered[-1], np.uint32)
    codes[: len(ordered)] = ordered
    specials = np.array([outcome["inf_pos"], outcome["inf_neg"], outcome["nan"]], np.uint32)
    return Plan("steps", np.zeros(len(FIELDS), np.uint32), raises_above, thresholds, codes, specials, drop)


def _differs(f: Format, key: np.ndarray, rule: Rounding, policy: Overflow, code: int, highest: int) -> np.ndarray:
    """Is the cast of this key something else than `code`? Beyond the largest finite key: yes."""
    return (key > highest) | (f.encode(_from_key(np.minimum(key, highest)), rule, policy) != code)

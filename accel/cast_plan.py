"""What a cast kernel needs to know: a format, a rounding and an overflow policy as a few integers.

Nothing is defined here: results beyond the range, infinities and NaN are asked of the format itself. A float or integer format needs a
few scalars; any other of at most 16 bits gets `cells`. A cast that would raise is left to the definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from lpref.accel.cells import HIGHEST, INFINITY_BITS, Cells, Neighbours, cells, neighbours
from lpref.ref.errors import LprefError
from lpref.ref.formats import FORMATS, FixedFormat, FloatFormat, Format, IntFormat
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
FIELDS = (
    "shift", "emin", "limit_pos", "limit_neg", "over_pos", "over_neg", "inf_pos", "inf_neg", "nan", "sign",
    "sign_of_zero", "flip", "one", "mask", "use_sign", "base", "c_odd", "c_neg",
)  # fmt: skip
"""The scalars of a plan, in the order of the uint32 array that the kernels take."""

VARIANTS = {"stochastic": 0, "stochastic_b": 1, "stochastic_c": 2}
NEVER = 0xFFFFFFFF


def same_exponent(f: Format) -> bool:
    """Whether the format is float32's upper part."""
    return isinstance(f, FloatFormat) and f.bias == 127 and f.exponent_bits == 8 and f.specials == "ieee" and f.signed


@cache
def in_float32(f: Format) -> bool:
    """Are all values of the format float32 values (or rounded by decode in any case)?"""
    if same_exponent(f):
        return f.bits <= 32
    if f.bits > 16:
        return False
    values = f.table()[0]
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    return bool(np.array_equal(near, values)) or (not f.exact and bool(np.isfinite(near).all() and (values[near == 0] == 0).all()))


@dataclass(frozen=True)
class Plan:
    """How to run one cast. kind: shift | clamp | any | cells | neighbours | binary64 | definition."""

    kind: str
    scalars: np.ndarray  # uint32, `FIELDS`
    raises_above: int = NEVER  # magnitude bits above which the definition must speak: it raises
    cells: Cells | None = None
    neighbours: Neighbours | None = None


@lru_cache(maxsize=128)
def plan(f: Format, rule: Rounding, policy: Overflow) -> Plan:
    """The plan of a cast from float32."""
    if f == FORMATS["float64"]:  # every finite float32 is a value of it
        return Plan("binary64", np.zeros(len(FIELDS), np.uint32), HIGHEST)
    outcome, raises_above = outcomes(f, rule, policy)
    empty = np.zeros(len(FIELDS), np.uint32)
    if raises_above < 0:
        return Plan("definition", empty)
    fields = None
    if rule.name in BASES or rule.name in VARIANTS:
        fields = _integer_fields(f) if isinstance(f, IntFormat) else float_fields(f)
    if fields is None:
        return _table(f, rule, policy, raises_above)
    base, c_odd, c_neg = BASES.get(rule.name, (0, 0, 0))
    drop = policy.unsigned == "absolute" and not f.signed
    fields |= outcome | {"base": base, "c_odd": c_odd, "c_neg": c_neg, "use_sign": int(not drop)}
    scalars = np.array([fields[name] for name in FIELDS], np.uint32)
    if isinstance(f, FloatFormat) and f.signed and f.zero == "signed" and _clamps(fields, f):
        scalars[FIELDS.index("limit_pos")] = fields["over_pos"]
        shifted = f.bias == 127 and 1 <= f.trailing_bits < 23
        return Plan("shift" if shifted else "clamp", scalars, raises_above)
    return Plan("any", scalars, raises_above)


def _table(f: Format, rule: Rounding, policy: Overflow, raises_above: int) -> Plan:
    """Formats and roundings without a formula."""
    empty = np.zeros(len(FIELDS), np.uint32)
    table, near = None, None
    if f.bits <= 16 and not rule.stochastic:
        table = cells(f, rule, policy, raises_above)
    elif f.bits <= 16 and rule.name in VARIANTS:
        near = neighbours(f, policy, raises_above)
    return Plan("cells" if table else "neighbours" if near else "definition", empty, raises_above, table, near)


def _clamps(fields: dict[str, int], f: FloatFormat) -> bool:
    """Overflow and infinity have one code, next to or at the largest finite one, with the sign in its bit."""
    one = fields["over_pos"] == fields["inf_pos"] and f.max_code <= fields["over_pos"] <= f.max_code + 1
    return one and fields["over_neg"] == fields["inf_neg"] == fields["over_pos"] | fields["sign"]


def outcomes(f: Format, rule: Rounding, policy: Overflow) -> tuple[dict[str, int], int]:
    """Codes of what is beyond the range, asked of the format; and the magnitude bits above which something raises."""
    found: dict[str, int] = {}
    raises_above = NEVER
    beyond = {"over": _magnitude(min(f.max, -f.min) if f.signed else f.max), "inf": HIGHEST, "nan": INFINITY_BITS}
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


def _magnitude(x: float) -> int:
    """The bits of the largest float32 that is at most x > 0."""
    near = np.float32(min(x, float(np.finfo(np.float32).max)))
    return int(near.view(np.uint32)) - int(float(near) > x)


def float_fields(f: Format) -> dict[str, int] | None:
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


def _integer_fields(f: IntFormat) -> dict[str, int] | None:
    """An integer is a format with one spacing: 23 trailing bits, all of float32's below 2^23 spacings among the subnormals."""
    units = f.fraction_bits if isinstance(f, FixedFormat) else 0
    if f.bits > 24 or units > 149:
        return None
    return {
        "shift": 0, "emin": 150 - units, "limit_pos": int(f.max * 2**units), "limit_neg": int(-f.min * 2**units),
        "sign": 0, "sign_of_zero": 0,
        "flip": 0xFFFFFFFF, "one": 1, "mask": 2**f.bits - 1,
    }  # fmt: skip

r"""INTb, UINTb: integers of 1 to 16 bits, two's complement.

    intb:  value(c) = c for c < 2^(b-1), c - 2^b otherwise          range -2^(b-1) .. 2^(b-1) - 1
    uintb: value(c) = c                                             range 0 .. 2^b - 1

One zero, no NaN, no infinity; ties go to the even integer under `nearest_even`. Saturation clamps to the whole range;
the symmetric ("narrow") range -(2^(b-1) - 1) .. 2^(b-1) - 1 is a field of quantizers, not a format.

int1 is the sign: codes 0 -> +1, 1 -> -1, and sgn(0) = sgn(-0) = +1, the same in every rounding (between its two values
no x has a neighbour nearer to zero).

Sums: an int8 x int8 dot product of length K stays inside int32 for K 127^2 < 2^31, K <= 133144 (K <= 131071 with -128).
Gradient: straight through, or zero outside the range (clipped); learned scales have LSQ's (page `learned`).

Source: two's complement as in NumPy's and ml_dtypes' integers (compared code by code); sgn(0) = +1: see `ternary`.
Pitfalls: -128 has no positive partner; infinity to an integer is undefined in C and in torch (here: the policy); rint
(ties to even) and roundf (ties away) differ on every tie; scales of amax / 127, amax / 127.5 and
2 amax / 255 are three different quantizers; x / s and x * (1 / s) differ in the last code near ties.

>>> INTEGERS["int4"].encode([-9, -7.5, -0.5, 0.5, 1.5, 100]).tolist()
[8, 8, 0, 0, 2, 7]
>>> INTEGERS["int1"].decode(INTEGERS["int1"].encode([-0.1, -0.0, 3])).tolist()
[-1.0, 1.0, 1.0]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lpref.ref.formats.base import Format
from lpref.ref.formats.codebook import CodebookFormat
from lpref.ref.rounding import Remainder


@dataclass(frozen=True, kw_only=True)
class IntFormat(Format):
    """A two's complement or unsigned integer."""

    is_signed: bool = True

    @property
    def signed(self) -> bool:
        return self.is_signed

    @property
    def precision(self) -> int:
        return self.bits - self.is_signed

    @property
    def max(self) -> float:
        return float(2 ** (self.bits - self.is_signed) - 1)

    @property
    def min(self) -> float:
        return -float(2 ** (self.bits - 1)) if self.is_signed else 0.0

    @property
    def min_normal(self) -> float:
        return 1.0

    @property
    def min_subnormal(self) -> float:
        return 1.0

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        values = codes.astype(np.float64)
        return np.where(values > self.max, values - 2.0**self.bits, values) if self.is_signed else values

    def _locate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | int, Remainder]:
        inside = np.clip(x, -(2.0**40), 2.0**40)  # beyond the range nothing but the sign matters
        whole = np.trunc(inside)
        position, negative = whole.astype(np.int64), x < 0
        odd = position % 2 == 1
        remainder = Remainder(np.abs(inside - whole), 1.0, odd, self.tie_up(odd, negative), negative)
        return position, np.where(negative, -1, 1), remainder

    def _finish(self, position: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inside = np.clip(position, int(self.min), int(self.max))
        return (inside & (2**self.bits - 1)).astype(np.uint64), inside != position

    def _target_code(self, target: str, negative: np.ndarray) -> np.ndarray:
        value = np.where(negative, int(self.min), int(self.max)) if target == "max" else np.zeros(negative.shape, int)
        return (value & (2**self.bits - 1)).astype(np.uint64)


_STANDARD = "two's complement integers; 1 bit: the sign, sgn(0) = +1"


def integer(bits: int, signed: bool = True) -> Format:
    """intb or uintb."""
    name = f"{'' if signed else 'u'}int{bits}"
    title = f"{bits}-bit {'signed' if signed else 'unsigned'} integer"
    if name == "int1":
        return CodebookFormat(
            name=name, bits=1, title="the sign", standard=_STANDARD, source_level="read", module=__name__,
            tie="up", values=(1.0, -1.0),
        )  # fmt: skip
    return IntFormat(
        name=name, bits=bits, title=title, standard=_STANDARD, source_level="secondary", module=__name__,
        is_signed=signed,
    )  # fmt: skip


INTEGERS: dict[str, Format] = {f.name: f for s in (True, False) for f in (integer(b, s) for b in range(1, 17))}

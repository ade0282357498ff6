r"""fixed{W}.{F} and ufixed{W}.{F}: fixed point, W bits in all, F of them behind the binary point.

    value = i 2^-F,   i a W-bit two's complement integer (ufixed: unsigned)
    range -2^(W-1-F) .. 2^(W-1-F) - 2^-F,   spacing 2^-F everywhere

fixed16.8 runs from -128 to 127.99609375. Q(IL, FL) of the training literature has IL = W - F with the sign inside IL:
fixed16.8 is Q(8, 8). ARM's Qm.n leaves the sign out of m (Q7.8), Texas Instruments' too; so names here say W and F.
F may be larger than W (all values below 1/2). fixed{W}.0 is int{W}; fixed8.6 is the element of MXINT8, values i / 64,
-2 .. 127/64, 256 of them, one zero.

Ties go to the even integer under `nearest_even`. What rounds beyond the range is an overflow (`saturate` clamps;
wrapping is a matter of accumulators, not of conversions). No NaN, no infinity, no -0. Inside the range stochastic
rounding has the mean x.
Gradient: straight through.

Source: Deep learning with limited numerical precision, arXiv 1502.02551, sec. 3 (Q(IL, FL), step 2^-FL, range
-2^(IL-1) .. 2^(IL-1) - 2^-FL: after a report of it); OCP MX v1.0, sec. 5.3.4 (INT8 element, read: -2 may be unused).
Pitfalls: the two meanings of Qm.n; the largest value is not a power of two, and 2^(W-1-F) saturates; microxcaling clamps
MXINT8 symmetrically to +-127/64 and never makes -2 (`narrow` of a quantizer here).

>>> f = fixed(16, 8)
>>> f.min, f.max, f.encode([1.0, -1.0, 0.001953125, 0.005859375, 1e9]).tolist()
(-128.0, 127.99609375, [256, 65280, 0, 2, 32767])
>>> fixed(8, 6).decode([0x7F, 0x80, 0xFF]).tolist()
[1.984375, -2.0, -0.015625]
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from lpref.ref.errors import FormatError
from lpref.ref.formats.integers import IntFormat
from lpref.ref.rounding import Remainder


@dataclass(frozen=True, kw_only=True)
class FixedFormat(IntFormat):
    """An integer in units of 2^-fraction_bits."""

    fraction_bits: int

    @property
    def unit(self) -> float:
        """The spacing."""
        return 2.0**-self.fraction_bits

    @property
    def max(self) -> float:
        return super().max * self.unit

    @property
    def min(self) -> float:
        return super().min * self.unit

    @property
    def min_normal(self) -> float:
        return self.unit

    @property
    def min_subnormal(self) -> float:
        return self.unit

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        values = codes.astype(np.float64)
        half = 2.0 ** (self.bits - 1)
        return np.where(self.is_signed & (values >= half), values - 2 * half, values) * self.unit

    def _locate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | int, Remainder]:
        edge = 2.0 ** (self.bits + 2 - self.fraction_bits)  # beyond the range nothing but the sign matters
        return super()._locate(np.clip(x, -edge, edge) / self.unit)

    def _finish(self, position: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inside = np.clip(position, int(self.min / self.unit), int(self.max / self.unit))
        return (inside & (2**self.bits - 1)).astype(np.uint64), inside != position

    def _target_code(self, target: str, negative: np.ndarray) -> np.ndarray:
        ends = np.where(negative, int(self.min / self.unit), int(self.max / self.unit))
        return ((ends if target == "max" else 0 * ends) & (2**self.bits - 1)).astype(np.uint64)


def fixed(bits: int, fraction_bits: int, signed: bool = True) -> FixedFormat:
    """fixed{bits}.{fraction_bits}, ufixed{bits}.{fraction_bits}.

    Raises: FormatError outside 2 .. 32 bits (ufixed: 1 .. 32) and 0 .. 64 fraction bits.
    """
    name = f"{'' if signed else 'u'}fixed{bits}.{fraction_bits}"
    if not (1 + signed <= bits <= 32 and 0 <= fraction_bits <= 64):
        raise FormatError(
            f"{bits} bits, {fraction_bits} behind the point", where=f"format {name!r}",
            remedy=f"{1 + signed} .. 32 bits, 0 .. 64 of them behind the point",
        )  # fmt: skip
    return FixedFormat(
        name=name, bits=bits, title=f"{'' if signed else 'unsigned '}fixed point, {bits} bits, {fraction_bits} behind the point",
        standard="arXiv 1502.02551, sec. 3", source_level="secondary", module=__name__, is_signed=signed,
        tie="even_significand", fraction_bits=fraction_bits,
    )  # fmt: skip


def parse(name: str) -> FixedFormat | None:
    """The format of a family name, None for names of another shape.

    >>> parse("ufixed8.8").max, parse("fixed8")
    (0.99609375, None)
    """
    match = re.fullmatch(r"(u?)fixed(\d{1,2})\.(\d{1,2})", name)
    return None if match is None else fixed(int(match[2]), int(match[3]), not match[1])


FIXED16_8 = fixed(16, 8)
FIXED8_6 = fixed(8, 6)

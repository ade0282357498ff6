r"""What a block quantizer does to one block, as two step functions with exact thresholds: amax -> scale code, element -> code.

Microscaling (t = 2^emax m the largest element value, M its trailing bits): the scale exponent is at least e from these amax on,

| mode     | from                                                         |
|----------|--------------------------------------------------------------|
| floor    | amax >= 2^(e + emax)                                         |
| ceil     | amax >  2^(e - 1 + emax)                                     |
| even     | amax >= 2^(e - 1 + emax) (2 - 2^-(M+1))                      |
| midmax   | amax >= 2^(e - 1 + emax) (m + 2)/2                           |
| rceil    | fl32(amax fl32(1/t)) > 2^(e-1)                               |
| tetrajet | fl32(amax / t) > 2^(e-1)                                     |

NVFP4 under a tensor amax: the E4M3 code is at least c from the amax on where fl32(amax mult) reaches the border of c. A rounded product
reaches a float32 v where the exact one reaches the midpoint below v (a tie goes to the even significand), which is a rational number. An
element's code depends on nothing but the scale (and the tensor's) and the element: that is the factorisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lpref.conformance.intervals import ANY_NAN, INFINITY, Intervals, intervals, pattern_above
from lpref.ref.errors import SpecError
from lpref.ref.formats import format as format_of
from lpref.ref.quantize import Quantizer

FLT_MAX = np.finfo(np.float32).max


@dataclass(frozen=True)
class BlockDefinition:
    """starts[j] … starts[j + 1] - 1: magnitude patterns of amax (up to all NaNs) whose scale code is codes[j] (or ANY_NAN)."""

    quantizer: Quantizer
    starts: np.ndarray  # int64 [n + 1], from 0 to 2^31
    codes: np.ndarray  # int64 [n]
    elements: Intervals
    tensor_scale: np.float32  # S of NVFP4, else 1

    def scale_codes(self, patterns: np.ndarray) -> np.ndarray:
        """Scale code of each amax, given as uint32 magnitude patterns."""
        return self.codes[np.searchsorted(self.starts, patterns.astype(np.int64), "right") - 1]

    def element_codes(self, x: np.ndarray, scale_code: int) -> np.ndarray:
        """The code of each element (float32) of a block with this scale code."""
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            if self.quantizer.scale.rule == "mx":
                u = np.ldexp(x.astype(np.float64), 127 - scale_code).astype(np.float32)  # one rounding
                if self.quantizer.scale.multiplier != 1:
                    u = (u.astype(np.float64) * np.float32(self.quantizer.scale.multiplier)).astype(np.float32)
            else:
                d = np.float32(format_of("e4m3").decode(np.uint64(scale_code)))
                factor = min(np.float32(1) / (d * (np.float32(1) / self.tensor_scale)), FLT_MAX)
                u = x * np.float32(factor)
        if self.quantizer.narrow and self.elements.format.min < -self.elements.format.max:
            u = np.maximum(u, np.float32(-self.elements.format.max))
        return self.elements.expected(u.view(np.uint32))


def block_definition(q: Quantizer, tensor_amax: float = 2688.0) -> BlockDefinition:
    """The step functions of an MX or NVFP4 quantizer.

    Raises: SpecError for other rules, for tiles, stochastic roundings, and what changes infinities.
    """
    s, f = q.scale, format_of(q.format)
    usable = (s.rule == "mx" or (s.rule == "nvfp4" and s.apply == "te_nvfp4" and s.select == "none" and s.scale_max == 448)) and q.blocks.other == 1
    if not usable or s.nonfinite != "propagate" or q.rounding.startswith("stochastic"):
        raise SpecError([f"{q.name}: proofs by factorisation are for MX and NVFP4 in rows, deterministic"], where="block_definition")
    elements = intervals(f, q.rounding, q.overflow)
    scale = np.float32(1)
    if s.rule == "mx":
        target = Fraction(f.max if s.target is None else s.target)
        emax = _floor_log2(target)
        trailing = (f.precision or 1) - 1
        firsts = [(_mx_first(s.mode, c - 127, target, emax, trailing), c) for c in range(1, 255)]
        ends = [(INFINITY, ANY_NAN)]
    else:
        with np.errstate(over="ignore"):
            scale = np.float32(min(np.float32(448 * 6) / np.float32(tensor_amax), FLT_MAX))
        factor = Fraction(float(scale * (np.float32(1) / np.float32(6))))
        codes = intervals(format_of("e4m3"), "nearest_even", "saturate")
        firsts = [(_product_reaches(int(a), factor), int(c)) for a, c in zip(codes.starts, codes.codes, strict=False) if 0 < a < INFINITY]
        ends = [(INFINITY, 0x7E), (INFINITY + 1, ANY_NAN)]
    starts, found = [0], [0]
    for start, code in [*((a, c) for a, c in firsts if a < INFINITY), *ends]:
        if start == starts[-1]:
            found[-1] = code
        else:
            starts.append(start)
            found.append(code)
    return BlockDefinition(q, np.array([*starts, 1 << 31], np.int64), np.array(found, np.int64), elements, scale)


def _mx_first(mode: str, e: int, target: Fraction, emax: int, trailing: int) -> int:
    """The first amax pattern whose exponent is at least e."""
    below = Fraction(2) ** (e - 1 + emax)
    if mode in ("rceil", "tetrajet"):
        power = Fraction(2) ** (e - 1)
        over = power + max(power / 2**24, Fraction(1, 2**150))  # half a unit above; a tie goes down to the power of two
        factor = Fraction(float(np.float32(1) / np.float32(float(target)))) if mode == "rceil" else 1 / target
        return pattern_above(over / factor, 1, strict=True)
    border = {
        "floor": 2 * below, "ceil": below, "even": below * (2 - Fraction(1, 2 ** (trailing + 1))),
        "midmax": below * (target / Fraction(2) ** emax + 2) / 2,
    }  # fmt: skip
    return pattern_above(border[mode], 1, strict=mode == "ceil")


def _product_reaches(pattern: int, factor: Fraction) -> int:
    """The first x >= 0 with fl32(x factor) >= the float32 of `pattern`."""
    low, high = (Fraction(float(np.uint32(p).view(np.float32))) for p in (pattern - 1, pattern))
    return pattern_above((low + high) / 2 / factor, 1, strict=pattern % 2 == 1)


def _floor_log2(v: Fraction) -> int:
    e = v.numerator.bit_length() - v.denominator.bit_length()
    return e if Fraction(2) ** e <= v else e - 1

"""`BlockScales`: what every scale rule returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lpref.ref.formats import format as format_named

FLT_MAX = np.float32(np.finfo(np.float32).max)
TINIEST = np.float32(2.0**-149)
ONE = np.float32(1)


@dataclass(frozen=True)
class BlockScales:
    """Scales of the block grid.

    codes         stored scale codes: uint8 (e8m0, e4m3) or the uint32 bit patterns of float32 scales
    values        float32 decode scales, without the tensor scale; NaN marks a block that decodes to NaN whole
    factor        float32, what an element is divided by or multiplied with
    operation     divide | multiply
    tensor_scale  float32, the second level
    elements      float32 [R, C], what is cast, where that is not the quotient (or product) of element and factor
    zero          int32 zero points of the grid
    more          codes of further scale levels, stored behind `codes`
    aux           what decoding needs besides, by name
    residual      scales of a second tensor that is added (trit planes)
    """

    codes: NDArray
    values: NDArray[np.float32]
    factor: NDArray[np.float32]
    operation: Literal["divide", "multiply"]
    tensor_scale: np.float32 = ONE
    elements: NDArray[np.float32] | None = None
    zero: NDArray[np.int32] | None = None
    more: tuple[NDArray, ...] = ()
    aux: Mapping[str, Any] | None = None
    residual: BlockScales | None = None


def power_of_two(s: NDArray, direction: str) -> NDArray[np.float32]:
    """`s` > 0 rounded to a power of two, up, down or to the nearest exponent (up from sqrt(2) on), from its bits; zero, NaN and infinity pass.

    >>> power_of_two(np.float32([3, 4, 0.3]), "up").tolist(), power_of_two(np.float32([3, 4, 0.3]), "down").tolist()
    ([4.0, 4.0, 0.5], [2.0, 4.0, 0.25])
    >>> power_of_two(np.float32([1.414213, 1.4142136]), "nearest").tolist()
    [1.0, 2.0]
    """
    mantissa, exponent = np.frexp(s)
    if direction == "nearest":  # the square of 24 bits is exact in float64
        exponent = exponent - (np.square(mantissa, dtype=np.float64) < 0.5).astype(np.int32)
    else:
        exponent = exponent - (1 if direction == "down" else (mantissa == 0.5).astype(np.int32))
    with np.errstate(over="ignore"):
        rounded = np.ldexp(np.float32(1), exponent)
    return np.where(np.isfinite(s) & (s > 0), np.minimum(rounded, np.float32(2.0**127)), s).astype(np.float32)


def stored(values: NDArray, format_name: str) -> NDArray:
    """Codes of scales that their format holds exactly: float32 bit patterns, E8M0 exponents (NaN is 0xFF), or the format's codes."""
    if format_name == "float32":
        return np.ascontiguousarray(values, np.float32).view(np.uint32)
    if format_name != "e8m0":
        return format_named(format_name).encode(values)
    _, exponent = np.frexp(values)
    return np.where(np.isnan(values), 255, np.clip(exponent - 1 + 127, 0, 254)).astype(np.uint8)


def loaded(codes: NDArray, format_name: str) -> NDArray[np.float32]:
    """float32 values of scale codes; E8M0 code c is 2^(c - 127) (code 0 is the subnormal 2^-127), 255 is NaN."""
    if format_name == "float32":
        return np.ascontiguousarray(codes, np.uint32).view(np.float32)
    if format_name == "e8m0":
        powers = np.ldexp(np.float32(1), np.minimum(codes, 254).astype(np.int32) - 127)
        return np.where(codes == 255, np.float32(np.nan), powers).astype(np.float32)
    return format_named(format_name).decode(codes).astype(np.float32)

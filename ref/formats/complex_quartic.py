r"""complex_quartic: a code book of vectors, the four units {1, i, -1, -i} in two bits.

    code k = i^k,    z = x + i y  ->  the code of the quadrant that the phase of z lies in, half open:

    [-pi/4, pi/4) -> 1     [pi/4, 3 pi/4) -> i     [3 pi/4, 5 pi/4) -> -1     [-3 pi/4, -pi/4) -> -i

The phase is never computed: the four conditions are comparisons of x and y, so they are exact,

    k = 0: -x <= y < x, or x = y = 0     k = 1: -y < x <= y     k = 2: x < y <= -x     k = 3: y <= x < -y.

Zero is 1 (atan2(0, 0) = 0); infinities compare like numbers; NaN is an error. Exactly one of the real and imaginary
parts of a value is nonzero. Multiplying by a value swaps and negates parts (`multiply`); rotating z by 90 degrees adds
1 to the code (mod 4); products of values add codes, conjugates negate them.

Scales belong to quantizers: the published one takes two per tensor, mean|x| over the entries that became +-1 and mean|y|
over those that became +-i, each at least 1e-5; activations are INT8 per token, real and imaginary parts separately.
Gradient: straight through on both parts. Output of the head: Re(conj(W) z) = x_r W_r + x_i W_i.

Source: Fairy+-i (iFairy), PKULab1806/Fairy-plus-minus-i model/modeling_Fairy_plus_minus_i.py, DirectionQuantSTE (read).
Pitfalls: which edge belongs to which quadrant; torch.angle rounds, so near the edges its comparison with a rounded pi/4
may differ, and its atan2(+0, -0) = pi puts a zero with a negative real part to -1; a class without entries makes its
mean NaN.

>>> f = COMPLEX_QUARTIC
>>> f.classify([[1, 0.5], [1, 1], [-1, 1], [-1, -1], [1, -1], [0, 0]]).tolist()
[0, 1, 2, 3, 0, 0]
>>> f.encode([2 + 1j, -3j]).tolist(), f.decode([0, 1, 2, 3]).tolist()
([0, 3], [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
>>> f.as_complex([1, 2]).tolist(), f.multiply([1], [[3.0, 4.0]]).tolist()
([1j, (-1+0j)], [[-4.0, 3.0]])
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.ref.errors import FormatError, NonFiniteError
from lpref.ref.formats.entry import Entry


@dataclass(frozen=True, kw_only=True)
class VectorFormat(Entry, ABC):
    """A code book whose values are vectors of `dimension` numbers; the last axis of arrays holds them."""

    name: str
    bits: int  # of a code
    title: str
    standard: str
    source_level: str
    vectors: tuple[tuple[float, ...], ...]  # by code
    revision: int = 1
    module: str = __name__
    exact: bool = True

    @property
    def dimension(self) -> int:
        return len(self.vectors[0])

    def decode(self, codes: Any) -> np.ndarray:
        """Codes (integers, any shape) -> float64 [..., dimension].

        Raises: FormatError for other dtypes than integers and for codes that do not exist.
        """
        codes = np.asarray(codes)
        if codes.dtype.kind not in "ui" or (codes.size and not 0 <= codes.min() <= codes.max() < len(self.vectors)):
            raise FormatError(f"codes are not integers in 0 .. {len(self.vectors) - 1}", where=f"{self.name}.decode")
        return np.array(self.vectors, np.float64)[codes.astype(np.int64)]

    def _parts(self, z: Any, where: str) -> np.ndarray:
        """z as reals [..., dimension]: complex numbers are pairs."""
        z = np.asarray(z)
        if z.dtype.kind == "c" and self.dimension == 2:
            z = np.stack([z.real, z.imag], axis=-1)
        if z.dtype.kind not in "fiu" or z.ndim == 0 or z.shape[-1] != self.dimension:
            raise FormatError(
                f"{z.dtype} of shape {z.shape} is no array of {self.dimension}-vectors", where=where,
                remedy=f"pass reals [..., {self.dimension}]" + (" or complex numbers" if self.dimension == 2 else ""),
            )  # fmt: skip
        if np.isnan(z).any():
            raise NonFiniteError(f"{int(np.isnan(z).any(-1).sum())} vectors hold a NaN", where=where)
        return z


    @abstractmethod
    def classify(self, vector: Any) -> np.ndarray:
        """Vectors [..., dimension] -> codes [...]."""


@dataclass(frozen=True, kw_only=True)
class QuarticFormat(VectorFormat):
    """The four units; see the module's page."""

    def classify(self, vector: Any) -> np.ndarray:
        """Complex numbers [...] or reals [..., 2] -> codes [...], uint8.

        Raises: FormatError for other shapes, NonFiniteError for NaN.
        """
        parts = self._parts(vector, f"{self.name}.classify")
        if parts.dtype.kind in "iu":
            parts = parts.astype(np.float64)  # -x of the smallest integer overflows
        x, y = parts[..., 0], parts[..., 1]
        zero = (x == 0) & (y == 0)
        east, north, west = zero | ((-x <= y) & (y < x)), (-y < x) & (x <= y), (x < y) & (y <= -x)
        return np.select([east, north, west], [0, 1, 2], 3).astype(np.uint8)

    def encode(self, z: Any) -> np.ndarray:
        """`classify`."""
        return self.classify(z)

    def round(self, z: Any) -> np.ndarray:
        """decode(classify(z)), complex for complex z."""
        codes = self.classify(z)
        return self.as_complex(codes) if np.asarray(z).dtype.kind == "c" else self.decode(codes)

    def as_complex(self, codes: Any) -> np.ndarray:
        """Codes -> complex128, without -0 parts."""
        parts = self.decode(codes)
        return parts[..., 0] + 1j * parts[..., 1] + 0.0

    def multiply(self, codes: Any, z: Any) -> np.ndarray:
        """i^code z for reals z [..., 2]: parts swapped and negated, nothing rounded."""
        codes = np.asarray(codes)
        parts = self._parts(z, f"{self.name}.multiply")
        x, y = parts[..., 0], parts[..., 1]
        real = np.select([codes == 0, codes == 1, codes == 2], [x, -y, -x], y)
        imaginary = np.select([codes == 0, codes == 1, codes == 2], [y, x, -y], -x)
        return np.stack([real, imaginary], axis=-1)


COMPLEX_QUARTIC = QuarticFormat(
    name="complex_quartic", bits=2, title="{1, i, -1, -i}", source_level="read", module=__name__,
    standard="Fairy+-i, PKULab1806/Fairy-plus-minus-i modeling_Fairy_plus_minus_i.py",
    vectors=((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)),
)  # fmt: skip

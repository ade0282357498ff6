"""`QTensor`: codes and scales of a quantized tensor, and the exact values that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref.arrays import host, library
from lpref.ref.errors import ShapeError
from lpref.ref.formats import VECTOR_FORMATS, vector_format
from lpref.ref.formats import format as format_named
from lpref.ref.quantize.packing import pack, unpack
from lpref.ref.quantize.quantizer import Quantizer
from lpref.ref.scaling.double import decoded_scales
from lpref.ref.scaling.minmax import from_minmax
from lpref.ref.scaling.quartic import expanded_units
from lpref.ref.scaling.s2fp8 import expanded
from lpref.ref.scaling.scales import loaded


@dataclass(frozen=True, eq=False)
class QTensor:
    r"""A quantized tensor: $\hat x = (\text{element} \times \text{block scale}) \times \text{tensor scale}$.

    codes          packed element codes of the 2-D logical array, see `packing`
    scales         scale codes per level; level 0 is the block grid ``[R/br, C/bc]``; empty for plain casts
    tensor_scale   float32, the outermost level (1 where there is none)
    zero           int32 zero points on the grid of the scales, or None: the elements are code - zero
    residual       a second `QTensor` that is added (trit planes), or None
    aux            what else decoding needs, by name: alpha and beta (s2fp8), offset (double); None if nothing
    basis          name of the transformed basis, or None
    k_axis         contraction axis (0 or 1) of the 2-D logical array
    logical_shape  shape of the array that was quantized; its leading axes are flattened in the 2-D logical array
    quantizer      the definition that made it
    observed       statistics for `update_state`: amax, count, overflowed, underflowed
    """

    codes: NDArray
    scales: tuple[NDArray, ...]
    tensor_scale: np.float32
    k_axis: int
    logical_shape: tuple[int, ...]
    quantizer: Quantizer
    observed: Mapping[str, Any] = field(default_factory=dict)
    zero: NDArray | None = None
    residual: QTensor | None = None
    aux: Any = None
    basis: str | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(R, C)`` of the 2-D logical array."""
        return matrix_shape(self.logical_shape)

    @property
    def block(self) -> tuple[int, int]:
        """Block shape (rows, columns) on the 2-D logical array."""
        return self.quantizer.blocks.on(self.shape, self.k_axis)

    def contracted_along(self, k_axis: int) -> QTensor:
        """The same codes under another contraction axis."""
        return replace(self, k_axis=k_axis)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales, of zero points (as many bits as a code), of `aux` and of the second tensor; the tensor scale
        counts where the rule has one."""
        more = 4 if self.quantizer.scale.rule == "nvfp4" else 0
        more += 0 if self.zero is None else -(-self.zero.size * format_named(self.quantizer.format).bits // 8)
        more += 0 if self.aux is None else sum(int(v.nbytes) for v in self.aux.values())
        more += 0 if self.residual is None else self.residual.nbytes
        return int(self.codes.nbytes + sum(s.nbytes for s in self.scales) + more)

    @property
    def linear(self) -> bool:
        """Whether the values are element x block scale x tensor scale, so that a product may multiply elements and scale sums."""
        return self.residual is None and self.quantizer.scale.rule not in ("s2fp8", "quartic", "minmax")

    def unpacked(self) -> NDArray:
        """One code per element, ``[R, C]``."""
        return unpack(self.codes, code_bits(self.quantizer.format), self.shape[1])

    def scale_values(self) -> NDArray[np.float32]:
        """Block scales of the grid ``[R/br, C/bc]``, float32, without the tensor scale; ``[[1]]`` for plain casts."""
        if not self.scales:
            return np.ones((1, 1), np.float32)
        if self.quantizer.scale.rule == "double":
            return decoded_scales(self.scales[0], self.scales[1], self.aux, self.quantizer.scale)
        return loaded(self.scales[0], self.quantizer.scale.format)

    def element_values(self) -> NDArray[np.float64]:
        """Decoded codes without any scale, zero points subtracted, ``[R, C]`` float64; units of complex_quartic complex128."""
        if self.quantizer.scale.rule == "quartic":
            return vector_format(self.quantizer.format).decode(self.unpacked()) @ np.array([1, 1j])  # exact: one part is zero
        values = decoded(self.quantizer.format, self.unpacked())
        return values if self.zero is None else values - self._spread(self.zero)

    def _spread(self, grid: NDArray) -> NDArray:
        """A value per block as one per element ``[R, C]`` (or as it is, where there is one block)."""
        (br, bc), (rows, columns) = self.block, self.shape
        return grid if grid.shape == (1, 1) else np.repeat(np.repeat(grid, br, axis=0)[:rows], bc, axis=1)[:, :columns]

    def dequantize(self, dtype: Any = np.float64) -> NDArray:
        """Values in the shape that was quantized: the float64 product of element, block scale and tensor scale, which is exact for every
        exact format; another `dtype` (a NumPy dtype or the name of a format held in float64) rounds it once, to nearest even.
        Trit planes add the second tensor in float64, s2fp8 expands in float64, complex_quartic gives complex128 (or complex64).

        >>> from lpref.ref.quantize import quantize
        >>> quantize(np.float32([[0.7, -3, 10]]), "mxfp4:tail=partial").dequantize(np.float32).tolist()
        [[1.0, -3.0, 8.0]]
        """
        if self.quantizer.scale.rule == "quartic":
            units = vector_format(self.quantizer.format).decode(self.unpacked())
            return expanded_units(units, self.scales).reshape(self.logical_shape).astype(dtype if np.dtype(dtype).kind == "c" else np.complex128)
        with np.errstate(invalid="ignore", over="ignore"):
            values = self._exact_values().reshape(self.logical_shape)
            if isinstance(dtype, str) or np.dtype(dtype).kind not in "f" or np.dtype(dtype).name == "bfloat16":
                return format_named(dtype).round(values)
            return values.astype(dtype)

    def _exact_values(self) -> NDArray[np.float64]:
        """Values ``[R, C]`` in float64."""
        if self.quantizer.scale.rule == "s2fp8":
            return expanded(code_values(self.quantizer.format), self.aux)[self.unpacked()]
        if self.quantizer.scale.rule == "minmax":
            offsets = loaded(self.scales[1], self.quantizer.scale.format)
            return from_minmax(self.unpacked(), self._spread(self.scale_values()), self._spread(offsets))  # a code is its integer
        scale = self._spread(self.scale_values().astype(np.float64)) if self.scales else 1.0
        values: NDArray[np.float64] = self.element_values() * scale * np.float64(self.tensor_scale)
        return values if self.residual is None else values + self.residual._exact_values()

    def transpose(self) -> QTensor:
        """The transposed tensor with the same codes; the contraction now runs over the former `other` axis.

        Only where blocks are transpose-closed (square tiles, whole tensors): elsewhere a transposed tensor has other scales, and
        quantizing again from high precision is another definition.
        """
        if self.quantizer.scale.rule != "none" and not self.quantizer.blocks.transpose_closed:
            raise ShapeError(
                f"blocks of {self.quantizer.blocks.other} x {self.quantizer.blocks.k} (other x k) are not transpose-closed",
                where="QTensor.transpose", remedy="quantize the transposed tensor, or use square blocks",
            )  # fmt: skip
        if self.quantizer.scale.rule == "double":
            raise ShapeError("second-level scales follow the row-major order of the blocks", where="QTensor.transpose",
                             remedy="quantize the transposed tensor")  # fmt: skip
        rows, columns = self.shape
        bits = code_bits(self.quantizer.format)
        codes = pack(np.ascontiguousarray(self.unpacked().T), bits)
        scales = tuple(np.ascontiguousarray(s.T) for s in self.scales)
        zero = None if self.zero is None else np.ascontiguousarray(self.zero.T)
        residual = None if self.residual is None else self.residual.transpose()
        return replace(self, codes=codes, scales=scales, logical_shape=(columns, rows), zero=zero, residual=residual)

    def to_layout(self, name: str) -> dict[str, NDArray]:
        """Physical arrays ``{codes, scales, tensor_scale}`` of a named layout; see `layouts`."""
        from lpref.ref.quantize.layouts import to_layout

        return to_layout(self, name)

    @staticmethod
    def from_layout(name: str, arrays: Mapping[str, NDArray], quantizer: Quantizer, logical_shape: tuple[int, ...], k_axis: int = 1) -> QTensor:
        """The tensor that `to_layout` laid out; its arrays are of the library that the given ones are of."""
        from lpref.ref.quantize.foreign import foreign
        from lpref.ref.quantize.layouts import from_layout

        libraries = [library(array) for array in arrays.values()]
        made = from_layout(name, {key: host(array) for key, array in arrays.items()}, quantizer, logical_shape, k_axis)
        return foreign(made, next((found for found in libraries if found is not None), None))  # type: ignore[no-any-return]

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        bits = 8 * self.nbytes / max(1, self.shape[0] * self.shape[1])
        rows = {
            "quantizer": self.quantizer.name or self.quantizer.format, "logical shape": self.logical_shape, "contraction axis": self.k_axis,
            "block": f"{self.block[0]} x {self.block[1]}", "bytes": f"{self.nbytes} ({bits:.2f} bits an element)",
            "tensor scale": float(self.tensor_scale), **{k: float(v) for k, v in self.observed.items()},
        }  # fmt: skip
        body = "".join(f"<tr><th style='text-align:left'>{k}</th><td>{v}</td></tr>" for k, v in rows.items())
        return f"<table><caption>QTensor</caption>{body}</table>"


def code_bits(format_name: str) -> int:
    """Bits of a code of a format of numbers or of vectors."""
    return VECTOR_FORMATS[format_name].bits if format_name in VECTOR_FORMATS else format_named(format_name).bits


@cache
def code_values(format_name: str) -> NDArray[np.float64]:
    """Value of every code of a format of at most 16 bits, by code."""
    fmt = format_named(format_name)
    values = fmt.decode(np.arange(2**fmt.bits))
    values.setflags(write=False)
    return values


def decoded(format_name: str, codes: NDArray) -> NDArray[np.float64]:
    """`decode` by the table of all values, where there is one."""
    fmt = format_named(format_name)
    return np.take(code_values(format_name), codes) if fmt.bits <= 16 else fmt.decode(codes)


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """The 2-D logical shape of an array: leading axes flattened row-major; a vector is one row.

    >>> matrix_shape((2, 3, 8)), matrix_shape((8,)), matrix_shape(())
    ((6, 8), (1, 8), (1, 1))
    """
    if not shape:
        return 1, 1
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return rows, shape[-1]

"""Quantized tensors of other libraries: what `lpref.quantize` returns for an array that is not NumPy's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any

import numpy as np

from lpref.ref.arrays import give, host
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import QTensor


@dataclass(frozen=True, eq=False)
class ForeignQTensor(QTensor):
    """A `QTensor` whose codes, scales and values are arrays of `library`; `inner` is the same tensor in NumPy."""

    inner: Any = None
    library: ModuleType | None = None

    def unpacked(self) -> Any:
        return self._give(self.inner.unpacked())

    def scale_values(self) -> Any:
        return self._give(self.inner.scale_values())

    def element_values(self) -> Any:
        return self._give(self.inner.element_values())

    def dequantize(self, dtype: Any = np.float64) -> Any:
        """As `QTensor.dequantize`; `dtype` may be the library's own."""
        own = type(dtype).__module__.partition(".")[0] == getattr(self.library, "__name__", "").partition(".")[0]
        if not own:
            return self._give(self.inner.dequantize(dtype))
        return give(self.inner.dequantize(format_named(dtype).name), self.library, dtype)

    def transpose(self) -> ForeignQTensor:
        return foreign(self.inner.transpose(), self.library)

    def to_layout(self, name: str) -> dict[str, Any]:
        return {key: self._give(array) for key, array in self.inner.to_layout(name).items()}

    def _repr_html_(self) -> str:
        return str(self.inner._repr_html_())

    def _give(self, values: Any) -> Any:
        return give(values, self.library)


def foreign(t: QTensor, library: ModuleType | None) -> Any:
    """`t` with its arrays in `library` (None: as it is)."""
    if library is None:
        return t
    given = {f.name: getattr(t, f.name) for f in fields(QTensor)}
    arrays = {"codes": give(t.codes, library), "scales": tuple(give(s, library) for s in t.scales)}
    return ForeignQTensor(**{**given, **arrays}, inner=t, library=library)


def at_home(x: Any) -> Any:
    """An operand in NumPy: the inner tensor of a `ForeignQTensor`; everything else as it is."""
    return x.inner if isinstance(x, ForeignQTensor) else x


def floats(x: Any, where: str = "") -> np.ndarray:
    """x in NumPy, 16-bit and 8-bit floats as float32, integers as they are."""
    array = host(x, where)
    small = array.dtype.kind in "fV" and array.dtype not in (np.float32, np.float64) and array.dtype.itemsize < 8
    return array.astype(np.float32) if small and array.dtype.names is None and array.dtype.type is not np.void else array

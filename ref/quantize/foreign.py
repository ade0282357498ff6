"""Quantized tensors of other libraries: what quantizing or loading arrays that are not NumPy's gives."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any

import numpy as np

from lpref.ref.arrays import give
from lpref.ref.formats import format as format_named
from lpref.ref.quantize.qtensor import QTensor


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
    arrays |= {"zero": None if t.zero is None else give(t.zero, library), "residual": None if t.residual is None else foreign(t.residual, library)}
    return ForeignQTensor(**{**given, **arrays}, inner=t, library=library)

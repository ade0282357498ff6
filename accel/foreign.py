"""Arrays of other libraries at the public entries; their quantized tensors are `lpref.ref.quantize.foreign`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.ref.arrays import host
from lpref.ref.quantize.foreign import ForeignQTensor, foreign

__all__ = ["ForeignQTensor", "at_home", "floats", "foreign"]


def at_home(x: Any) -> Any:
    """An operand in NumPy: the inner tensor of a `ForeignQTensor`; everything else as it is."""
    return x.inner if isinstance(x, ForeignQTensor) else x


def floats(x: Any, where: str = "") -> np.ndarray:
    """x in NumPy, 16-bit and 8-bit floats as float32, integers as they are."""
    array = host(x, where)
    small = array.dtype.kind in "fV" and array.dtype not in (np.float32, np.float64) and array.dtype.itemsize < 8
    return array.astype(np.float32) if small and array.dtype.names is None and array.dtype.type is not np.void else array

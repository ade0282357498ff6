"""Reading an array exactly: what every conversion starts from."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.ref.arrays import host
from lpref.ref.errors import FormatError


def as_float64(x: Any, where: str) -> np.ndarray:
    """x exactly in float64.

    Raises: FormatError for dtypes that are no reals of at most 64 bits, and for integers that float64 cannot hold.
    """
    x = host(x, where)
    kind = x.dtype.kind
    if (kind == "f" and x.dtype.itemsize > 8) or kind not in "fiubV" or x.dtype.names is not None:
        raise FormatError(f"cannot read {x.dtype} exactly", where=where, remedy="pass floats of at most 64 bits")
    try:
        with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
            out = x.astype(np.float64)
    except (TypeError, ValueError):
        raise FormatError(f"cannot read {x.dtype} as numbers", where=where) from None
    if kind in "iu" and x.dtype.itemsize == 8:
        wide = np.abs(out) >= 2.0**53
        if wide.any():
            raise FormatError(f"the integer {int(x[wide].flat[0])} is not below 2^53: float64 rounds it", where=where)
    return out

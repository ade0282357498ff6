"""Other libraries' arrays: read in host memory as NumPy arrays, and results given back in the library that the argument came from.

Nothing is imported here: a library whose array was passed is loaded already. Results are exact, whatever the library: a bfloat16 tensor is
read as float32, which holds all its values, and a result in bfloat16 goes back the same way.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np

from lpref.ref.errors import BackendError, DTypeError

HOST_DEVICES = (1, 3, 11)
"""DLPack: kDLCPU, kDLCUDAHost, kDLROCMHost."""


def host(x: Any, where: str = "") -> np.ndarray:
    """A NumPy array of the values of x: anything with ``__array__`` or ``__dlpack__`` in host memory, lists, numbers.

    Floats that NumPy has no type for become float32. Raises: BackendError for arrays on a device, DTypeError for what is no array of numbers.

    >>> host([1, 2]).dtype.kind
    'i'
    """
    if isinstance(x, np.ndarray):
        return x
    device = getattr(x, "__dlpack_device__", None)
    if device is not None and int(device()[0]) not in HOST_DEVICES:
        raise BackendError("the array is on a device", where=where, remedy="copy it to the host; quantize and casts take CuPy arrays")
    x = x.detach() if hasattr(x, "detach") else x  # torch: values without their graph
    try:
        if device is not None and not hasattr(x, "__array__"):
            return np.from_dlpack(x)
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        if hasattr(x, "float"):  # torch: bfloat16 and the 8-bit floats
            return np.asarray(x.float())
        raise DTypeError(f"cannot read a {type(x).__name__} as an array: {error}", where=where) from error


def device_casts(x: Any) -> ModuleType | None:
    """The module whose encode, decode and qdq serve an array on a device (`lpref.DEVICE_CASTS`); None for arrays in host memory."""
    if isinstance(x, (np.ndarray, np.generic)) or type(x).__module__.partition(".")[0] != "cupy":
        return None
    import lpref

    return importlib.import_module(lpref.DEVICE_CASTS)


def namespace(x: Any) -> Any:
    """The module whose functions take arrays like x: as the array API standard says, else (CuPy) where its type comes from.

    >>> namespace(np.zeros(3)) is np
    True
    """
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    return sys.modules[type(x).__module__.partition(".")[0]]


def wide(x: Any, ops: Any) -> Any:
    """x, or float32 of it where it stands for float32 values in 16 bits (`lpref.ref.backend.Arrays.wide`)."""
    return ops.arrays.wide(x) if x.dtype.kind == "V" else x


def library(x: Any) -> ModuleType | None:
    """The module that x's array type comes from, where results go back to; None for NumPy's and for what names no library.

    >>> library(np.zeros(3)) is None
    True
    """
    if isinstance(x, (np.ndarray, np.generic)) or not hasattr(x, "__dlpack__"):
        return None
    found = x.__array_namespace__() if hasattr(x, "__array_namespace__") else sys.modules.get(type(x).__module__.partition(".")[0])
    return found if hasattr(found, "from_dlpack") or hasattr(found, "from_numpy") else None


def give(values: Any, to: ModuleType | None, dtype: Any = None) -> Any:
    """`values` (a NumPy array) as an array of the library `to`, then in its `dtype`, which holds them exactly."""
    if to is None:
        return values
    values = np.ascontiguousarray(values).reshape(np.shape(values))
    made = to.from_numpy(values.copy()) if hasattr(to, "from_numpy") else to.from_dlpack(values.copy())
    return made if dtype is None or made.dtype == dtype else made.to(dtype) if hasattr(made, "to") else made.astype(dtype)

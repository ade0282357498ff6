"""`StrictBackend`: the cpu backend behind arrays that nothing but a backend can compute with.

What is above a backend may reshape, index and copy arrays, and nothing else. A `StrictArray` holds a NumPy array out of reach: it has no
arithmetic, no comparison and no truth value, NumPy refuses it, and its library (this module: like CuPy's it has no
`__array_namespace__`) moves data only. Code that trains on it trains on a device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import numpy as np

from lpref.accel import backend
from lpref.ref.backend import Arrays, Backend
from lpref.ref.quantize import QTensor

MOVING = ("asarray", "broadcast_to", "concatenate", "full", "ones", "pad", "repeat", "stack", "zeros", "zeros_like")


class StrictArray:
    """An array on a device that is not there."""

    __slots__ = ("_held",)
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, held: Any) -> None:
        self._held = np.asarray(held)

    dtype, shape, ndim, size = (property(lambda self, name=name: getattr(self._held, name)) for name in ("dtype", "shape", "ndim", "size"))

    def reshape(self, *shape: Any) -> StrictArray:
        return StrictArray(self._held.reshape(*shape))

    def transpose(self, *axes: Any) -> StrictArray:
        return StrictArray(self._held.transpose(*axes))

    def copy(self) -> StrictArray:
        return StrictArray(self._held.copy())

    def astype(self, dtype: Any) -> StrictArray:
        """Of what holds no fractions: a cast from or to a float may flush."""
        assert np.dtype(dtype) == self.dtype or self.dtype.kind in "biu", f"{self.dtype} -> {np.dtype(dtype)} is arithmetic"
        return StrictArray(self._held.astype(dtype))

    def item(self) -> Any:
        return self._held.item()

    def __getitem__(self, index: Any) -> StrictArray:
        return StrictArray(self._held[held(index)])

    def __setitem__(self, index: Any, value: StrictArray) -> None:
        assert isinstance(value, StrictArray)
        self._held[held(index)] = value._held

    def __and__(self, other: StrictArray) -> StrictArray:
        assert self.dtype == other.dtype == bool
        return StrictArray(self._held & other._held)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("only a backend computes")

    __array__ = __array_function__ = __bool__ = __float__ = __int__ = __len__ = __iter__ = __contains__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __iadd__ = __isub__ = __imul__ = _refuse
    __neg__ = __abs__ = __pow__ = __matmul__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse  # type: ignore[assignment]


@dataclass(frozen=True)
class StrictOperand:
    """What `operand` and `quantize` of the strict backend return; `inner` is the cpu backend's."""

    inner: Any
    k_axis: int

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return on_held(found) if callable(found) else strict(found)


def held(value: Any) -> Any:
    """`value` with NumPy arrays in place of the strict ones, at any depth."""
    if isinstance(value, StrictArray):
        return value._held
    if isinstance(value, StrictOperand):
        return replace(value.inner, k_axis=value.k_axis)
    if isinstance(value, dict):
        return {key: held(v) for key, v in value.items()}
    if type(value) in (tuple, list):
        return type(value)(held(v) for v in value)
    assert not isinstance(value, np.ndarray) or value.dtype.kind in "biu", "a float array that was not taken to the backend"
    return value


def strict(value: Any) -> Any:
    """`value` with strict arrays in place of NumPy's."""
    if isinstance(value, (np.ndarray, np.generic)):
        return StrictArray(value)
    if type(value) in (tuple, list):
        return type(value)(strict(v) for v in value)
    return StrictOperand(value, value.k_axis) if is_dataclass(value) and hasattr(value, "k_axis") else value


def on_held(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of NumPy arrays as one of strict arrays; a quantizer's state and signs may be in host memory."""

    def call(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in ("signs", "transforms") if name in kwargs}
        if kwargs.get("state") is not None:
            given["state"] = {name: v._held if isinstance(v, StrictArray) else v for name, v in kwargs.pop("state").items()}
        return strict(function(*held(args), **held(kwargs), **given))

    return call


def stored(codes: StrictArray, scales: tuple, tensor_scale: StrictArray, *rest: Any) -> StrictOperand:
    """A quantized tensor from its arrays."""
    inner = QTensor(held(codes), held(scales), held(tensor_scale)[()], *rest)
    return StrictOperand(inner, inner.k_axis)


globals().update({name: on_held(getattr(np, name)) for name in MOVING})  # this module is its arrays' library, as cupy is of CuPy's

ARRAYS = Arrays(make=lambda x: x if isinstance(x, StrictArray) else StrictArray(x), host=held, tensor=stored)


class StrictBackend(Backend):
    """Every op is the cpu backend's."""

    def __init__(self, numerics: str = "exact") -> None:
        inner = backend("cpu", numerics)
        super().__init__("strict", numerics, [replace(k, function=on_held(k.function)) for k in inner.kernels.values()], ARRAYS)

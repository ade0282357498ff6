"""How a kernel is held against its reference, wherever its arrays live.

`check` runs every case of an op: the definition gets NumPy arrays, the kernel the same arrays moved by a `Place`; the result comes
back and the kernel's contract says whether the two agree. The inputs must be unchanged afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from kernel_cases import CASES
from kernel_draw import Draw

from lpref.ref.backend import Kernel
from lpref.ref.errors import BackendError
from lpref.ref.linalg import HighPrecision
from lpref.ref.quantize import QTensor, Quantizer


@dataclass(frozen=True)
class Place:
    """Where a backend's arrays live: `put` moves an array or a quantized tensor there, `get` brings a backend's object back.

    refuses: the quantizers that the backend has no kernels for; it must say so.
    """

    put: Callable[[Any], Any]
    get: Callable[[Any], Any]
    refuses: Callable[[Quantizer], bool] = lambda q: False

    def there(self, value: Any) -> Any:
        """`value` with every array inside it moved."""
        if isinstance(value, HighPrecision):
            return HighPrecision(self.put(value.values), value.k_axis)
        return self.put(value) if isinstance(value, (np.ndarray, QTensor)) else _inside(self.there, value)

    def here(self, value: Any) -> Any:
        """`value` with every array inside it in host memory."""
        if isinstance(value, HighPrecision):
            return HighPrecision(self.get(value.values), value.k_axis)
        return _inside(self.here, value) if type(value) in (tuple, list, dict) else self.get(value)


def _inside(move: Callable[[Any], Any], value: Any) -> Any:
    if type(value) is dict:
        return {key: move(v) for key, v in value.items()}
    return type(value)(move(v) for v in value) if type(value) in (tuple, list) else value


HOST = Place(lambda x: x, lambda x: x)


def cuda_place() -> Place:
    """CuPy arrays with the strides of the originals."""
    from lpref.accel.cuda import device, plans
    from lpref.accel.cuda.backend import ARRAYS
    from lpref.accel.cuda.qtensor import CudaQTensor

    cp = device.cupy()

    def put(x: Any) -> Any:
        if isinstance(x, QTensor):
            scales, tensor_scale = tuple(cp.asarray(s) for s in x.scales), cp.asarray(np.float32(x.tensor_scale))
            zero = None if x.zero is None else cp.asarray(x.zero)
            aux = None if x.aux is None else {name: cp.asarray(np.array([v], np.float32)) for name, v in x.aux.items()}
            own = (x.k_axis, x.logical_shape, x.quantizer, x.observed, zero, None, aux)
            return CudaQTensor(cp.asarray(x.codes), scales, tensor_scale, *own)
        order = np.argsort([-abs(s) for s in x.strides], kind="stable")
        return cp.asarray(x.transpose(order).copy()).transpose(np.argsort(order))

    def get(x: Any) -> Any:
        return ARRAYS.host(x)

    def refuses(q: Quantizer) -> bool:
        try:
            plans.check(q)
        except BackendError:
            return q.scale.rule != "none"
        return False

    return Place(put, get, refuses)


def check(kernel: Kernel, place: Place = HOST) -> None:
    """Every case of the kernel's op, in order; the first that breaks the contract is shown."""
    check_cases(kernel, place, CASES[kernel.op](Draw(11)))


def check_cases(kernel: Kernel, place: Place, cases: Iterable[Any]) -> None:
    """These cases."""
    with np.errstate(all="ignore"):
        for number, case in enumerate(cases):
            case, options = case if len(case) == 2 and isinstance(case[1], dict) else (case, {})
            _check_case(kernel, place, f"{kernel.op} case {number} {[getattr(a, 'shape', a) for a in case]}", case, options)


def _check_case(kernel: Kernel, place: Place, name: str, case: tuple, options: Mapping[str, Any]) -> None:
    refused = [q for q in case if isinstance(q, Quantizer) and place.refuses(q)]
    if refused:
        with pytest.raises(BackendError, match="has no kernel"):
            kernel.function(*place.there(case), **place.there(options))
        return
    moved, kept = place.there(case), [a.copy() if isinstance(a, np.ndarray) else a for a in case]
    expected = kernel.reference(*case, **options)
    found = kernel.contract.mismatch(expected, place.here(kernel.function(*moved, **place.there(options))), case, options)
    assert found is None, f"{name}: {found}"
    for before, after in zip(kept, moved, strict=True):
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, place.here(after), f"{name} changed its input")

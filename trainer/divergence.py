"""Where a step first became non-finite: the step once more, on a backend that looks at every result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lpref.ref.backend import HOST, Backend, Kernel, unpaired


class FirstNonFinite(Exception):
    """Carries the description of the first operation with finite inputs and a non-finite result."""


class WatchingBackend(Backend):
    """`inner`, stopping at the first operation that makes a NaN or an infinity out of finite inputs."""

    def __init__(self, inner: Backend) -> None:
        self.count = 0
        super().__init__(
            inner.name,
            inner.numerics,
            [Kernel(k.op, self._watch(k), k.reference, k.contract) for k in inner.kernels.values()],
            unpaired(inner.arrays),
        )

    def _watch(self, kernel: Kernel) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            output = kernel.function(*args, **kwargs)
            self.count += 1
            host = self.arrays.host
            if kernel.op != "all_finite" and not finite(output, host) and finite(args, host) and finite(list(kwargs.values()), host):
                raise FirstNonFinite(f"the result of operation {self.count}, {kernel.op}")
            return output

        return call


def finite(value: Any, host: Callable[[Any], Any] = HOST.host) -> bool:
    """Whether every float array inside is finite (at any depth of tuples and lists). host: brings an array to NumPy."""
    if isinstance(value, (tuple, list)):
        return all(finite(part, host) for part in value)
    if hasattr(value, "dtype"):
        value = host(value)
    if isinstance(value, (float, np.floating, np.ndarray)):
        return np.asarray(value).dtype.kind != "f" or bool(np.isfinite(value).all())
    return True


def first_nonfinite(params: Mapping[str, Any], replay: Any, backend: Backend) -> str:
    """The name of the first non-finite tensor: a parameter, else the first bad operation of the step, else a gradient.

    `replay(backend)` runs forward and backward of the failing step on the given backend and returns its gradients by name.
    """
    bad = _first(params, backend)
    if bad:
        return f"parameter {bad}"
    try:
        grads = replay(WatchingBackend(backend))
    except FirstNonFinite as found:
        return str(found)
    bad = _first(grads, backend)
    return f"gradient of {bad}" if bad else "no single operation: the sum of the gradients' squares overflowed"


def _first(arrays: Mapping[str, Any], backend: Backend) -> str:
    return next((name for name, array in arrays.items() if not finite(array, backend.arrays.host)), "")

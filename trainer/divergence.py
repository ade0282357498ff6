"""Where a step first became non-finite: the step once more, on a backend that looks at every result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lpref.ref.backend import Backend, Kernel


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
        )

    def _watch(self, kernel: Kernel) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            output = kernel.function(*args, **kwargs)
            self.count += 1
            if kernel.op != "all_finite" and not finite(output) and finite(args) and finite(list(kwargs.values())):
                raise FirstNonFinite(f"the result of operation {self.count}, {kernel.op}")
            return output

        return call


def finite(value: Any) -> bool:
    """Whether every float array inside is finite (at any depth of tuples and lists)."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, (float, np.floating)):
        return bool(np.isfinite(value))
    if isinstance(value, (tuple, list)):
        return all(finite(part) for part in value)
    return True


def first_nonfinite(params: Mapping[str, np.ndarray], replay: Any, backend: Backend) -> str:
    """The name of the first non-finite tensor: a parameter, else the first bad operation of the step, else a gradient.

    `replay(backend)` runs forward and backward of the failing step on the given backend and returns its gradients by name.
    """
    bad = _first(params)
    if bad:
        return f"parameter {bad}"
    try:
        grads = replay(WatchingBackend(backend))
    except FirstNonFinite as found:
        return str(found)
    bad = _first(grads)
    return f"gradient of {bad}" if bad else "no single operation: the sum of the gradients' squares overflowed"


def _first(arrays: Mapping[str, np.ndarray]) -> str:
    return next((name for name, array in arrays.items() if not finite(array)), "")


def all_params_finite(params: Sequence[np.ndarray]) -> bool:
    """Whether a checkpoint of these would be a good one."""
    return all(finite(p) for p in params)

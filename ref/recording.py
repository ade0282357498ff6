"""Lockstep comparison: record the ops of a step on one backend, replay each of them on another (N8).

Free-running trajectories part at the first ulp. In lockstep every op gets the inputs that the reference saw and is judged alone,
under its own contract, so a whole training step can be compared op by op.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lpref.ref.backend import Backend, Kernel, unpaired


@dataclass(frozen=True)
class Call:
    """One recorded op: copies of its inputs, and its output."""

    op: str
    args: tuple
    kwargs: dict[str, Any]
    output: Any


@dataclass(frozen=True)
class Mismatch:
    """Call number `index` of a recording broke the contract of `op`."""

    index: int
    op: str
    what: str

    def __str__(self) -> str:
        return f"call {self.index}, {self.op}: {self.what}"


@dataclass
class Recording:
    """The calls of a step in order."""

    calls: list[Call] = field(default_factory=list)

    def add(self, call: Call) -> None:
        """One more."""
        self.calls.append(call)

    def counts(self) -> dict[str, int]:
        """op -> number of calls."""
        ops = [call.op for call in self.calls]
        return {op: ops.count(op) for op in sorted(set(ops))}


class RecordingBackend(Backend):
    """`inner`, with every call added to ``self.recording``. Operands, and arrays that are not NumPy's, are immutable and kept as they are."""

    def __init__(self, inner: Backend, recording: Any = None) -> None:
        """recording: anything with `add`; a `Recording` by default."""
        self.recording: Any = Recording() if recording is None else recording
        recorded = [Kernel(k.op, self._record(k), k.reference, k.contract) for k in inner.kernels.values()]
        super().__init__(inner.name, inner.numerics, recorded, unpaired(inner.arrays))

    def _record(self, kernel: Kernel) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            kept_args, kept_kwargs = _copy(args), _copy(kwargs)
            output = kernel.function(*args, **kwargs)
            self.recording.add(Call(kernel.op, kept_args, kept_kwargs, _copy(output)))
            return output

        return call


def replay(recording: Recording, backend: Backend) -> list[Mismatch]:
    """Run every recorded call on `backend`, compare under the contract of the backend's kernel. [] where all hold.

    An op that the backend lacks raises BackendError, as any call would.
    """
    found = []
    for index, call in enumerate(recording.calls):
        actual = getattr(backend, call.op)(*_copy(call.args), **_copy(call.kwargs))
        what = backend.kernels[call.op].contract.mismatch(call.output, actual, call.args, call.kwargs)
        if what is not None:
            found.append(Mismatch(index, call.op, what))
    return found


def _copy(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, tuple | list):
        parts = [_copy(v) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)  # a named tuple takes its fields one by one
    if isinstance(value, dict):
        return {key: _copy(v) for key, v in value.items()}
    return value

"""Lockstep: every op of a training step made once more by a second backend from the same inputs, and judged alone (N8).

Free-running trajectories part at the first ulp and then say nothing. Here the backend under test goes on with its own results, and each call is
compared under the contract of its kernel, so that the first op that breaks its promise is named, with where in the model it was called.
`RecordingBackend(inner, Lockstep(inner, against))` is the backend to train with; the calls are judged as they come, none is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lpref.conformance.diff.places import Places
from lpref.ref.backend import Backend
from lpref.ref.contracts import Bits, Bound, Contract, Law, pairs
from lpref.ref.linalg import HighPrecision
from lpref.ref.quantize import QTensor
from lpref.ref.random import WordAddress
from lpref.ref.recording import Call

SAVED = {"attention_backward": 5, "attention_packed_backward": 3}
"""Op -> its argument that a forward saved."""


@dataclass(frozen=True)
class First:
    """The first element that differs: of which call of its row, where in the output, both values in hexadecimal, and how far apart they are.

    ulps: steps between the two on the number line of their type; None for NaN against a number.
    """

    call: int
    where: str
    expected: str
    found: str
    ulps: int | None


@dataclass(frozen=True)
class Row:
    """The calls of one op at one place of the model."""

    phase: str
    site: str
    op: str
    contract: str
    calls: int = 0
    elements: int = 0
    differ: int = 0
    """Elements whose bits differ, which a bound allows."""
    ulps: int = 0
    """The greatest distance of any."""
    first: First | None = None
    broken: str = ""
    """What the contract says of the first call that broke it."""
    broken_calls: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


class Lockstep:
    """The rows of what was called so far. against: who makes every call again, in grade exact a definition.

    number: counts up with the nodes of the tape, so that a call of the backward pass is named after the forward call that it belongs to.
    """

    def __init__(self, inner: Backend, against: Backend, number: Callable[[], int] | None = None) -> None:
        self.inner, self.against, self.places = inner, against, Places(number)
        self.rows: dict[tuple[str, str, str], Row] = {}
        self._twins: dict[int, tuple[Any, Any]] = {}

    def add(self, call: Call) -> None:
        """Makes the call again and judges it."""
        contract = self.inner.kernels[call.op].contract
        args, kwargs = self._there(call.args), self._there(call.kwargs)
        expected = self._host(self._function(call.op, args)(*args, **kwargs), self.against)
        found = self._host(call.output, self.inner)
        if call.op == "operand" and not isinstance(found, (QTensor, HighPrecision)):
            self._twins[_address(call.output)] = (call.output, expected)
        self.compare(*self.places.now(), call.op, contract, expected, found, args, kwargs)

    def compare(
        self, phase: str, site: str, op: str, contract: Contract, expected: Any, found: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> None:
        """Judges one result that was found under a contract, both in host memory, and counts it."""
        kwargs = kwargs or {}
        what = contract.mismatch(expected, found, args, kwargs)
        if isinstance(contract, Bound) and contract.restate is not None:
            expected = contract.restate(expected, found, *args, **kwargs)
        key = (phase, site, op)
        row = self.rows.get(key) or Row(phase, site, op, describe(contract))
        elements, differ, most, first = differences(expected, found, row.calls)
        self.rows[key] = replace(
            row, calls=row.calls + 1, elements=row.elements + elements, differ=row.differ + differ, ulps=max(row.ulps, most),
            first=row.first or first, broken=row.broken or what or "", broken_calls=row.broken_calls + (what is not None),
        )  # fmt: skip

    def next_step(self) -> None:
        """Forgets the operands of the step before."""
        self._twins.clear()

    def broken(self) -> list[Row]:
        """The rows with a call that broke its contract."""
        return [row for row in self.rows.values() if row.broken]

    def _function(self, op: str, args: tuple) -> Callable[..., Any]:
        """Who makes an op again: `against`; what a forward of grade fast saved in place of probabilities only the definition reads."""
        at = SAVED.get(op)
        return self.inner.kernels[op].reference if at is not None and args[at].ndim == 3 else self.against.ops[op]

    def _there(self, value: Any) -> Any:
        """`value` for the definition: NumPy arrays, numbers, QTensors; an operand of the backend's own class is the one that the definition made."""
        if isinstance(value, HighPrecision):
            return HighPrecision(self._host(value.values, self.inner), value.k_axis)
        if hasattr(value, "dequantize") and not isinstance(value, QTensor):
            return self._twin(value)
        if isinstance(value, WordAddress):
            return replace(value, step=int(value.step))
        if isinstance(value, int) and not isinstance(value, bool):
            return int(value)  # a number of a feed is that of now
        return _inside(self._there, value) if _holds(value) else self._host(value, self.inner)

    def _host(self, value: Any, backend: Backend) -> Any:
        """`value` in host memory."""
        if isinstance(value, HighPrecision):
            return HighPrecision(self._host(value.values, backend), value.k_axis)
        if _holds(value):
            return _inside(lambda part: self._host(part, backend), value)
        made = backend.arrays.host(value)
        return np.asarray(made) if isinstance(made, np.ndarray) else made

    def _twin(self, operand: Any) -> Any:
        """What the definition made where the backend made `operand`, or the values of an operand that was made of others."""
        made, twin = self._twins.get(_address(operand), (None, None))
        if made is None or made.k_axis != operand.k_axis or made.values.size != operand.values.size:
            return HighPrecision(operand.dequantize(np.float32), operand.k_axis)
        return twin if made.values.strides == operand.values.strides else twin.transpose()


def describe(contract: Contract) -> str:
    """The contract in a line: bits, or the theorem of a bound, or the text of a law."""
    if isinstance(contract, Bits):
        return "bits"
    return f"bound: {contract.theorem}" if isinstance(contract, Bound) else f"law: {contract.text}" if isinstance(contract, Law) else str(contract)


def differences(expected: Any, found: Any, call: int) -> tuple[int, int, int, First | None]:
    """(elements, how many of them differ in their bits, the greatest distance in ulps, the first)."""
    elements = count = most = 0
    first = None
    for where, want, got in pairs("output", expected, found):
        if not isinstance(want, (np.ndarray, np.generic, float, int)) or got is None:
            continue
        want, got = np.asarray(want), np.asarray(got)
        elements += want.size
        if want.dtype != got.dtype and want.dtype.kind == got.dtype.kind == "f":
            want = want.astype(got.dtype)
        if want.shape != got.shape or want.dtype != got.dtype or not want.size:
            continue
        apart = distances(want.reshape(-1), got.reshape(-1))
        at = np.flatnonzero(apart)
        if at.size:
            count, most = count + at.size, max(most, int(apart[apart != NAN].max(initial=0)))
            place = tuple(int(i) for i in np.unravel_index(at[0], want.shape))
            ulps = None if apart[at[0]] == NAN else int(apart[at[0]])
            first = first or First(call, f"{where}{list(place)}", hexadecimal(want[place]), hexadecimal(got[place]), ulps)
    return elements, int(count), most, first


NAN = np.uint64(2**64 - 1)
"""The distance of a NaN from a number."""


def distances(want: np.ndarray, got: np.ndarray) -> np.ndarray:
    """uint64: how many values of the type lie between two, plus one; 0 for equal ones and for two NaN; -0 and +0 are one apart.

    >>> distances(np.float32([1, -0.0, 2, np.nan]), np.float32([np.nextafter(np.float32(1), np.float32(2)), 0.0, 2, np.nan])).tolist()
    [1, 1, 0, 0]
    """
    one, other = _ordered(want), _ordered(got)
    apart = np.where(one > other, one - other, other - one)
    if want.dtype.kind in "fV":  # ml_dtypes' floats are of kind V
        nan, nan_ = want != want, got != got
        apart = np.where(nan & nan_, np.uint64(0), np.where(nan | nan_, NAN, apart))
    return apart


def _ordered(x: np.ndarray) -> np.ndarray:
    """uint64 in the order of the values."""
    if x.dtype.kind == "b":
        return x.astype(np.uint64)
    bits = 8 * x.dtype.itemsize
    words, top = np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}").astype(np.uint64), np.uint64(1 << (bits - 1))
    if x.dtype.kind == "u":
        return words
    if x.dtype.kind == "i":
        return words ^ top
    return np.where(words & top, np.uint64((1 << bits) - 1) - words, words + top)


def hexadecimal(value: Any) -> str:
    """A number in hexadecimal.

    >>> hexadecimal(np.float32(1.5)), hexadecimal(np.uint8(200)), hexadecimal(np.int64(-3))
    ('0x1.8000000000000p+0', '0xc8', '-0x3')
    """
    return float(value).hex() if value.dtype.kind in "fV" else hex(int(value))


def _holds(value: Any) -> bool:
    return type(value) in (tuple, list) or isinstance(value, dict)


def _inside(move: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: move(part) for key, part in value.items()}
    return type(value)(move(part) for part in value)


def _address(operand: Any) -> int:
    """Where an operand's values lie."""
    return int(operand.values.__array_interface__["data"][0])

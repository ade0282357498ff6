"""What a backend is: a literal table of kernels, each tied to its reference and its contract.

A backend is an object that is passed in (D6). ``backend.rmsnorm(x, w, eps)`` looks the op up in its table; an op that the table
lacks raises `BackendError` with the ops that exist. There is no fallback and no registration from outside: what is not in the
table, with a reference and a contract, cannot be called.

Ops take and return arrays of the backend's library. Every fused op X has X_backward. `operand` returns what `gemm` takes.
What is above a backend does no arithmetic on its arrays: it reshapes, indexes and copies them, and asks `Backend.arrays` to bring
NumPy arrays in and out. In host memory stay: ids, targets, signs, quantizer states (learned steps excepted), and what is one number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from lpref.ref.branch import Branch
from lpref.ref.contracts import Bits, Bound, Contract, Law
from lpref.ref.errors import BackendError, nearest
from lpref.ref.quantize.qtensor import QTensor

__all__ = ["GRADES", "HOST", "Arrays", "Backend", "Bits", "Bound", "Contract", "Kernel", "Law"]

GRADES = ("exact", "fast")  # N7: one defined order everywhere | matrix products and attention under proved bounds


@dataclass(frozen=True)
class Kernel:
    """`function` computes `op`; `reference` defines it; `contract` says how close the two are."""

    op: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    contract: Contract


def host_memory() -> int | None:
    """Bytes of the machine's memory, None where there is no sysconf (Windows)."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


@dataclass(frozen=True)
class Arrays:
    """Where a backend's arrays live; by default NumPy's, in host memory.

    make     a NumPy array or number as an array of the backend; its own arrays pass as they are
    host     an array or quantized tensor of the backend in NumPy
    tensor   the class of its quantized tensors
    memory   bytes of the memory that they live in, None where the system does not say
    sixteen  whether an array of bfloat16 may stand for its float32 values: every op takes one, and some give one where a recipe rounds
    wide     such an array as float32; others pass as they are
    operands ``(x, [(quantizer, options of operand, whether it is kept for later), ...])`` -> what `operand` makes of each,
             together, or None; option "beside": what the operand will be multiplied with, or None
    both     whether `operand` takes an option of this name: the codes will be contracted along both axes, and may be laid out for both at once
    unmade   whether ops give what only codes are made of as something that is computed when they are (`store="unmade"`)
    branch   where the gradients of parameters are made (`lpref.ref.branch`)
    again    bytes from which on the result of an op, if linear layers alone read it and round it to bfloat16, is made again by the op's backward
             (`lpref.accel.again`) and not kept from their forward to theirs; None: never
    overwrites whether ops have the option `overwrite`: the caller gives up an argument, whose memory the result may take
    """

    make: Callable[[Any], Any] = np.asarray
    host: Callable[[Any], Any] = lambda x: x
    tensor: Callable[..., QTensor] = QTensor
    memory: Callable[[], int | None] = host_memory
    sixteen: bool = False
    wide: Callable[[Any], Any] = lambda x: x
    operands: Callable[[Any, Any], list[Any] | None] = lambda x, wanted: None
    branch: Branch = field(default_factory=Branch)
    overwrites: bool = False
    again: int | None = None
    both: bool = False
    unmade: bool = False


HOST = Arrays()


def unpaired(arrays: Arrays) -> Arrays:
    """The same, with every operand made by the op `operand`, everything on one line and no argument lost: for backends that look into each op."""
    return replace(arrays, operands=HOST.operands, branch=HOST.branch, overwrites=False, again=None, both=False, unmade=False)


class Backend:
    """A named table of kernels in one numerics grade.

    >>> import math
    >>> b = Backend("toy", "exact", [Kernel("sqrt", math.sqrt, math.sqrt, Bits())])
    >>> b.sqrt(4.0)
    2.0
    >>> b.sqr
    Traceback (most recent call last):
    ...
    lpref.ref.errors.BackendError: backend 'toy' has no op 'sqr'; nearest: sqrt; all: sqrt
    """

    def __init__(self, name: str, numerics: str, kernels: Iterable[Kernel], arrays: Arrays = HOST) -> None:
        if numerics not in GRADES:
            raise BackendError(f"numerics grade {numerics!r}", where=f"backend {name!r}", remedy=f"one of {', '.join(GRADES)}")
        table = {kernel.op: kernel for kernel in kernels}
        self.name = name
        self.numerics = numerics
        self.arrays = arrays
        self.kernels: Mapping[str, Kernel] = MappingProxyType(table)
        self.ops: Mapping[str, Callable[..., Any]] = MappingProxyType({op: kernel.function for op, kernel in table.items()})
        self.__dict__.update(self.ops)

    def __getattr__(self, op: str) -> Any:
        if op.startswith("__") or "ops" not in self.__dict__:
            raise AttributeError(op)
        raise BackendError(f"backend {self.name!r} has no op {op!r}", remedy=_known(op, self.ops))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} numerics={self.numerics} {len(self.kernels)} ops>"


def _known(op: str, ops: Iterable[str]) -> str:
    near = nearest(op, ops)
    head = f"nearest: {', '.join(near)}; " if near else ""
    return f"{head}all: {', '.join(sorted(ops))}"

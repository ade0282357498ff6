"""Rule s2fp8: the definition on the kernels of log2 and exp2, and what became zero."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lpref.accel.cpu import elementwise, threads
from lpref.accel.cpu.quantize_kernels import OPTIONS
from lpref.ref import reduce
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.qtensor import code_values
from lpref.ref.scaling import Scale, s2fp8_scales


@cache
def bare(q: Quantizer) -> Quantizer:
    """The quantizer of the squeezed elements: the same elements under the scale 1."""
    return Quantizer(q.format, scale=Scale("constant"), rounding=q.rounding, word_bits=q.word_bits, overflow=q.overflow, narrow=q.narrow)


def squeezed(x: NDArray[np.float32], q: Quantizer) -> tuple[NDArray[np.float32], np.float32, NDArray[np.float32], Any] | None:
    """(elements, amax, the scale 1, aux) of x [R, C]; None where x holds NaN or infinity."""
    top = reduce.amax(x)
    if not np.isfinite(top):
        return None
    made = s2fp8_scales(x, 2.0**15 if q.scale.target is None else q.scale.target, elementwise)
    assert made.elements is not None, "the rule says its elements"
    return made.elements, np.float32(top), made.factor, made.aux


def lost(codes: NDArray, q: Quantizer, x: NDArray[np.float32]) -> int:
    """Elements whose code stands for 0 and that are not 0 themselves; codes of 8 or 16 bits, one an element."""
    zero = code_values(q.format) == 0
    rows, columns = x.shape
    return int(sum(threads.split(rows, lambda r0, r1: _lost(codes, zero, x, r0, r1), 1, max(1, threads.GRAIN // max(columns, 1)))))


@njit(**OPTIONS)
def _lost(codes, zero, x, r0, r1):  # type: ignore[no-untyped-def]
    """Of rows r0 .. r1."""
    count = 0
    for r in range(r0, r1):
        for c in range(x.shape[1]):
            if zero[codes[r, c]] and x[r, c] != 0:
                count += 1
    return count

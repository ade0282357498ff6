"""The CPU backend: Numba kernels, NumPy and BLAS."""

from __future__ import annotations

from lpref.accel.cpu import cache

cache.use()  # before any kernel is defined

from lpref.accel.reference import reference_ops
from lpref.ref.backend import Backend, Bits, Kernel


class CpuBackend(Backend):
    """Fast functions on the host. Grade "fast" multiplies matrices by BLAS; everything else has the same bits in both grades."""

    def __init__(self, numerics: str = "fast") -> None:
        exact, mine = reference_ops("exact"), reference_ops(numerics)
        super().__init__("cpu", numerics, [Kernel(op, mine[op], exact[op], Bits()) for op in mine])

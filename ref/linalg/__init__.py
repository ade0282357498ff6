"""Dot products, matrix products under an accumulation model, and the Hadamard transform."""

from lpref.ref.linalg.accumulate import Accumulate, HighPrecision
from lpref.ref.linalg.accumulators import ACCUMULATORS, Accumulator, accumulator
from lpref.ref.linalg.bounds import accumulation_bound, fast_bound, gamma, native_bound
from lpref.ref.linalg.exact_dot import exact_dot
from lpref.ref.linalg.gemm import Operand, gemm
from lpref.ref.linalg.hadamard import hadamard, hadamard_inverse
from lpref.ref.linalg.matmul import matmul
from lpref.ref.linalg.quire import Quire, quire_dot
from lpref.ref.linalg.tensor_core import TensorCore

__all__ = [
    "ACCUMULATORS",
    "Accumulate",
    "Accumulator",
    "HighPrecision",
    "Operand",
    "Quire",
    "TensorCore",
    "accumulation_bound",
    "accumulator",
    "exact_dot",
    "fast_bound",
    "gamma",
    "gemm",
    "hadamard",
    "hadamard_inverse",
    "matmul",
    "native_bound",
    "quire_dot",
]

"""The bits of a float32 as an int32 and back, inside Numba kernels: one LLVM bitcast each."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def _to_bits(typing: Any, x: Any) -> Any:
    """float32 -> int32 with the same bits."""
    return types.int32(types.float32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def _from_bits(typing: Any, b: Any) -> Any:
    """int32 -> float32 with the same bits."""
    return types.float32(types.int32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.FloatType())


to_bits: Any = _to_bits
from_bits: Any = _from_bits

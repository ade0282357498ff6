"""Asking memory for a line early, from Numba: `ahead(array, index)` fetches the cache line of an element, or does nothing;
`ask` does so for a source and a target.

Hardware fetches ahead within a page of 4 KiB only; a cast that streams through hundreds of megabytes gains by asking
across pages. Addresses beyond the array are harmless: a prefetch never faults.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic


@intrinsic
def ahead(typing: Any, array: Any, index: Any) -> Any:
    """Fetch the line of array[index] (contiguous, any rank taken as flat) into the second cache."""
    if not (isinstance(array, types.Array) and array.layout == "C"):
        return None

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        builder.call(prefetch, [address, i32(0), i32(3), i32(1)])  # a read, near, data
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@njit(nogil=True, error_model="numpy", forceinline=True)
def ask(source: Any, target: Any, at: Any, count: Any) -> None:
    """Ask for elements at .. at + count, a multiple of 32, of two arrays whose elements have up to 32 bits."""
    for i in range(count >> 5):
        ahead(source, at + 32 * i)  # type: ignore[call-arg]  # Numba passes the typing context
        ahead(source, at + 32 * i + 16)  # type: ignore[call-arg]
        ahead(target, at + 32 * i)  # type: ignore[call-arg]
        if target.itemsize == 4:
            ahead(target, at + 32 * i + 16)  # type: ignore[call-arg]

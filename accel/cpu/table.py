"""Reading tables in kernels: `look(table, index)`, and `put(out, index, value)` for what is written meanwhile.

LLVM turns a loop with a look-up into vector instructions only when it knows that no table lies in the memory that the loop writes. Numba
does not tell it so; these two do, by a scope that `look` reads from and that `put` keeps out of. The arrays must not overlap.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _scope(module: Any) -> Any:
    """The list of one alias scope, the same for every kernel."""
    domain = module.add_metadata(["lpref"])
    return module.add_metadata([module.add_metadata(["lpref tables", domain])])


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def _whole(context: Any, builder: Any, kind: Any, index: Any) -> Any:
    return builder.zext(index, ir.IntType(64)) if kind.bitwidth < 64 else index


def _reader(place: str) -> Any:
    """An intrinsic that reads array[index] with this metadata."""

    @intrinsic
    def read(typing: Any, array: Any, index: Any) -> Any:
        if not (isinstance(array, types.Array) and array.layout == "C" and isinstance(index, types.Integer)):
            return None

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            at = _whole(context, builder, signature.args[1], args[1])
            loaded = builder.load(_address(context, builder, signature.args[0], args[0], at), align=array.dtype.bitwidth // 8)
            loaded.set_metadata(place, _scope(builder.module))
            return loaded

        return array.dtype(array, index), emit

    return read


@intrinsic
def _put(typing: Any, out: Any, index: Any, value: Any) -> Any:
    if not (isinstance(out, types.Array) and out.layout == "C" and isinstance(index, types.Integer)):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _whole(context, builder, signature.args[1], args[1])
        value = context.cast(builder, args[2], signature.args[2], out.dtype)
        stored = builder.store(value, _address(context, builder, signature.args[0], args[0], at), align=out.dtype.bitwidth // 8)
        stored.set_metadata("noalias", _scope(builder.module))
        return context.get_dummy_value()

    return types.void(out, index, value), emit


look, take = _reader("alias.scope"), _reader("noalias")
put: Any = _put

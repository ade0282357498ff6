"""float64 inside Numba kernels: its bits, and rounding to integers as single vector instructions (NumPy's versions become calls)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def _int_of(typing_context: Any, x: Any) -> Any:
    """The bits of a float64 as int64."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int64))

    return types.int64(types.float64), build


@intrinsic
def _float_of(typing_context: Any, x: Any) -> Any:
    """The float64 with these bits."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return types.float64(types.int64), build


def _instruction(name: str) -> Callable[..., Any]:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        double = context.get_value_type(types.float64)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(double, [double]), name)
        return builder.call(function, args)

    return build


@intrinsic
def _trunc(typing_context: Any, x: Any) -> Any:
    """Toward zero."""
    return types.float64(types.float64), _instruction("llvm.trunc.f64")


@intrinsic
def _rint(typing_context: Any, x: Any) -> Any:
    """To nearest even."""
    return types.float64(types.float64), _instruction("llvm.rint.f64")


int_of: Any = _int_of
float_of: Any = _float_of
trunc: Any = _trunc
rint: Any = _rint

"""Elementwise ops of CuPy arrays: the elementary functions of `lpref.ref.elementary`, IEEE arithmetic, NumPy's selections; bit for bit.

CuPy's own float arithmetic and comparisons flush subnormals, so none is used. Operands broadcast as in NumPy: numbers, and arrays repeated along
one run of axes (scalars, rows, columns), are read where they lie; any other repetition is copied out first. Python numbers take float32, as in NumPy.
+ - x read arrays of bfloat16 as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device
from lpref.ref.errors import BackendError

Operand = tuple[Any, Any, int, int]
"""Pointer (0: none), the number that stands for it, and where element i reads: 0, or i / each mod count."""
WHOLE = (0, 0)
NUMBERS = (float, int, bool)
SHORT = ("add", "sub", "mul")
"""What reads arrays of bfloat16."""


def _unary(name: str) -> Callable[[Any], Any]:
    def function(x: Any) -> Any:
        (x,) = arrays.floats(name, x)
        out = device.cupy().empty(x.shape, np.float32)
        arrays.each("elementwise", f"each_{name}", x.size, x, x.size, out)
        return out

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`{name}` of every element."
    return function


def _binary(name: str) -> Callable[[Any, Any], Any]:
    def function(x: Any, y: Any) -> Any:
        return _paired(name, x, y, np.float32)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`{name}` of every pair of elements."
    return function


def _comparison(name: str) -> Callable[[Any, Any], Any]:
    def function(x: Any, y: Any) -> Any:
        if _whole(x) and _whole(y):
            return getattr(device.cupy(), name)(x, y)  # integers have no subnormals
        return _paired(name, x, y, np.bool_)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`{name}` of every pair of elements, as booleans; of two integer arrays also."
    return function


def _paired(name: str, x: Any, y: Any, dtype: Any) -> Any:
    shape = _shape(name, x, y)
    out = device.cupy().empty(shape, dtype)
    defines = arrays.kinds(LP_A=x, LP_B=y) if name in SHORT else ()
    a, b = (_operand(name, v, shape, bool(defines) and arrays.is_sixteen(v)) for v in (x, y))
    arrays.each("elementwise", f"each_{name}", out.size, *a, *b, out.size, out, defines=defines)
    return out


def _whole(x: Any) -> bool:
    return device.on_device(x) and x.dtype.kind in "biu"


exp, exp2, log, log2 = _unary("exp"), _unary("exp2"), _unary("log"), _unary("log2")
sin, cos, tanh, sigmoid = _unary("sin"), _unary("cos"), _unary("tanh"), _unary("sigmoid")
erf, rsqrt, sqrt = _unary("erf"), _unary("rsqrt"), _unary("sqrt")
neg, abs, rint = _unary("neg"), _unary("abs"), _unary("rint")
add, sub, mul, div = _binary("add"), _binary("sub"), _binary("mul"), _binary("div")
maximum, minimum = _binary("maximum"), _binary("minimum")
greater, greater_equal, equal = _comparison("greater"), _comparison("greater_equal"), _comparison("equal")


def pow(x: Any, y: Any) -> Any:
    """`lpref.ref.elementary.pow`: x an array; y a float32 array, or a number, which stays float64."""
    arrays.check("pow", x)
    shape = _shape("pow", x, y)
    out = device.cupy().empty(shape, np.float32)
    number = not device.on_device(y) and np.ndim(y) == 0
    exponent = (0, np.float32(0), *WHOLE) if number else _operand("pow", y, shape)
    arrays.each("elementwise", "each_pow", out.size, *_operand("pow", x, shape), *exponent, np.float64(y if number else 0), out.size, out)
    return out


def where(condition: Any, x: Any, y: Any) -> Any:
    """np.where of a boolean or integer array on the device; x and y as everywhere here, at least one of them float32 already."""
    cp = device.cupy()
    if not device.on_device(condition) or condition.dtype.kind not in "biu":
        kind = condition.dtype if hasattr(condition, "dtype") else type(condition).__name__
        raise BackendError(f"where got {kind} as its condition", where="cuda", remedy="pass a boolean CuPy array")
    if type(x) in NUMBERS and type(y) in NUMBERS:
        raise BackendError("where got two Python numbers, which are float64", where="cuda", remedy="make one of them numpy.float32")
    shape = np.broadcast_shapes(condition.shape, np.shape(x), np.shape(y))
    mask = condition if condition.dtype == np.bool_ else condition != 0
    if all(hasattr(value, "dtype") and value.dtype.kind in "biu" for value in (x, y)):
        return cp.where(mask, x, y)  # integers have no subnormals
    mask, each, count = _spread(mask, shape)
    out = cp.empty(shape, np.float32)
    arrays.each("elementwise", "each_where", out.size, mask, each, count, *_operand("where", x, shape), *_operand("where", y, shape), out.size, out)
    return out


def _shape(op: str, *operands: Any) -> tuple[int, ...]:
    """The shape of the result; one operand at least is an array on the device."""
    if not any(device.on_device(x) for x in operands):
        raise BackendError(f"{op} got no CuPy array", where="cuda", remedy=f"pass cupy.asarray(x), or {device.REMEDY}")
    shapes = {np.shape(x) for x in operands if type(x) not in NUMBERS}
    return shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)


def _operand(op: str, x: Any, shape: tuple[int, ...], short: bool = False) -> Operand:
    """x as the kernels take it; short: an array of bfloat16, of which they take the bits.

    Raises: BackendError for host arrays and for what is not float32.
    """
    if not device.on_device(x):
        if type(x) in NUMBERS or (isinstance(x, (np.ndarray, np.generic)) and x.ndim == 0 and x.dtype == np.float32):
            return 0, np.float32(x), *WHOLE
        if isinstance(x, np.generic):
            raise BackendError(f"{op} got a {x.dtype}; the kernels are float32", where="cuda", remedy="cast, or use the reference backend")
    if not short:
        arrays.check(op, x)
    array, each, count = _spread(x.view(np.uint16) if short else x, shape)
    return array, np.float32(0), each, count


def _spread(x: Any, shape: tuple[int, ...]) -> tuple[Any, int, int]:
    """(x contiguous, each, count): element i of the broadcast array is x[i / each mod count]; each 0: x[i]."""
    cp = device.cupy()
    if x.shape == shape:
        return cp.ascontiguousarray(x), *WHOLE
    sizes = (1,) * (len(shape) - x.ndim) + x.shape
    long = [axis for axis, size in enumerate(sizes) if size != 1]
    first, last = (long[0], long[-1] + 1) if long else (0, 0)
    if sizes[first:last] != shape[first:last]:
        return cp.ascontiguousarray(cp.broadcast_to(x, shape)), *WHOLE
    return cp.ascontiguousarray(x), math.prod(shape[last:]) if long else 1, math.prod(shape[first:last])

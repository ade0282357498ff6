"""RMSNorm and LayerNorm of CuPy arrays, alone and behind the addition of a residual stream: the pages of `lpref.ref.nn.norm` with their bits.

Rows of up to 1024 numbers that can be read by fours: one kernel a direction, a warp a row, with the addition, its gradient and the lane groups of the
weights' column sums (`whole`). Others: the addition apart, a team of threads a row, and backward a kernel for dx and one for the lane groups.
x, h and dy may be of bfloat16; y is stored in the format `store`, a copy of dx in the format `copy`; a backward pass gives the norm once more in the
format `again` (`lpref.accel.again`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, lines, noted
from lpref.accel.cuda.elementwise import add, mul, sub
from lpref.accel.cuda.reduce import column_sums
from lpref.ref.nn.norm import check

LONGEST = 1024
"""Numbers of a row that a warp keeps in registers: the lanes of the one sum."""
LANES = 128
"""Lane groups that `add_norm_backward` leaves to `column_sums`."""


def rmsnorm(x: Any, w: Any, eps: float, *, store: str = "float32") -> tuple[Any, Any]:
    """(y, rstd): `lpref.ref.nn.rmsnorm`."""
    y, _, rstd, _ = _forward("rmsnorm", x, None, w, None, eps, store)
    return y, rstd


def rmsnorm_backward(
    dy: Any, x: Any, w: Any, rstd: Any, *, copy: str = "float32", again: str = "float32",
) -> tuple[Any, ...]:  # fmt: skip
    """(dx, dw) and, where they are asked for, the copy of dx and the norm again: `lpref.ref.nn.rmsnorm_backward`."""
    return _backward("rmsnorm_backward", dy, None, x, w, None, rstd, copy, again, None)


def layernorm(x: Any, w: Any, b: Any, eps: float, *, store: str = "float32") -> tuple[Any, Any, Any]:
    """(y, mean, rstd): `lpref.ref.nn.layernorm`."""
    return _forward("layernorm", x, None, w, b, eps, store)[:3]


def layernorm_backward(
    dy: Any, x: Any, w: Any, mean: Any, rstd: Any, *, copy: str = "float32", again: str = "float32", b: Any = None,
) -> tuple[Any, ...]:  # fmt: skip
    """(dx, dw, db) and, where they are asked for, the copy of dx and the norm again: `lpref.ref.nn.layernorm_backward`."""
    return _backward("layernorm_backward", dy, None, x, w, mean, rstd, copy, again, b)


def add_rmsnorm(x: Any, h: Any, w: Any, eps: float, *, store: str = "float32") -> tuple[Any, Any, Any]:
    """(y, rstd, s): `lpref.ref.nn.add_rmsnorm`."""
    y, _, rstd, s = _forward("add_rmsnorm", x, h, w, None, eps, store)
    return y, rstd, s


def add_rmsnorm_backward(
    dy: Any, ds: Any, s: Any, w: Any, rstd: Any, *, copy: str = "float32", again: str = "float32",
) -> tuple[Any, ...]:  # fmt: skip
    """(dx, dw) and, where they are asked for, the copy of dx and the norm again: `lpref.ref.nn.add_rmsnorm_backward`."""
    return _backward("add_rmsnorm_backward", dy, ds, s, w, None, rstd, copy, again, None)


def add_layernorm(x: Any, h: Any, w: Any, b: Any, eps: float, *, store: str = "float32") -> tuple[Any, Any, Any, Any]:
    """(y, mean, rstd, s): `lpref.ref.nn.add_layernorm`."""
    return _forward("add_layernorm", x, h, w, b, eps, store)


def add_layernorm_backward(
    dy: Any, ds: Any, s: Any, w: Any, mean: Any, rstd: Any, *, copy: str = "float32", again: str = "float32", b: Any = None,
) -> tuple[Any, ...]:  # fmt: skip
    """(dx, dw, db) and, where they are asked for, the copy of dx and the norm again: `lpref.ref.nn.add_layernorm_backward`."""
    return _backward("add_layernorm_backward", dy, ds, s, w, mean, rstd, copy, again, b)


def whole(n: int, *held: Any) -> bool:
    """Whether a warp can have a row of n numbers in its registers and read these arrays by fours."""
    return n <= LONGEST and n % 4 == 0 and all(x is None or x.data.ptr % (8 if arrays.is_sixteen(x) else 16) == 0 for x in held)


def _pointer(x: Any) -> Any:
    """An array as an argument of a kernel that may be null."""
    return np.uint64(0) if x is None else x


def _macros(layer: bool, n: int, **held: Any) -> tuple[tuple[str, Any], ...]:
    return (("LP_LAYER", int(layer)), ("LP_FOURS", -(-n // 128)), *arrays.kinds(**held))


def _forward(op: str, x: Any, h: Any, w: Any, b: Any, eps: float, store: str) -> tuple[Any, Any, Any, Any]:
    """(y, mean, rstd, s): no mean of RMSNorm (without b), no s where nothing is added."""
    check(op, x, w, **({} if h is None else {"h": h}))
    if b is not None:
        arrays.shaped(op, w.shape, b=b)
    x, h = (None if a is None else arrays.values(op, a)[0] for a in (x, h))
    w, b = (None if a is None else arrays.floats(op, arrays.wide(a))[0] for a in (w, b))
    (rows, n), cp = x.shape, device.cupy()
    if not whole(n, x, h, w, b):
        s = None if h is None else add(x, h)
        return (*_apart(x if s is None else s, w, b, eps, store), s)
    y, rstd = arrays.empty(x.shape, store), cp.empty(rows, np.float32)
    mean, s = None if b is None else cp.empty(rows, np.float32), None if h is None else cp.empty(x.shape, np.float32)
    if rows:
        peak, counters, (_, turned, *turn) = noted.panels(y, n, whole=rows % 8 == 0)
        run = device.function("add_norm", "add_norm", (*_macros(b is not None, n, LP_X=x, LP_H=h, LP_Y=y), *peak))
        sizes, high = (rows, np.int32(n), np.float32(n), np.float32(eps)), noted.ROWS if turned else 8
        run((-(-rows // high),), (32 * high,), (x, _pointer(h), w, _pointer(b), *sizes, y, _pointer(mean), rstd, _pointer(s), counters, *turn))
    return y, mean, rstd, s


def _apart(x: Any, w: Any, b: Any, eps: float, store: str) -> tuple[Any, Any, Any]:
    """(y, mean, rstd), a team of threads a row."""
    (rows, n), cp = x.shape, device.cupy()
    y, rstd = arrays.empty(x.shape, store), cp.empty(rows, np.float32)
    mean = None if b is None else cp.empty(rows, np.float32)
    sizes, defines = (rows, n, np.float32(n), np.float32(eps)), arrays.kinds(LP_X=x, LP_Y=y)
    if b is None:
        arrays.rows("norm", "rmsnorm", rows, n, x, w, *sizes, y, rstd, defines=defines)
    else:
        arrays.rows("norm", "layernorm", rows, n, x, w, b, *sizes, y, mean, rstd, defines=defines)
    return y, mean, rstd


def _backward(op: str, dy: Any, ds: Any, x: Any, w: Any, mean: Any, rstd: Any, copy: str, again: str, b: Any) -> tuple[Any, ...]:
    """(dx, dw), db where there is a mean, the copy of dx and the norm once more, if they are asked for; ds: what is added to dx, or None."""
    check(op, x, w, dy, **({} if ds is None else {"ds": ds}))
    arrays.shaped(op, x.shape[:1], rstd=rstd, **({} if mean is None else {"mean": mean}))
    dy, x = arrays.values(op, dy, x)
    ds, w, mean, rstd, b = (None if a is None else arrays.floats(op, arrays.wide(a))[0] for a in (ds, w, mean, rstd, b))
    if not whole(x.shape[1], dy, ds, x, w, b):
        dx, sums = _backward_apart(dy, x, w, mean, rstd)
        dx = dx if ds is None else add(ds, dx)
        more = [] if copy == "float32" else [arrays.cast_for_storage(dx, copy)]
        return (dx, *sums, *more, *([] if again == "float32" else [arrays.cast_for_storage(_normed(arrays.wide(x), w, b, mean, rstd), again)]))
    (rows, n), cp, many = x.shape, device.cupy(), 1 if mean is None else 2
    dx, second = cp.empty(x.shape, np.float32), None if copy == "float32" else arrays.empty(x.shape, copy)
    partial, y = cp.empty((many, min(LANES, rows), n), np.float32), None if again == "float32" else arrays.empty(x.shape, again)
    if rows:
        peak, counters = noted.counters(dx)
        kinds = (*_macros(mean is not None, n, LP_X=x, LP_DY=dy), *(() if y is None else (("LP_AGAIN", 1),)), *peak)
        run = device.function("add_norm_backward", "add_norm_backward", kinds)
        sizes = (rows, np.int32(n), np.float32(n))
        made = (dx, _pointer(second), partial, _pointer(b), _pointer(y), counters)
        run((partial.shape[1],), (256,), (dy, _pointer(ds), x, w, _pointer(mean), rstd, *sizes, *made))
    sums = lines.BRANCH(lambda: column_sums(partial))
    return (dx, *sums, *(a for a in (second, y) if a is not None))


def _normed(x: Any, w: Any, b: Any, mean: Any, rstd: Any) -> Any:
    """The norm of x, whose statistics are known."""
    y = mul(mul(x if mean is None else sub(x, mean[:, None]), rstd[:, None]), w)
    return y if mean is None else add(y, b)


def _backward_apart(dy: Any, x: Any, w: Any, mean: Any, rstd: Any) -> tuple[Any, Any]:
    """dx, and (dw,) or (dw, db): a team of threads a row, then blocks of columns."""
    (rows, n), cp, kinds = x.shape, device.cupy(), arrays.kinds(LP_X=x, LP_DY=dy)
    dx, name, saved = cp.empty(x.shape, np.float32), "rmsnorm" if mean is None else "layernorm", (rstd,) if mean is None else (mean, rstd)
    columns = (len(saved), 1, rows, n, dy, x, *saved, rows, n)
    sums = lines.BRANCH(lambda: column_sums(arrays.columns("norm", f"{name}_columns", *columns, defines=kinds)[:, 0]))
    arrays.rows("norm", f"{name}_rows", rows, n, dy, x, w, *saved, rows, n, np.float32(n), dx, defines=kinds)
    return dx, sums

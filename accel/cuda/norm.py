"""RMSNorm and LayerNorm of CuPy arrays: the pages of `lpref.ref.nn.norm` with their bits.

Forward: one kernel, a team of threads a row. Backward: one for dx, one for the lane groups of the weights' column sums, one for their sums.
x and dy may be of bfloat16; y is stored in the format `store`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device
from lpref.accel.cuda.reduce import column_sums
from lpref.ref.nn.norm import check


def rmsnorm(x: Any, w: Any, eps: float, *, store: str = "float32") -> tuple[Any, Any]:
    """(y, rstd): `lpref.ref.nn.rmsnorm`."""
    check("rmsnorm", x, w)
    (x,), (w,) = arrays.values("rmsnorm", x), arrays.floats("rmsnorm", arrays.wide(w))
    (rows, n), cp = x.shape, device.cupy()
    y, rstd = arrays.empty(x.shape, store), cp.empty(rows, np.float32)
    args = (x, w, rows, n, np.float32(n), np.float32(eps), y, rstd)
    arrays.rows("norm", "rmsnorm", rows, n, *args, defines=arrays.kinds(LP_X=x, LP_Y=y))
    return y, rstd


def rmsnorm_backward(dy: Any, x: Any, w: Any, rstd: Any) -> tuple[Any, Any]:
    """(dx, dw): `lpref.ref.nn.rmsnorm_backward`."""
    check("rmsnorm_backward", x, w, dy)
    arrays.shaped("rmsnorm_backward", x.shape[:1], rstd=rstd)
    (dy, x), (w, rstd) = arrays.values("rmsnorm_backward", dy, x), arrays.floats("rmsnorm_backward", *map(arrays.wide, (w, rstd)))
    (rows, n), cp = x.shape, device.cupy()
    dx, defines = cp.empty(x.shape, np.float32), arrays.kinds(LP_X=x, LP_DY=dy)
    arrays.rows("norm", "rmsnorm_rows", rows, n, dy, x, w, rstd, rows, n, np.float32(n), dx, defines=defines)
    (dw,) = column_sums(*arrays.columns("norm", "rmsnorm_columns", 1, 1, rows, n, dy, x, rstd, rows, n, defines=defines))
    return dx, dw


def layernorm(x: Any, w: Any, b: Any, eps: float, *, store: str = "float32") -> tuple[Any, Any, Any]:
    """(y, mean, rstd): `lpref.ref.nn.layernorm`."""
    check("layernorm", x, w)
    arrays.shaped("layernorm", w.shape, b=b)
    (x,), (w, b) = arrays.values("layernorm", x), arrays.floats("layernorm", *map(arrays.wide, (w, b)))
    (rows, n), cp = x.shape, device.cupy()
    y, mean, rstd = arrays.empty(x.shape, store), cp.empty(rows, np.float32), cp.empty(rows, np.float32)
    args = (x, w, b, rows, n, np.float32(n), np.float32(eps), y, mean, rstd)
    arrays.rows("norm", "layernorm", rows, n, *args, defines=arrays.kinds(LP_X=x, LP_Y=y))
    return y, mean, rstd


def layernorm_backward(dy: Any, x: Any, w: Any, mean: Any, rstd: Any) -> tuple[Any, Any, Any]:
    """(dx, dw, db): `lpref.ref.nn.layernorm_backward`."""
    check("layernorm_backward", x, w, dy)
    arrays.shaped("layernorm_backward", x.shape[:1], mean=mean, rstd=rstd)
    (dy, x), (w, mean, rstd) = arrays.values("layernorm_backward", dy, x), arrays.floats("layernorm_backward", *map(arrays.wide, (w, mean, rstd)))
    (rows, n), cp = x.shape, device.cupy()
    dx, defines = cp.empty(x.shape, np.float32), arrays.kinds(LP_X=x, LP_DY=dy)
    arrays.rows("norm", "layernorm_rows", rows, n, dy, x, w, mean, rstd, rows, n, np.float32(n), dx, defines=defines)
    partial = arrays.columns("norm", "layernorm_columns", 2, 1, rows, n, dy, x, mean, rstd, rows, n, defines=defines)
    dw, db = column_sums(partial[:, 0])
    return dx, dw, db

"""Activations of CuPy arrays: the pages of `lpref.ref.nn.activation` in one pass each, with their bits.

Inputs may be of bfloat16; results are stored in the format `store`. `near`, of grade fast: e^x, sigmoid and tanh in float32, within the bounds of
`lpref.ref.nn.bounds`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, noted
from lpref.accel.cuda.qtensor import Counters
from lpref.accel.cuda.unmade import GELU, NAME, Unmade
from lpref.ref.errors import UnknownNameError
from lpref.ref.nn.activation import (
    GELU_CUBIC,
    GELU_KINDS,
    INV_SQRT_2PI,
    SQRT_2_OVER_PI,
    SQRT_HALF,
    check_halves,
    check_same,
)

CONSTANTS = {
    "tanh": tuple(np.float32(c) for c in (SQRT_2_OVER_PI, GELU_CUBIC, 3 * GELU_CUBIC)),
    "erf": tuple(np.float32(c) for c in (SQRT_HALF, INV_SQRT_2PI, 0)),
}

PANEL = 64
"""Columns of a panel (kernels/noting.cuh)."""
NEAR = (("LP_NEAR", 1),)
"""The macro of core/decided.h."""


def relu(x: Any) -> Any:
    """`lpref.ref.nn.relu`."""
    return _each("relu", x)


def relu_backward(dy: Any, x: Any) -> Any:
    """`lpref.ref.nn.relu_backward`."""
    check_same("relu_backward", dy, x)
    return _each("relu_backward", x, dy)


def silu(x: Any, *, near: bool = False) -> Any:
    """`lpref.ref.nn.silu`."""
    return _each("silu", x, near=near)


def silu_backward(dy: Any, x: Any, *, near: bool = False) -> Any:
    """`lpref.ref.nn.silu_backward`."""
    check_same("silu_backward", dy, x)
    return _each("silu_backward", x, dy, near=near)


def gelu(x: Any, kind: str = "tanh", *, store: str = "float32", near: bool = False) -> Any:
    """`lpref.ref.nn.gelu`; store: also `unmade.NAME`, for an `Unmade` of what a kernel codes."""
    if store == NAME:
        if kind == "tanh" and near and arrays.is_sixteen(x) and x.ndim == 2 and x.flags.c_contiguous:
            peak = None if x.size % 8 or x.data.ptr % 16 else partial(_peak, x)
            return Unmade(x, GELU, CONSTANTS["tanh"], partial(gelu, x, near=True), x.shape, peak)
        store = "float32"
    return _each(f"gelu_{_known(kind)}", x, constants=CONSTANTS[kind], store=store, near=near)


def _peak(x: Any) -> Any:
    """The amax of `gelu` of bfloat16, near, by sixteen bytes."""
    row, run = Counters.take().row, device.function("activation", "gelu_tanh_peak", (*_macros(True, LP_X=x), *noted.PEAK))
    if x.size:
        run((device.blocks_for(x.size // 32, waves=4),), (device.THREADS,), (x, x.size, *CONSTANTS["tanh"], row))
    return noted.bits(row)


def gelu_backward(dy: Any, x: Any, kind: str = "tanh", *, store: str = "float32", again: str = "float32", near: bool = False) -> Any:
    """`lpref.ref.nn.gelu_backward`, and `gelu` of x kept in the format `again`, where that is another than float32."""
    check_same("gelu_backward", dy, x)
    entry = f"gelu_{_known(kind)}_backward"
    dy, x = arrays.values(entry, dy, x)
    dx, y = arrays.empty(x.shape, store), None if again == "float32" else arrays.empty(x.shape, again)
    kinds = (*_macros(near, LP_X=x, LP_Y=dx, LP_DY=dy), *(() if y is None else (("LP_AGAIN", 1),)))
    _launch(entry, dx, dx.size, kinds, dy, x, dx.size, *CONSTANTS[kind], dx, np.uint64(0) if y is None else y)
    return dx if y is None else (dx, y)


def swiglu(g: Any, u: Any, *, near: bool = False) -> Any:
    """`lpref.ref.nn.swiglu`."""
    check_same("swiglu", g, u)
    g, u = _alike("swiglu", g, u)
    y = device.cupy().empty(g.shape, np.float32)
    _launch("swiglu", None, g.size, _macros(near, LP_X=g), g, u, g.size, 1, 1, y)
    return y


def swiglu_backward(dy: Any, g: Any, u: Any, *, near: bool = False) -> tuple[Any, Any]:
    """`lpref.ref.nn.swiglu_backward`."""
    check_same("swiglu_backward", g, u, dy)
    (dy,), (g, u) = arrays.values("swiglu_backward", dy), _alike("swiglu_backward", g, u)
    dg, du = device.cupy().empty(g.shape, np.float32), device.cupy().empty(g.shape, np.float32)
    _launch("swiglu_backward", None, g.size, _macros(near, LP_X=g, LP_DY=dy), dy, g, u, g.size, 1, 1, dg, du)
    return dg, du


def swiglu_packed(gu: Any, *, store: str = "float32", near: bool = False) -> Any:
    """`lpref.ref.nn.swiglu_packed`."""
    half = check_halves("swiglu_packed", gu)
    (gu,) = arrays.values("swiglu_packed", gu)
    y = arrays.empty((len(gu), half), store)
    _launch("swiglu", y, y.size, _macros(near, LP_X=gu, LP_Y=y), *_halves(gu, half), y.size, half, 2 * half, y)
    return y


def swiglu_packed_backward(dy: Any, gu: Any, *, store: str = "float32", near: bool = False) -> Any:
    """`lpref.ref.nn.swiglu_packed_backward`."""
    half = check_halves("swiglu_packed_backward", gu, dy)
    dy, gu = arrays.values("swiglu_packed_backward", dy, gu)
    d = arrays.empty(gu.shape, store)
    kinds = _macros(near, LP_X=gu, LP_DY=dy, LP_Y=d)
    _launch("swiglu_backward", d, dy.size, kinds, dy, *_halves(gu, half), dy.size, half, 2 * half, *_halves(d, half))
    return d


def _halves(gu: Any, half: int) -> tuple[Any, Any]:
    """Where the gates and the values of gu [N, 2F] begin."""
    flat = gu.reshape(-1)
    return flat, flat[half:]


def _alike(op: str, g: Any, u: Any) -> tuple[Any, ...]:
    """Two arrays that the kernels read as one type."""
    return arrays.values(op, g, u) if arrays.is_sixteen(g) == arrays.is_sixteen(u) else arrays.floats(op, arrays.wide(g), arrays.wide(u))


def _known(kind: str) -> str:
    if kind not in GELU_KINDS:
        raise UnknownNameError("gelu kind", kind, GELU_KINDS)
    return kind


def _macros(near: bool, **held: Any) -> tuple[tuple[str, int], ...]:
    """What the kernels' arrays are, and whether near is near enough."""
    return (*arrays.kinds(**held), *(NEAR if near else ()))


def _launch(entry: str, y: Any, n: int, kinds: tuple[tuple[str, int], ...], *args: Any) -> None:
    """The kernel, by fours or by panels. y: its result, of whose greatest magnitudes it notes what is wanted, or None; n: its numbers, or those of a
    half."""
    if not n:
        return
    if y is None:
        return _by_fours(entry, n, kinds, *args, 0)
    paired = all(a.data.ptr % (2 * a.itemsize) == 0 for a in args if device.on_device(a))
    peak, counters, turn = noted.panels(y, n // len(y) if y.ndim else 1, paired)
    rows, width, *_ = turn
    if not rows:
        return _by_fours(entry, n, (*kinds, *peak), *args, counters)
    run = device.function("activation", entry, (*kinds, *peak))
    blocks = -(-(rows // noted.ROWS * -(-width // PANEL) * 32) // device.THREADS)
    run((min(blocks, device.resident(run, device.THREADS)),), (device.THREADS,), (*args, counters, *turn))


def _by_fours(entry: str, n: int, kinds: tuple[tuple[str, int], ...], *args: Any) -> None:
    """Four blocks a multiprocessor, four elements a thread and step."""
    if n:
        device.function("activation", entry, kinds)((device.blocks_for(-(-n // 4), waves=4),), (device.THREADS,), (*args, *noted.NOT_TURNED))


def _each(entry: str, x: Any, *dy: Any, constants: tuple[Any, ...] = (), store: str = "float32", near: bool = False) -> Any:
    """The kernel over x, or dy and x; x's shape is the result's."""
    *before, x = arrays.values(entry, *dy, x)
    y = arrays.empty(x.shape, store)
    kinds = _macros(near, LP_X=x, LP_Y=y, **({"LP_DY": before[0]} if before else {}))
    _launch(entry, y, y.size, kinds, *before, x, y.size, *constants, y)
    return y

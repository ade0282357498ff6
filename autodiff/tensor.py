"""Tensor: an array of a backend, and the place where it was computed.

An operation on tensors that require gradients leaves a `Node` behind. A node knows its operation, the nodes of its
inputs (`parents`) and what its derivative will need (`inputs`, `output`, `saved`), nothing more: inputs that the rule
does not read are replaced by their shape, so their arrays can go. Nodes carry a creation number; a parent is always
older than its child, which makes *reverse creation order* a topological order (`engine.py`).
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from lpref.autodiff.primitives import PRIMITIVES, Primitive
from lpref.ref.arrays import wide
from lpref.ref.errors import DTypeError, GraphError, LprefError, ShapeError

_numbers = itertools.count(1)
FLOAT32 = np.dtype(np.float32)
AS_THEY_ARE = {"add", "sub", "mul", "reshape", "transpose", "getitem"}
"""Primitives that take arrays of fewer bits which stand for float32 values as they are; the others get float32."""


def number() -> int:
    """A number above those of all nodes until now, and below those of all that come."""
    return next(_numbers)


class Mode(threading.local):
    """What the tape of this thread does: `recording` nodes, whether a checkpoint is `recomputing` a forward, and whether a backward is `releasing`
    each node behind it, so that what the node keeps is read for the last time."""

    recording = True
    recomputing = False
    releasing = False


mode = Mode()


@contextmanager
def within(what: str, on: bool) -> Iterator[None]:
    """Inside the block this thread's mode has that attribute on, or off."""
    before = getattr(mode, what)
    setattr(mode, what, on)
    try:
        yield
    finally:
        setattr(mode, what, before)


def recording(on: bool) -> AbstractContextManager[None]:
    """Record nodes (or not) inside the block."""
    return within("recording", on)


def releasing(on: bool) -> AbstractContextManager[None]:
    """Inside the block a backward releases the nodes behind it (or not)."""
    return within("releasing", on)


def no_grad() -> Any:
    """Inside this block nothing is recorded: results never require gradients.

    >>> import numpy as np, lpref
    >>> from lpref.autodiff import Tensor
    >>> x = Tensor(np.ones(2, np.float32), lpref.backend("reference"), requires_grad=True)
    >>> with no_grad():
    ...     (x + x).requires_grad
    False
    """
    return recording(False)


class Shape:
    """Stands for an input whose values the derivative does not read: only its shape was kept."""

    __slots__ = ("shape",)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


class Node:
    """One recorded operation (or, with `op` None, a leaf). Compared by identity, ordered by `number`."""

    __slots__ = ("inputs", "leaf", "number", "op", "output", "params", "parents", "saved", "shape", "waiting")

    def __init__(self, op: Any, parents: tuple, inputs: Any, params: Any, shape: tuple[int, ...]) -> None:
        self.number = next(_numbers)
        self.op, self.parents, self.inputs, self.params, self.shape = op, parents, inputs, params, shape
        self.output: Any = None  # the result's array, where the rule reads it
        self.saved: Any = None  # what a fused forward left for its backward
        self.leaf: Any = None  # weak reference to the tensor of a leaf
        self.waiting: list | None = None  # (parameter's node, result -> its gradient) of readers that did not keep the result

    def release(self) -> None:
        """Drop what the derivative needed; a later backward through this node raises GraphError."""
        self.inputs = self.params = self.output = self.saved = self.waiting = None

    def alive(self) -> None:
        """Raise GraphError when this node was freed."""
        if self.inputs is None:
            raise GraphError(
                f"the graph of {self.op.name!r} was freed by an earlier backward",
                where="backward",
                remedy="compute the output again, or pass retain_graph=True (create_graph=True) the first time",
            )


def _numbers_of(dtype: Any) -> bool:
    """Whether the dtype is of real numbers: floats, integers, booleans, and the small floats that NumPy files under void (ml_dtypes)."""
    return dtype.kind in "fiub" or (dtype.kind == "V" and dtype.names is None and not dtype.name.startswith("void"))


class Tensor:
    """`data`, an array of `backend` (NumPy, CuPy, …), with a gradient if `requires_grad`.

    `grad` is None until `backward`, then an array like `data`; several backwards add up (old + new). Treat both as
    read-only: arrays are shared, nothing is mutated in place. Integer and boolean tensors never have gradients.
    """

    __slots__ = ("__weakref__", "backend", "data", "grad", "node")
    __array_ufunc__ = None  # array + tensor is Tensor.__radd__, not an object array

    def __init__(self, data: Any, backend: Any, requires_grad: bool = False) -> None:
        if not hasattr(data, "dtype"):
            raise DTypeError(
                f"a tensor holds an array, got {type(data).__name__}", where="Tensor",
                remedy="make an array of the backend first, e.g. numpy.asarray(x, numpy.float32)",
            )  # fmt: skip
        if not _numbers_of(data.dtype):
            raise DTypeError(
                f"a tensor holds real numbers, got {data.dtype}", where="Tensor",
                remedy="pass floating point, integers or booleans; a complex tensor is two real ones",
            )  # fmt: skip
        self.data, self.backend, self.grad = data, backend, None
        self.node: Node | None = None
        if requires_grad:
            if data.dtype.kind != "f":
                raise DTypeError(f"only floating point has gradients, got {data.dtype}", where="Tensor")
            self.node = Node(None, (), (), None, data.shape)
            self.node.leaf = weakref.ref(self)

    # ---- what it is
    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through this tensor."""
        return self.node is not None

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by hand rather than by an operation."""
        return self.node is None or self.node.op is None

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.data.size

    @property
    def dtype(self) -> Any:
        """The dtype of the values."""
        return value_dtype(self.data, self.backend)

    def item(self) -> float:
        """The value of a one-element tensor."""
        return self.data.item()

    def __float__(self) -> float:
        return float(self.item())

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        if self.node is None:
            tail = ""
        else:
            tail = ", requires_grad" if self.node.op is None else f", from {self.node.op.name!r}"
        return f"Tensor({self.data!r}{tail})"

    # ---- what it does
    def detach(self) -> Tensor:
        """The same array without its history."""
        return make(self.data, self.backend)

    def backward(self, seed: Any = None, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to `.grad` of every leaf; `seed` (this shape) may be left out for a scalar."""
        from lpref.autodiff.engine import backward

        backward(self, seed, retain_graph)

    def reshape(self, *shape: Any) -> Tensor:
        """Row-major reshape; one -1 is inferred."""
        return apply("reshape", self, shape=shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape)

    def transpose(self, *axes: Any) -> Tensor:
        """Permute the axes; none given: reverse them."""
        if len(axes) == 1 and isinstance(axes[0], tuple):
            axes = axes[0]
        return apply("transpose", self, axes=tuple(axes) or tuple(range(self.ndim))[::-1])

    @property
    def T(self) -> Tensor:
        """The axes reversed."""
        return self.transpose()

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """`functional.sum`."""
        return apply("sum", self, axis=axis, keepdims=keepdims)

    def __getitem__(self, index: Any) -> Tensor:
        return apply("getitem", self, index=index)

    def __add__(self, other: Any) -> Tensor:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Tensor:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Tensor:
        return apply("sub", self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return apply("sub", other, self)

    def __mul__(self, other: Any) -> Tensor:
        return apply("mul", self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return apply("mul", other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return apply("div", self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return apply("div", other, self)

    def __neg__(self) -> Tensor:
        return apply("neg", self)

    def __pow__(self, p: Any) -> Tensor:
        return apply("mul", self, self) if isinstance(p, int | float) and p == 2 else apply("power", self, p)

    def __matmul__(self, other: Any) -> Tensor:
        return apply("matmul", self, other)


def make(data: Any, backend: Any, node: Node | None = None) -> Tensor:
    """A tensor without the constructor's checks: the result of an operation."""
    t = Tensor.__new__(Tensor)
    t.data, t.backend, t.grad, t.node = data, backend, None, node
    return t


def apply(name: str, *args: Any, **params: Any) -> Tensor:
    """Run primitive `name` on tensors, arrays and numbers (both constants), and record it if a tensor needs gradients.

    Raises ShapeError naming the operation and the shapes, DTypeError for mixed dtypes.
    """
    op: Primitive = PRIMITIVES[name]
    arrays: list[Any] = []
    backend: Any = None
    dtype: Any = None
    needed, short = False, []
    for a in args:
        if type(a) is Tensor:
            if a.node is not None:
                needed = True
            backend = a.backend
            a = a.data
            own = a.dtype
        else:
            own = getattr(a, "dtype", None)
        if own is not None and own.kind == "V":
            short.append(len(arrays))
            own = dtype
        if own is not dtype and own is not None:
            if dtype is not None and op.one_dtype and own != dtype:
                raise DTypeError(f"{name} of {dtype} and {own}", where=f"autodiff.{name}", remedy="one dtype for all")
            dtype = own
        arrays.append(a)
    if short:
        enter(op, arrays, short, dtype, backend)
    try:
        out = op.forward(backend, *arrays, **params)
    except (ValueError, IndexError) as error:
        raise shape_error(name, arrays, params, error) from error
    if not (needed and mode.recording):
        return make(out, backend)
    parents = tuple([a.node if type(a) is Tensor else None for a in args])
    kept = [a if k or type(a) is not Tensor else Shape(a.data.shape) for a, k in zip(args, op.kept, strict=False)]
    node = Node(op, parents, tuple(kept), params, out.shape)
    if op.keep_output:
        node.output = out
    return make(out, backend, node)


def enter(op: Primitive, arrays: list[Any], short: list[int], dtype: Any, backend: Any) -> None:
    """Bring the arrays at the places `short`, whose dtypes NumPy has not, to what the primitive takes: where they stand for float32 values
    (`lpref.ref.backend.Arrays.sixteen`) to float32, unless the backend's op reads them by itself. dtype: of the other arrays.

    Raises DTypeError for mixed dtypes.
    """
    for i in short:
        if backend.arrays.sixteen and op.name not in AS_THEY_ARE:
            arrays[i] = wide(arrays[i], backend)
        own = value_dtype(arrays[i], backend)
        if dtype is not None and op.one_dtype and own != dtype:
            raise DTypeError(f"{op.name} of {dtype} and {own}", where=f"autodiff.{op.name}", remedy="one dtype for all")
        dtype = own


def value_dtype(x: Any, backend: Any) -> Any:
    """The dtype of the values that x stands for: float32 for arrays of bfloat16 of a backend that keeps them so."""
    return FLOAT32 if x.dtype.kind == "V" and backend is not None and backend.arrays.sixteen else x.dtype


def shape_error(name: str, arrays: list[Any], params: dict[str, Any], error: Exception) -> LprefError:
    """ShapeError with the operation, every operand's shape and the parameters; typed errors pass unchanged."""
    if isinstance(error, LprefError):
        return error
    shapes = " and ".join(str(tuple(a.shape)) if hasattr(a, "shape") else repr(a) for a in arrays)
    with_ = f" with {', '.join(f'{k}={v!r}' for k, v in params.items())}" if params else ""
    return ShapeError(f"{name} of shapes {shapes}{with_}: {error}", where=f"autodiff.{name}")

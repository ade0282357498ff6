"""The functions of `lpref.ref`, fast, each registered with its reference and contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from lpref.ref.arrays import give, host, library
from lpref.ref.backend import Backend
from lpref.ref.errors import BackendError, DTypeError, ShapeError, SpecError, UnknownNameError

assert __name__.startswith("lpref."), "import lpref." + __name__

BACKENDS = ("reference", "cpu", "cuda")


def backend(name: str | Backend | None = None, numerics: str = "fast") -> Backend:
    """The backend of that name: "reference" (NumPy), "cpu" (Numba) or "cuda" (CuPy arrays). None is "cpu".

    A `Backend` is returned as it is. Errors: UnknownNameError; BackendError for a grade that does not exist, and for "cuda" without CuPy or a
    GPU that serves.
    """
    if isinstance(name, Backend):
        return name
    if name in (None, "cpu"):
        from lpref.accel.cpu import CpuBackend

        return CpuBackend(numerics)
    if name == "reference":
        from lpref.accel.reference import ReferenceBackend

        return ReferenceBackend(numerics)
    if name == "cuda":
        from lpref.accel.cuda import device
        from lpref.accel.cuda.backend import CudaBackend

        device.cupy()  # raises
        return CudaBackend(numerics)
    raise UnknownNameError("backend", name, BACKENDS)


def quantize(x: Any, q: Any, *, state: Any = None, amax: Any = None, words: Any = None, k_axis: int = -1,
             backend: str | Backend | None = None) -> Any:  # fmt: skip
    """Codes and scales of `x` under quantizer `q` (a Quantizer, a registered name, or a mapping). See `lpref.ref.quantize.quantize`.

    x: anything with ``__array__`` or ``__dlpack__`` in host memory; the tensor's codes, scales and values are arrays of x's library.
    CuPy arrays are quantized on their device (backend None or "cuda").
    """
    from lpref.accel.cuda.device import on_device
    from lpref.accel.foreign import floats, foreign
    from lpref.ref.quantize import Quantizer
    from lpref.ref.random import WordAddress
    from lpref.specs import quantizer

    q = q if isinstance(q, Quantizer) else quantizer(q)
    if on_device(x) and backend in (None, "cuda"):
        from lpref.accel.cuda.quantize import quantize as on_cuda

        return on_cuda(x, q, state=state, amax=amax, words=words, k_axis=k_axis)
    if backend == "cuda":
        raise BackendError(f"a {type(x).__name__} is not on a device", where="quantize", remedy="pass a CuPy array, or use backend 'cpu'")
    given = {"amax": None if amax is None else host(amax), "words": words if words is None or isinstance(words, WordAddress) else host(words)}
    made = _backend(backend).quantize(floats(x, "quantize"), q, state=state, k_axis=k_axis, **given)
    return foreign(made, library(x))


def gemm(
    a: Any, b: Any, spec: Any = None, ctx: Any = None, *, backend: str | Backend | None = None, numerics: str = "exact"
) -> Any:  # fmt: skip
    """The product of two operands over their contraction axes -> float32 [other_a, other_b].

    a, b    QTensor, HighPrecision, or an array [other, k]
    spec    how it is added up: an `Accumulate`, a model by name (``hopper_bf16``) or from `ACCUMULATORS`, a mapping of its fields, or None for
            the default. Or a whole `GemmSpec`, as recipes have them: a and b are then arrays, which its slots transform and quantize; its
            accumulation, epilogue and output format follow: the forward product of a layer that has it as `fprop`.
    ctx     for a `GemmSpec`: a `Context` or a mapping of its fields (random words, states), as in `linear`

    Raises: SpecError for a GemmSpec of operands that are quantized already, and where it reads what only a training step has.
    """
    from lpref.accel.foreign import at_home
    from lpref.ref.linalg import Accumulate, Accumulator, HighPrecision, accumulator
    from lpref.ref.recipes import GemmSpec
    from lpref.specs.building import build

    if isinstance(spec, GemmSpec):
        return _gemm_of_arrays(a, b, spec, ctx, _backend(backend, numerics, a, b))
    ops = _backend(backend, numerics, *(x.values if isinstance(x, HighPrecision) else getattr(x, "codes", x) for x in (a, b)))
    operands = [at_home(x) if hasattr(x, "k_axis") else HighPrecision(_there(x, "gemm", ops), 1) for x in (a, b)]
    named = isinstance(spec, (Accumulate, Accumulator))
    model = accumulator(spec) if named else build(Accumulate, {} if spec is None else spec, "gemm")
    return _back(ops.gemm(*operands, model), ops, _library(a) or _library(b))


def _gemm_of_arrays(a: Any, b: Any, spec: Any, ctx: Any, ops: Backend) -> Any:
    """What a `GemmSpec` computes from two arrays."""
    from lpref.ref.recipes import LinearRecipe

    problems = [f"{side}: is quantized already, and a GemmSpec quantizes its operands by its slots; pass an array, or spec.accumulate as spec"
                for side, operand in (("a", a), ("b", b)) if hasattr(operand, "k_axis")]  # fmt: skip
    problems += [f"{side}.source: {slot.source!r} reads the codes of another product of a training step; here it is hp"
                 for side, slot in (("a", spec.a), ("b", spec.b)) if slot.source != "hp"]  # fmt: skip
    problems += [f"epilogue: the mask {step.mask!r} is saved by a training step" for step in spec.epilogue if step.kind == "mask"]
    if problems:
        raise SpecError(problems, where="gemm")
    to, a, b = library(a), _there(a, "gemm", ops), _there(b, "gemm", ops)
    return _back(_forward(a, b, LinearRecipe(fprop=spec, save={}), ctx, ops), ops, to)


def linear(x: Any, w: Any, recipe: Any, ctx: Any = None, *, backend: str | Backend | None = None, numerics: str = "exact") -> Any:
    """x [..., K] times w [N, K] transposed under a recipe (a Recipe, a LinearRecipe, a name or a mapping) -> [..., N].

    The forward product only; gradients come from `lpref.autodiff`. ctx: a `Context` or a mapping of its fields (or `pass`); without one, or without
    states in it, delayed scales are those before the first step.
    """
    from lpref.ref.recipes import LinearRecipe, Recipe
    from lpref.specs import recipe as load

    chosen = recipe if isinstance(recipe, (Recipe, LinearRecipe)) else load(recipe)
    if isinstance(chosen, Recipe):
        chosen.require_executable()
    rule = chosen.linear if isinstance(chosen, Recipe) else chosen
    ops = _backend(backend, numerics, x, w)
    to, x, w = library(x), _there(x, "linear", ops), _there(w, "linear", ops)
    if not x.ndim:
        raise ShapeError("x is a scalar", where="linear", remedy="pass x [..., K]")
    y = _forward(x.reshape(-1, x.shape[-1]), w, rule, ctx, ops)
    return _back(y.reshape(*x.shape[:-1], y.shape[-1]), ops, to)


def _forward(x: Any, w: Any, rule: Any, ctx: Any, ops: Backend) -> Any:
    """The forward product under a LinearRecipe, delayed scales as before the first step where the context has no states."""
    from lpref.ref.recipes import Context, first_states, linear_forward

    ctx = ctx if isinstance(ctx, Context) else _context(Context, ctx or {})
    ctx = ctx if ctx.state else replace(ctx, state=first_states(rule, ctx.site))
    return linear_forward(x, w, rule, ctx, ops)[0]


def _context(cls: Any, given: Any) -> Any:
    if not isinstance(given, Mapping):
        raise SpecError([f"ctx: expected a Context or a mapping of its fields, got {type(given).__name__}"], where="linear")
    given = {"pass_" if name == "pass" else name: value for name, value in given.items()}
    names = [f.name for f in fields(cls)]
    problems = [f"ctx.{name}: no such field; known: {', '.join(names)}" for name in given if name not in names]
    if problems:
        raise SpecError(problems, where="linear")
    return cls(**given)


def _real(x: Any, where: str) -> np.ndarray:
    """x as float32 or float64."""
    from lpref.accel.foreign import floats

    array = floats(x, where)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise DTypeError(f"the array is {array.dtype}, not real numbers of at most 64 bits", where=where)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _there(x: Any, where: str, ops: Backend) -> Any:
    """x as an array of the backend; the cuda backend takes CuPy's as they are."""
    from lpref.accel.cuda.device import on_device

    return x if ops.name == "cuda" and on_device(x) else ops.arrays.make(_real(x, where))


def _back(y: Any, ops: Backend, to: Any) -> Any:
    """The result in the library that the arguments came from."""
    return ops.arrays.wide(y) if to is not None and to.__name__ == "cupy" and ops.name == "cuda" else give(ops.arrays.host(y), to)


def _library(x: Any) -> Any:
    return getattr(x, "library", library(getattr(x, "codes", None))) if hasattr(x, "k_axis") else library(x)


def _backend(chosen: str | Backend | None, numerics: str = "exact", *arguments: Any) -> Backend:
    """The chosen backend; None: cuda for CuPy arrays, else cpu."""
    from lpref.accel.cuda.device import on_device

    return backend("cuda" if chosen is None and any(map(on_device, arguments)) else chosen, numerics)

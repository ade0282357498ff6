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

BACKENDS = ("reference", "cpu")


def backend(name: str | Backend | None = None, numerics: str = "fast") -> Backend:
    """The backend of that name: "reference" (NumPy) or "cpu" (Numba). None is "cpu".

    A `Backend` is returned as it is. Errors: UnknownNameError, BackendError for a grade that does not exist.
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
        raise BackendError(
            "CUDA has casts and quantizers in this version, no backend for training", where="backend",
            remedy="pass CuPy arrays to quantize, Format.encode, decode and round; use 'cpu' or 'reference' for the rest",
        )  # fmt: skip
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


def gemm(a: Any, b: Any, spec: Any = None, *, backend: str | Backend | None = None, numerics: str = "exact") -> Any:
    """The product of two operands over their contraction axes -> float32 [other_a, other_b].

    a, b: QTensor, HighPrecision, or an array [other, k]. spec: an `Accumulate`, the name of a model (``hopper_bf16``), a mapping
    of its fields, or None for the default.
    """
    from lpref.accel.foreign import at_home
    from lpref.ref.linalg import Accumulate, HighPrecision
    from lpref.specs.building import build

    operands = [at_home(x) if hasattr(x, "k_axis") else HighPrecision(_real(x, "gemm"), 1) for x in (a, b)]
    model = spec if isinstance(spec, Accumulate) else build(Accumulate, {} if spec is None else spec, "gemm")
    return give(_backend(backend, numerics).gemm(*operands, model), _library(a) or _library(b))


def linear(x: Any, w: Any, recipe: Any, ctx: Any = None, *, backend: str | Backend | None = None, numerics: str = "exact") -> Any:
    """x [..., K] times w [N, K] transposed under a recipe (a Recipe, a LinearRecipe, a name or a mapping) -> [..., N].

    The forward product only; gradients come from `lpref.autodiff`. ctx: a `Context` or a mapping of its fields (or `pass`); without one, or without
    states in it, delayed scales are those before the first step.
    """
    from lpref.ref.recipes import Context, LinearRecipe, Recipe, first_states, linear_forward
    from lpref.specs import recipe as load

    chosen = recipe if isinstance(recipe, (Recipe, LinearRecipe)) else load(recipe)
    if isinstance(chosen, Recipe):
        chosen.require_executable()
    rule = chosen.linear if isinstance(chosen, Recipe) else chosen
    ctx = ctx if isinstance(ctx, Context) else _context(Context, ctx or {})
    ctx = ctx if ctx.state else replace(ctx, state=first_states(rule, ctx.site))
    to, x, w = library(x), _real(x, "linear"), _real(w, "linear")
    if not x.ndim:
        raise ShapeError("x is a scalar", where="linear", remedy="pass x [..., K]")
    y, _ = linear_forward(x.reshape(-1, x.shape[-1]), w, rule, ctx, _backend(backend, numerics))
    return give(y.reshape(*x.shape[:-1], y.shape[-1]), to)


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


def _library(x: Any) -> Any:
    return getattr(x, "library", None) if hasattr(x, "k_axis") else library(x)


def _backend(chosen: str | Backend | None, numerics: str = "exact") -> Backend:
    return backend(chosen, numerics)

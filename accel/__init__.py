"""The functions of `lpref.ref`, fast, each registered with its reference and contract."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.ref.backend import Backend
from lpref.ref.errors import BackendError, UnknownNameError

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
        raise BackendError("the CUDA backend is not part of this version", where="backend", remedy="use 'cpu' or 'reference'")
    raise UnknownNameError("backend", name, BACKENDS)


def quantize(x: Any, q: Any, *, state: Any = None, amax: Any = None, words: Any = None, k_axis: int = -1,
             backend: str | Backend | None = None) -> Any:  # fmt: skip
    """Codes and scales of `x` under quantizer `q` (a Quantizer, a registered name, or a mapping). See `lpref.ref.quantize.quantize`."""
    from lpref.ref.quantize import Quantizer
    from lpref.specs import quantizer

    q = q if isinstance(q, Quantizer) else quantizer(q)
    return _backend(backend).quantize(host_array(x), q, state=state, amax=amax, words=words, k_axis=k_axis)


def gemm(a: Any, b: Any, spec: Any = None, *, backend: str | Backend | None = None, numerics: str = "exact") -> np.ndarray:
    """The product of two operands over their contraction axes -> float32 [other_a, other_b].

    a, b: QTensor, HighPrecision, or an array [other, k]. spec: an `Accumulate`, or None for the default.
    """
    from lpref.ref.linalg import Accumulate, HighPrecision

    operands = [x if hasattr(x, "k_axis") else HighPrecision(host_array(x), 1) for x in (a, b)]
    return _backend(backend, numerics).gemm(*operands, Accumulate() if spec is None else spec)


def linear(x: Any, w: Any, recipe: Any, ctx: Any = None, *, backend: str | Backend | None = None, numerics: str = "exact") -> np.ndarray:
    """x [..., K] times w [N, K] transposed under a recipe (a Recipe, a LinearRecipe, a name or a mapping) -> [..., N].

    The forward product only; gradients come from `lpref.autodiff`. ctx: a `Context`; None is seed 0, step 0.
    """
    from lpref.ref.recipes import Context, LinearRecipe, Recipe, linear_forward
    from lpref.specs import recipe as load

    chosen = recipe if isinstance(recipe, (Recipe, LinearRecipe)) else load(recipe)
    rule = chosen.linear if isinstance(chosen, Recipe) else chosen
    x, w = host_array(x), host_array(w)
    ctx = Context(seed=0, step=0, update=0) if ctx is None else ctx
    y, _ = linear_forward(x.reshape(-1, x.shape[-1]), w, rule, ctx, _backend(backend, numerics))
    return y.reshape(*x.shape[:-1], y.shape[-1])


def host_array(x: Any) -> np.ndarray:
    """A NumPy array of the values of x (float32 for 16-bit floats): anything with ``__array__`` or ``__dlpack__`` in host memory."""
    device = getattr(x, "__dlpack_device__", None)
    if device is not None and int(device()[0]) not in (1, 3, 11):  # DLPack: kDLCPU, kDLCUDAHost, kDLROCMHost
        raise BackendError("x lives on a device", remedy="copy it to the host; the CUDA backend is not part of this version")
    try:
        array = np.asarray(x)
    except TypeError as error:  # torch: bfloat16 has no NumPy dtype of its own
        if not hasattr(x, "float"):
            raise BackendError(f"cannot read a {type(x).__name__} as an array: {error}") from error
        array = np.asarray(x.float())
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _backend(chosen: str | Backend | None, numerics: str = "exact") -> Backend:
    return backend(chosen, numerics)

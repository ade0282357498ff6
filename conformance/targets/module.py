"""`module:callable` as a target: a Python function that takes and returns arrays of any library with DLPack.

    cast       f(x)  or f(x, words)  for stochastic roundings     -> codes or values
    quantize   f(x, amax=None, words=None)                        -> {codes, scales, tensor_scale}, or values
    gemm       f(a, b)                                            -> c
    optimizer  f(params, grads, state, ctx)                       -> params, state      ctx: a mapping with step, lr, …
    attention  f(q, k, v)                                         -> o

`array` says which library's arrays it gets, `device` where they lie. A `module` that ends in .py is a file.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from lpref.conformance.targets.base import (
    AttentionCase,
    Case,
    CastCase,
    GemmCase,
    OptimizerCase,
    QuantizeCase,
    Target,
    TargetAnswer,
    TargetMissing,
    Undescribed,
)
from lpref.ref.arrays import host
from lpref.ref.errors import LprefError, UnknownNameError

ARRAYS = ("numpy", "torch", "cupy", "jax")
DEVICES = ("cpu", "cuda")
ALONE = {"gemm": "c", "attention": "o"}


class CallableTarget(Undescribed):
    """A function as a target."""

    title = "a Python function"

    def __init__(self, spec: str, array: str = "numpy", device: str = "cpu") -> None:
        for kind, value, known in (("array library", array, ARRAYS), ("device", device, DEVICES)):
            if value not in known:
                raise UnknownNameError(kind, value, known)
        super().__init__(spec)
        self.function, self.array, self.device = load(spec), array, device

    def give(self, x: np.ndarray) -> Any:
        """x as an array of the wanted library."""
        return to_library(x, self.array, self.device)

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        extra = () if words is None else (self.give(words),)
        return read_array(self.function(self.give(x), *extra))

    def quantize(self, x: np.ndarray, case: QuantizeCase, amax: np.ndarray | None = None, words: np.ndarray | None = None) -> Any:
        given = {"amax": amax, "words": words}
        answer = self.function(self.give(x), **{k: self.give(v) for k, v in given.items() if v is not None})
        if hasattr(answer, "quantizer"):  # a QTensor
            answer = {"codes": answer.codes, "scales": answer.scales[0] if answer.scales else None, "tensor_scale": answer.tensor_scale}
        if not isinstance(answer, Mapping):
            return read_array(answer)
        return {k: read_array(v) for k, v in answer.items() if v is not None}

    def gemm(self, a: np.ndarray, b: np.ndarray, case: GemmCase) -> np.ndarray:
        return read_array(self.function(self.give(a), self.give(b)))

    def optimizer(self, params: Any, grads: Any, state: Any, case: OptimizerCase, ctx: Mapping[str, Any]) -> Any:
        give = lambda tree: {k: self.give(v) for k, v in tree.items()}  # noqa: E731
        answer = self.function(give(params), give(grads), give(state), {**case.fields(), **ctx})
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TargetAnswer(f"returned a {type(answer).__name__}, not (params, state)")
        return tuple({k: read_array(v) for k, v in tree.items()} for tree in answer)

    def attention(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, case: AttentionCase) -> np.ndarray:
        return read_array(self.function(self.give(q), self.give(k), self.give(v)))


def load(spec: str) -> Callable[..., Any]:
    """The function that `module:callable` names; the current folder is searched too.

    Raises: TargetMissing.
    """
    module_name, _, path = spec.partition(":")
    thing: Any = None
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        if module_name.endswith(".py"):
            found = importlib.util.spec_from_file_location(Path(module_name).stem, module_name)
            if found is None or found.loader is None or not Path(module_name).is_file():
                raise TargetMissing("no such file", where=module_name)
            thing = importlib.util.module_from_spec(found)
            found.loader.exec_module(thing)
        else:
            thing = importlib.import_module(module_name)
        for part in path.split("."):
            thing = getattr(thing, part)
    except LprefError:
        raise
    except (ImportError, AttributeError, OSError, SyntaxError) as error:
        raise TargetMissing(str(error), where=spec, remedy="write module:callable, or FILE.py:callable") from error
    if not callable(thing):
        raise TargetMissing(f"is a {type(thing).__name__}, not callable", where=spec)
    return thing  # type: ignore[no-any-return]


def to_library(x: np.ndarray, array: str, device: str) -> Any:
    """x (NumPy) as an array of `array` on `device`, values unchanged.

    Raises: TargetMissing where the library is not installed.
    """
    if array == "numpy":
        return x
    try:
        module = importlib.import_module("jax.numpy" if array == "jax" else array)
    except ImportError as error:
        raise TargetMissing(f"array={array}: {error}") from error
    short = x.dtype == np.dtype(ml_dtypes.bfloat16)
    if array == "torch":
        made = module.from_numpy(x.astype(np.float32) if short else x.copy())
        return (made.to(module.bfloat16) if short else made).to(device)
    if array == "cupy":
        return module.asarray(x.astype(np.float32) if short else x)
    if x.dtype == np.float64:
        importlib.import_module("jax").config.update("jax_enable_x64", True)
    return module.asarray(x)


def read_array(y: Any) -> np.ndarray:
    """What came back, in NumPy; what NumPy has no type for (bfloat16 of torch) as float32."""
    if y is None:
        raise TargetAnswer("returned nothing")
    if hasattr(y, "get") and type(y).__module__.startswith("cupy"):
        y = y.get()
    if hasattr(y, "cpu") and hasattr(y, "detach"):
        y = y.detach().cpu()
        if str(y.dtype).startswith("torch.float8"):  # codes: their bits
            y = y.view(importlib.import_module("torch").uint8)
    out = host(y)
    if out.dtype.kind == "V" or (out.dtype.itemsize == 1 and out.dtype.kind == "f"):  # ml_dtypes: codes
        out = out.view(np.uint8) if out.dtype.itemsize == 1 else out.astype(np.float32)
    if out.dtype.kind not in "fiu":
        raise TargetAnswer(f"returned {out.dtype}", remedy="return an array of unsigned codes or of floats")
    return out


def method(target: Target, op: str) -> Callable[..., Any]:
    """The method of a target that answers `op`."""
    methods: dict[str, Callable[..., Any]] = {
        "cast": target.cast, "quantize": target.quantize, "gemm": target.gemm, "optimizer": target.optimizer, "attention": target.attention,
    }  # fmt: skip
    return methods[op]


def answer(target: Target, case: Case, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One case: arrays in, arrays out, under the names of the frame protocol."""
    ask = partial(method(target, case.op), case=case)
    if case.op == "cast":
        y = np.asarray(ask(arrays["x"], words=arrays.get("words")))
        return {"codes" if y.dtype.kind in "uib" else "values": y}
    if case.op == "quantize":
        y = ask(arrays["x"], amax=arrays.get("amax"), words=arrays.get("words"))
        return {k: np.asarray(v) for k, v in y.items() if v is not None} if isinstance(y, Mapping) else {"values": np.asarray(y)}
    if case.op == "optimizer":
        trees = [{k.partition(".")[2]: v for k, v in arrays.items() if k.startswith(f"{kind}.")} for kind in ("params", "grads", "state")]
        ctx = {k.partition(".")[2]: v.item() for k, v in arrays.items() if k.startswith("ctx.")}
        params, state = ask(*trees, ctx=ctx)
        return {f"{kind}.{k}": np.asarray(v) for kind, tree in (("params", params), ("state", state)) for k, v in tree.items()}
    return {ALONE[case.op]: np.asarray(ask(*arrays.values()))}

"""Targets of `lpref diff`: other implementations of what lpref defines. `base` is the protocol; one small file for each built-in one."""

from __future__ import annotations

import importlib

from lpref.conformance.targets.base import (
    AttentionCase,
    Case,
    CastCase,
    GemmCase,
    OptimizerCase,
    QuantizeCase,
    Target,
    TargetAnswer,
    TargetCrashed,
    TargetError,
    TargetMissing,
    TargetRaised,
    TargetRefused,
    TargetTimeout,
)
from lpref.ref.errors import UnknownNameError

__all__ = [
    "AttentionCase", "Case", "CastCase", "GemmCase", "OptimizerCase", "QuantizeCase", "Target", "TargetAnswer", "TargetCrashed",
    "TargetError", "TargetMissing", "TargetRaised", "TargetRefused", "TargetTimeout",
]  # fmt: skip

TARGETS: dict[str, str] = {  # name -> module:class, imported when used
    "ml_dtypes": "ml_dtypes_:MlDtypes",
    "gfloat": "gfloat_:Gfloat",
    "torch": "torch_:Torch",
    "torchao": "torchao_:Torchao",
    "microxcaling": "microxcaling_:Microxcaling",
    "apytypes": "apytypes_:Apytypes",
    "pychop": "pychop_:Pychop",
    "qtorch": "qtorch_:Qtorch",
    "onnx": "onnx_:Onnx",
    "softposit": "softposit_:Softposit",
    "bitsandbytes": "bitsandbytes_:Bitsandbytes",
    "cuda_headers": "cuda_headers:CudaHeaders",
    "mmaemu": "mmaemu_:Mmaemu",
    "optax": "optax_:Optax",
}


def builtin(name: str) -> Target:
    """The built-in target of that name; the package behind it is not imported yet.

    Raises: UnknownNameError.
    """
    if name not in TARGETS:
        raise UnknownNameError("target", name, TARGETS)
    module, _, cls = TARGETS[name].partition(":")
    made = getattr(importlib.import_module(f"lpref.conformance.targets.{module}"), cls)()
    assert isinstance(made, Target)
    return made


def resolve(spec: str, array: str = "numpy", device: str = "cpu") -> Target:
    """The target that `spec` names, in this process: a built-in name, `lib:PATH.so:SYMBOL`, `module:callable` or `FILE.py:callable`.

    Raises: UnknownNameError, TargetMissing. Foreign code is loaded: use `client.Session` to keep it in a process of its own.
    """
    if spec.startswith("lib:"):
        from lpref.conformance.targets.library import LibraryTarget

        return LibraryTarget(spec)
    if ":" in spec:
        from lpref.conformance.targets.module import CallableTarget

        return CallableTarget(spec, array, device)
    return builtin(spec)

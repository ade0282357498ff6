"""lpref: low-precision reference. The survey of low-precision training made executable.

Public names are loaded on first use, so that ``import lpref`` stays cheap.
"""

from __future__ import annotations

import importlib
from pathlib import Path as _Path
from typing import Any

__version__ = "0.1.0"

if not (_Path(__file__).parent / "ref").is_dir():  # a checkout without symbolic links
    __path__.append(str(_Path(__file__).resolve().parents[2]))

DEVICE_CASTS = "lpref.accel.cuda.cast"
"""The module with encode, decode and qdq of arrays on a device; formats ask for it by this name, since `ref` imports nothing of ours."""

# public name -> (module, attribute); the attribute None stands for the module itself
_PUBLIC: dict[str, tuple[str, str | None]] = {
    "LprefError": ("lpref.ref.errors", "LprefError"),
    "format": ("lpref.ref.formats", "format"),
    "Format": ("lpref.ref.formats", "Format"),
    "quantizer": ("lpref.specs", "quantizer"),
    "Quantizer": ("lpref.ref.quantize", "Quantizer"),
    "QTensor": ("lpref.ref.quantize", "QTensor"),
    "WordAddress": ("lpref.ref.random", "WordAddress"),
    "quantize": ("lpref.accel", "quantize"),
    "update_state": ("lpref.ref.quantize", "update_state"),
    "gemm": ("lpref.accel", "gemm"),
    "linear": ("lpref.accel", "linear"),
    "recipe": ("lpref.specs", "recipe"),
    "Recipe": ("lpref.ref.recipes", "Recipe"),
    "backend": ("lpref.accel", "backend"),
    "random": ("lpref.ref.random", None),
    "optimizer": ("lpref.ref.optim", "optimizer"),
    "train": ("lpref.trainer", "train"),
    "Run": ("lpref.trainer", "Run"),
    "runs": ("lpref.trainer", "runs"),
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _PUBLIC[name]
    except KeyError:
        raise AttributeError(f"module 'lpref' has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}") from None
    loaded = importlib.import_module(module)
    value = loaded if attribute is None else getattr(loaded, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})

"""From a spec to a trained model: data, loop, checkpoints, logs, reports.

Reading order: ``spec`` (what a run is), ``data`` (what it reads), ``step`` (one optimizer step), ``loop`` (the run), ``checkpoint`` and
``runfolder`` (what it leaves), ``report`` (what a person sees). Names below load on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

assert __name__.startswith("lpref."), "import lpref." + __name__

_PUBLIC: dict[str, str] = {
    "train": "lpref.trainer.api",
    "Run": "lpref.trainer.run",
    "runs": "lpref.trainer.run",
    "TrainSpec": "lpref.trainer.spec",
    "load_spec": "lpref.trainer.spec",
    "load_data": "lpref.trainer.data",
}

__all__ = ["Run", "TrainSpec", "load_data", "load_spec", "runs", "train"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lpref.trainer' has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value

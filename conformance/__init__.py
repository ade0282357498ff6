"""The public test kit: does another implementation do what the definition says?

- `run_suite(callable, format=… | quantizer=…)`: the whole suite against any cast or block quantizer; prints the smallest input that differs.
- `check`: assertions that explain themselves (neighbour, idempotent, monotone, equal codes).
- `strategies`: Hypothesis strategies that aim at the rare inputs (needs the package `hypothesis`).
"""

from __future__ import annotations

import importlib
from typing import Any

from lpref.conformance import check
from lpref.conformance.report import SuiteReport
from lpref.conformance.suite import run_suite

assert __name__.startswith("lpref."), "import lpref." + __name__

__all__ = ["SuiteReport", "check", "run_suite", "strategies"]


def __getattr__(name: str) -> Any:
    if name == "strategies":  # on first use: the only part that needs hypothesis
        return importlib.import_module("lpref.conformance.strategies")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")

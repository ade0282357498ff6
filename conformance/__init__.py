"""The public test kit: does another implementation do what the definition says?

- `run_suite(callable, format=… | quantizer=…)`: the whole suite against any cast or block quantizer; prints the smallest input that differs.
- `check`: assertions that explain themselves (neighbour, idempotent, monotone, equal codes).
- `strategies`: Hypothesis strategies that aim at the rare inputs (needs the package `hypothesis`).
- `proves`: the mark on tests that carry a claim; `plugin`: `pytest --pyargs lpref.conformance --lpref-impl=module:callable`.

All of them are loaded on first use: pytest imports this package wherever lpref is installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpref.conformance import check, strategies
    from lpref.conformance.report import SuiteReport
    from lpref.conformance.suite import run_suite

assert __name__.startswith("lpref."), "import lpref." + __name__

_PUBLIC: dict[str, tuple[str, str | None]] = {
    "SuiteReport": ("lpref.conformance.report", "SuiteReport"),
    "check": ("lpref.conformance.check", None),
    "run_suite": ("lpref.conformance.suite", "run_suite"),
    "strategies": ("lpref.conformance.strategies", None),
}

__all__ = ["SuiteReport", "check", "run_suite", "strategies"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    module, attribute = _PUBLIC[name]
    loaded = importlib.import_module(module)
    return loaded if attribute is None else getattr(loaded, attribute)

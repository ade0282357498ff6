"""Without CuPy or a GPU, every module of this folder is one skipped test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def _missing() -> str | None:
    try:
        import cupy
    except ImportError:
        return "needs CuPy"
    try:
        return None if cupy.cuda.runtime.getDeviceCount() else "needs a GPU"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"needs a GPU: {error}"


MISSING = _missing()


class Skipped(pytest.Module):
    """A module that is not imported."""

    def collect(self) -> Any:
        pytest.skip(str(MISSING), allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> Any:
    return Skipped.from_parent(parent, path=module_path) if MISSING else None

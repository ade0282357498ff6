"""What a run's figures depend on besides its spec: versions, device, hashes. Written to ``env.json``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "numba", "ml_dtypes", "safetensors", "pydantic", "click", "cupy-cuda12x", "cupy-cuda13x")


def package_version(name: str) -> str | None:
    """The installed version, None when absent."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str | None:
    """The commit of the source tree that this is, with ``+`` where files differ from it; None for an installed package.

    A copy of the tree without its history, or with another one, says it by `LPREF_COMMIT`.
    """
    root = Path(__file__).resolve().parents[1]
    if (said := os.environ.get("LPREF_COMMIT")) or not (root / ".git").exists():
        return said or None
    git = ["git", "-C", str(root)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "") or None


def environment() -> dict[str, Any]:
    """Versions and device."""
    import lpref
    from lpref.conformance.numerics import numerics_hash

    return {
        "lpref": lpref.__version__,
        "numerics_hash": numerics_hash(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": cores(),
        "packages": {name: version for name in PACKAGES if (version := package_version(name))},
    }

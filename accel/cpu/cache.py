"""Where compiled kernels are kept: one folder for each state of this package's sources.

Numba checks only the file that a kernel stands in, not the helpers that were inlined into it, so an edited helper would leave stale
machine code behind. The folder's name therefore holds a hash over all sources of `accel/cpu`. `LPREF_CACHE_DIR` chooses where the folders
lie (default: `$XDG_CACHE_HOME/lpref`, else `~/.cache/lpref`, else a temporary folder when neither can be written).
`NUMBA_CACHE_DIR`, when set, wins.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import numba

KEEP = 8  # folders of other states that stay; older ones are removed when a new one is made


def use() -> Path | None:
    """Point Numba at the folder; called before the first kernel of the package is defined."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return None
    name = f"numba-{numba.__version__}-{sources_hash()}"
    for base in candidates():
        folder = base / name
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True)
                prune(base, folder)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            continue
        setattr(numba.config, "CACHE_DIR", str(folder))  # noqa: B010  (numba.config is filled at run time)
        return folder
    return None


def sources_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def candidates() -> list[Path]:
    chosen = os.environ.get("LPREF_CACHE_DIR")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [Path(chosen)] if chosen else [Path(cache) / "lpref", Path(tempfile.gettempdir()) / f"lpref-{os.getuid() if hasattr(os, 'getuid') else 0}"]


def prune(base: Path, keep: Path) -> None:
    """Remove all but the `KEEP` newest other folders."""
    others = sorted((p for p in base.glob("numba-*") if p.is_dir() and p != keep), key=lambda p: p.stat().st_mtime)
    for old in others[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)

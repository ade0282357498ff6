"""Whole runs on the GPU, each a process of its own: `lpref train train/default --backend cuda` with an empty folder of kernels, then with a full one.

Run: PYTHONPATH=src python bench/start_device.py OUT.json [warm]; warm: without the cold run, with the kernels in `$LPREF_CACHE_DIR` or at home. A run
is 540 steps, three evaluations, a sample of text and the report; seconds are those of the whole process. Warm is the median of three.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from where import about

LINE = [sys.executable, "-m", "lpref.cli", "train", "train/default", "--backend", "cuda", "--overwrite"]
WARM = 3


def seconds(folder: Path, env: dict[str, str]) -> float:
    """Of one run."""
    started = time.perf_counter()
    subprocess.run([*LINE, "-o", str(folder)], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def rows(cold: bool) -> list[dict[str, Any]]:
    """Cold, if wanted, and warm."""
    out: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        here, env = Path(name), dict(os.environ)
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
        if cold:
            env |= {"LPREF_CACHE_DIR": str(here / "cache"), "CUPY_CACHE_DIR": str(here / "cupy"), "CUDA_CACHE_PATH": str(here / "cuda")}
            out.append({"name": "cold", "seconds": seconds(here / "run", env)})
        times = [seconds(here / "run", env) for _ in range(WARM)]
        out.append({"name": "warm", "seconds": statistics.median(times), "each": times})
    return out


def main() -> int:
    path, cold = Path(sys.argv[1]), "warm" not in sys.argv[2:]
    made = rows(cold)
    for one in made:
        print(one, flush=True)
    path.write_text(json.dumps({"about": about(), "rows": made}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

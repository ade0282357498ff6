"""Start-up: `import lpref` and `lpref --help`, each in a fresh process, the median of five."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any


def seconds(line: list[str]) -> float:
    times = []
    for _ in range(6):
        started = time.perf_counter()
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def rows() -> list[dict[str, Any]]:
    python = sys.executable
    return [
        {"name": "import lpref", "value": seconds([python, "-c", "import lpref"]), "unit": "s", "bar": 0.5, "direction": "at most"},
        {"name": "lpref --help", "value": seconds([python, "-m", "lpref.cli", "--help"]), "unit": "s", "bar": 0.7, "direction": "at most"},
    ]

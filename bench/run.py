"""Run the benchmarks of this folder and keep the figures: `python3 dev.py bench [NAME…] [--json FILE]`.

A benchmark is a module `bench_NAME.py` with `rows() -> list of dicts`; each row has at least `name`, `value` and `unit`, and where there
is a target `bar` and `direction` ("at least" or "at most"). A benchmark refuses to time what differs from the reference. Ratios are to a
peer measured in the same run: compare those, not absolute times of shared machines.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def environment() -> dict[str, Any]:
    """Where the figures come from: commit, processor, cores, versions."""
    import numba
    import numpy

    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"
    info = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return {
        "commit": commit,
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "numba": numba.__version__,
    }


def main(arguments: list[str] | None = None) -> int:
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=known, help=f"which: {', '.join(known)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.names) - set(known))
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; known: {', '.join(known)}")
    sys.path.insert(0, str(HERE))
    results: dict[str, Any] = {"environment": environment(), "rows": []}
    missed = 0
    for name in chosen.names:
        print(f"== {name}", flush=True)
        for row in importlib.import_module(f"bench_{name}").rows():
            results["rows"].append({"benchmark": name, **row})
            missed += not met(row)
            print(line(row), flush=True)
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        part = chosen.json.with_suffix(".part")
        part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        os.replace(part, chosen.json)
    print(f"{len(results['rows'])} figures, {missed} below their bar")
    return 1 if missed else 0


def met(row: dict[str, Any]) -> bool:
    if "bar" not in row:
        return True
    return bool(row["value"] >= row["bar"]) if row.get("direction", "at least") == "at least" else bool(row["value"] <= row["bar"])


def line(row: dict[str, Any]) -> str:
    bar = f"   {row.get('direction', 'at least')} {row['bar']:g}: {'met' if met(row) else 'MISSED'}" if "bar" in row else ""
    note = f"   ({row['note']})" if row.get("note") else ""
    return f"{row['name']:<58} {row['value']:>10.3g} {row['unit']}{bar}{note}"


if __name__ == "__main__":
    sys.exit(main())

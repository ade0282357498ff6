"""The kernel suite under compute-sanitizer: `python3 tests/gpu/sanitize.py [--tool memcheck|racecheck|initcheck|synccheck …] [--ops add,norm,…]`.

Every op of the cuda backend in both grades on the small cases of `kernel_cases`, each allocation one of its own (no pool), so that a read
or write beside an array is seen. Prints a line for each tool and, where it found something, what it said. Exit code 0: clean; 1: something was
found or a case failed; 2: there is no compute-sanitizer.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
ROOT = Path(__file__).resolve().parents[2]
FOUND = 86
"""What compute-sanitizer exits with where it found something."""
SLOW = ("attention", "gemm", "matmul")
"""Ops whose definitions take long; with --quick they are left out."""


def program() -> str | None:
    """The path of compute-sanitizer, of the PATH or of a toolkit."""
    homes = [os.environ[key] for key in ("CUDA_HOME", "CUDA_PATH") if key in os.environ] + ["/usr/local/cuda"]
    places = [shutil.which("compute-sanitizer"), *(f"{home}/{part}/compute-sanitizer" for home in homes for part in ("bin", "compute-sanitizer"))]
    return next((place for place in places if place and os.access(place, os.X_OK)), None)


def run_suite(ops: list[str]) -> None:
    """The cases of these ops, each on arrays of their own; raises AssertionError at the first that breaks its contract."""
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
    import cupy
    from kernel_cases import CASES
    from kernel_check import check_cases, cuda_place
    from kernel_draw import Draw

    import lpref

    cupy.cuda.set_allocator(None)
    place, exact, done = cuda_place(), lpref.backend("cuda", "exact"), 0
    for backend in (exact, lpref.backend("cuda", "fast")):
        for op, kernel in backend.kernels.items():
            if op in ops and (backend is exact or kernel != exact.kernels[op]):
                check_cases(kernel, place, CASES[op](Draw(11)))
                done += 1
    cupy.cuda.Device().synchronize()
    print(f"{done} kernels kept their contracts", flush=True)


def sanitized(tool: str, path: str, ops: list[str]) -> int:
    """Runs the suite under a tool, says what it found, and returns compute-sanitizer's exit code."""
    line = [path, "--tool", tool, "--error-exitcode", str(FOUND), "--print-limit", "20", sys.executable, __file__, "--inside", "--ops", ",".join(ops)]
    started = time.perf_counter()
    done = subprocess.run(line, capture_output=True, text=True)
    found = re.findall(r"ERROR SUMMARY: (\d+)", done.stdout) + re.findall(r"RACECHECK SUMMARY: (.*)", done.stdout)
    print(f"{tool}: exit code {done.returncode}, {'; '.join(found) or 'no summary'}, {time.perf_counter() - started:.0f} s", flush=True)
    if done.returncode:
        print(done.stdout[-6000:] + done.stderr[-2000:])
    return done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tool", action="append", choices=TOOLS, help="default: memcheck, racecheck and initcheck")
    parser.add_argument("--ops", default="", help="names, comma between them; default: all")
    parser.add_argument("--quick", action="store_true", help="without products and attention")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.path[:0] = [str(ROOT / "src")]
    from lpref.accel.cuda.backend import KERNELS

    names = given.ops.split(",") if given.ops else [op for op in KERNELS if not (given.quick and op.startswith(SLOW))]
    if given.inside:
        run_suite(names)
        return 0
    path = program()
    if path is None:
        print("no compute-sanitizer: install the CUDA toolkit, or put it on the PATH", file=sys.stderr)
        return 2
    return max(min(sanitized(tool, path, names), 1) for tool in given.tool or TOOLS[:3])


if __name__ == "__main__":
    sys.exit(main())

"""Freed blocks are taken again without page faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lpref.accel.cpu import memory

CODE = """
import resource, numpy as np
from lpref.accel.cpu.memory import keep_freed
asked = keep_freed()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for turn in range(12):
    before = faults()
    blocks = [np.ones(1 << 20, np.float32) for _ in range(4)]
    del blocks
print(asked, faults() - before)
"""


@pytest.mark.skipif(not memory.keep_freed(), reason="not glibc, or told otherwise by the environment")
def test_freed_blocks_stay(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(memory.__file__).parents[4] / "src"))
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    asked, faults = done.stdout.split()
    assert (asked, int(faults) < 1000) == ("True", True), "4 096 pages, taken anew in every turn, without it"


def test_the_environment_wins(monkeypatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert memory.keep_freed.__wrapped__() is False

"""Rows under a scale each, made by a few warps that copies run ahead of (kernels/row_warps.cu): which take it, with how many threads and bytes.

A device of compute capability 9.0 has the copies. It pays for stochastic rounding, where there are more rows than blocks: to nearest, and for few
rows, more threads a row (kernels/rows.cu) are faster.
"""

from __future__ import annotations

from dataclasses import dataclass

from lpref.accel.cuda import device

ROWS = 8
"""Rows a multiprocessor, at least."""
SHARE, MOST = 1 << 14, 8
"""Bytes of a row that are a warp's; warps of a row, at most."""
REGISTERS = {4: 128, 2: 96, 1: 96}
"""Sixteens of a lane at a time, the most that a row has for every lane -> registers that a thread may have; measured on an H200."""
OWN = 1280
"""Bytes of shared memory that a block needs beside its row, with what the device keeps of it."""
QUARTERS = 4
"""Parts of a multiprocessor with warps of their own: rows are dealt out evenly, so each has to have as many warps as the others."""


@dataclass(frozen=True)
class Plan:
    """threads: of a block, which has a row at a time; blocks: of the device at once; shared: bytes a block; macros: all but the quantizer's."""

    threads: int
    blocks: int
    shared: int
    macros: tuple[tuple[str, int], ...]


def room() -> int:
    """Bytes of shared memory that a block's rows may have."""
    return device.shared_memory() - OWN


def plan(rows: int, row_bytes: int, kind: int) -> Plan | None:
    """The plan of `rows` rows of a source of this LP_IN; None where rows.cu serves."""
    if device.architecture().startswith("sm_8") or rows < ROWS * device.processors():
        return None
    warps = min(MOST, max(1, row_bytes // SHARE))
    sixteen = 16 * (2 if kind else 4)
    unroll = next((n for n in REGISTERS if n * 32 * warps * sixteen <= row_bytes), 1)
    run = warps * unroll * 32 * sixteen
    shared = -(-row_bytes // run) * run
    if shared > room():
        return None
    held = max(1, min(65536 // (32 * warps * REGISTERS[unroll]), (device.shared_memory() + 1024) // (shared + OWN), 32))
    while held > 1 and held * warps % QUARTERS:
        held -= 1
    macros = {"LP_IN": kind, "LP_UNROLL": unroll, "LP_THREADS": 32 * warps, "LP_RESIDENT": held}
    return Plan(32 * warps, min(rows, held * device.processors()), shared, tuple(macros.items()))


def kernel(of: Plan, quantizer: device.Macros) -> device.Kernel:
    """The plan's kernel for the quantizer with these macros."""
    run = device.function("row_warps", "row_warps", (*quantizer, *of.macros))
    run.max_dynamic_shared_size_bytes = room()
    return run

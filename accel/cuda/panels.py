"""Operands of block formats from one read of their tensor (kernels/panels.cu): blocks of 16 or 32 along rows, down columns or square, the transform
of the columns' side on the way, and the numbers in bfloat16 beside the codes where they are multiplied at once.

What has a tensor scale measures before (kernels/peaks.cu): both sides of a tensor in one read, and one amax for both where neither is transformed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.accel.cuda import device, embed, measure, noted, plans, word_address
from lpref.accel.cuda import scales as scales_of
from lpref.accel.cuda.hadamard import NONE, held_signs
from lpref.accel.cuda.job import Job
from lpref.ref.quantize import Quantizer
from lpref.ref.random import WordAddress

LENGTHS = (16, 32)
"""Blocks that a panel holds."""
WIDE = 64
LEAST, MOST = 96, 128
"""Registers of a thread, `_registers`."""
PEAKS = 64
"""Registers of a thread of kernels/peaks.cu."""
WARPS, ROOM = (8, 4, 2), 46 << 10
"""Warps of a block, the most whose panels fit this room."""
BESIDE = 2048
"""Bytes of shared memory that a block takes beside its panels."""
JOINED = 32
"""Length of blocks whose scales of rows a block of threads stores together: two a panel and row are too little for a store of their own."""
LARGEST, WIDEST = 2**36, 2**31
Transforms = Sequence[tuple[Any, Any]]


@dataclass(frozen=True, eq=False)
class Side:
    """One operand that the kernel makes: where it goes (`embedded`: the numbers in bfloat16, or None), and the transform with its signs before it."""

    job: Job
    codes: Any
    scales: Any
    tensor_scale: Any
    embedded: Any = None
    transforms: Transforms = ()
    product: Any = None
    """The tensor scale of the operand that this one is multiplied with, and where {their product, 0} goes; None: not wanted."""

    @property
    def size(self) -> int:
        """Of the transform; 0: none."""
        return int(self.transforms[0][0].size) if self.transforms else 0

    @property
    def rows(self) -> bool:
        """Whether the blocks lie along rows."""
        return self.job.block[0] == 1


def fits(x: Any, q: Quantizer, k_axis: int, words: Any, transforms: Transforms = ()) -> bool:
    """Whether the kernel makes this operand of a matrix x."""
    r = plans.word_bits(q)
    if embed.macros(q) is None or x.ndim != 2 or not 0 < x.size < LARGEST or x.shape[1] >= WIDEST:
        return False
    if (x.dtype != np.float32 and x.dtype.name not in device.SOURCES) or not x.flags.c_contiguous or x.data.ptr % 16:
        return False
    if r and not (isinstance(words, WordAddress) and word_address.counted(words, r, x.size)):
        return False
    (rows, columns), block = x.shape, q.blocks.on(tuple(x.shape), k_axis)
    long = max(block)
    if long not in LENGTHS or block not in ((1, long), (long, 1), (long, long)) or columns % 16 or rows % long or (block[1] > 1 and columns % long):
        return False
    return not transforms or (block == (long, 1) and len(transforms) == 1 and _turns(transforms[0][0], long))


def _turns(transform: Any, length: int) -> bool:
    return transform.axis == "k" and not transform.rank and transform.size > 1 and length % transform.size == 0


def together(a: Side, b: Side) -> bool:
    """Whether one launch makes both: the same tensor, rows and columns, and in everything else the same quantizer. Words of 16 bits take so many
    registers that two launches are faster."""
    one, other = a.job, b.job
    same = plans.macros(one.q) == plans.macros(other.q) and bool((plans.rule_of(one.q) == plans.rule_of(other.q)).all())
    same = same and plans.word_bits(one.q) < 16
    return same and one.x.data.ptr == other.x.data.ptr and a.rows and b.job.block[1] == 1 and max(one.block) == max(other.block)


def run(sides: Sequence[Side]) -> None:
    """Makes operands of one tensor: their amaxes from one read, those that go `together` in one launch."""
    amaxes = _amaxes(sides) if sides[0].job.q.scale.rule == "nvfp4" else {}
    pair = len(sides) == 2 and (together(*sides) or together(*sides[::-1]))
    for group in [sides] if pair else [[side] for side in sides]:
        _launch(group, amaxes)


def _launch(sides: Sequence[Side], amaxes: dict[Side, Any]) -> None:
    a = next((s for s in sides if s.rows), None)
    b = next((s for s in sides if not s.rows), None)
    job = sides[0].job
    q, (rows, columns), long = job.q, job.shape, max(job.block)
    size = b.size if b is not None else 0
    square = int(b is not None and b.job.block[1] > 1)
    held = long * WIDE * (2 * job.x.itemsize + (plans.word_bits(q) // 8 if b is not None else 0)) + 16
    threads = _threads(held)
    shape = {
        "LP_FROM": job.kind, "LP_K": long, "LP_SIZE": size, "LP_ROWS": int(a is not None),
        "LP_COLUMNS": int(b is not None and not square), "LP_SQUARE": square, "LP_STORED": dict(embed.macros(q) or ())["LP_STORED"],
        "LP_A_OUT": int(a is not None and a.embedded is not None), "LP_B_OUT": int(b is not None and b.embedded is not None),
        "LP_JOINED": int(a is not None and long == JOINED and columns % (threads // 32 * WIDE) == 0),
        "LP_THREADS": threads, "LP_RESIDENT": 65536 // (threads * _registers(q, long, len(sides), 0 if size else job.kind)),
    }  # fmt: skip
    kernel = device.function("panels", "panels", (*(plans.macros(q) or ()), *shape.items()))
    arguments = [value for side in (a, b) for value in _arguments(side, amaxes)]
    panels = rows // long * -(-columns // WIDE)
    kernel(_grid(kernel, threads, held, panels), (threads,), (job.x, rows, columns, scales_of.rule(q), *_turn(b), *arguments))


def _threads(held: int) -> int:
    """Of a block whose warps have `held` bytes of shared memory each."""
    return 32 * next(warps for warps in WARPS if warps * held <= ROOM)


def _grid(kernel: Any, threads: int, held: int, panels: int) -> tuple[int]:
    """A panel a warp, no more blocks than the device holds at once."""
    most = device.processors() * (device.shared_memory() // (threads // 32 * held + BESIDE))
    return (max(1, min(-(-panels * 32 // threads), device.resident(kernel, threads), most)),)


def _registers(q: Quantizer, long: int, sides: int, kept: int) -> int:
    """Of a thread. kept: whether columns stay 16 bits in registers (strips.cuh)."""
    r = plans.word_bits(q)
    return LEAST if (kept and r < 16) or (r == 0 and long == 16 and sides == 1) else MOST


def _turn(side: Side | None) -> tuple[Any, ...]:
    if side is None or not side.size:
        return (*NONE, np.float32(1))
    return (*held_signs(side.transforms[0][1], side.job.shape[0], side.size), np.float32(1.0 / math.sqrt(side.size)))


def _arguments(side: Side | None, amaxes: dict[Side, Any]) -> tuple[Any, ...]:
    if side is None:
        return (0, 0, 0, 0, 0, 0, 0, 0, *word_address.address(None, 0))
    job = side.job
    tensor = (side.tensor_scale, amaxes[side]) if job.q.scale.rule == "nvfp4" else (0, 0)
    out = 0 if side.embedded is None else side.embedded
    words = word_address.address(job.words, plans.word_bits(job.q))
    return (side.codes, side.scales, out, *tensor, *(side.product or (0, 0)), job.counters.row, *words)


def _amaxes(sides: Sequence[Side]) -> dict[Side, Any]:
    """Side -> where the bits of its tensor's amax are: given, measured, or measured for another side of the same tensor."""
    found = {side: side.job.amax.view(np.uint32) for side in sides if side.job.amax is not None}
    unknown = [side for side in sides if side not in found]
    turned = next((side for side in unknown if side.size), None)
    plain = [side for side in unknown if not side.size]
    note = None if turned is None else noted.turned(turned.job.x, noted.turn_of(turned.size, turned.transforms[0][1]))
    if turned is not None and note is not None:
        found |= {turned: note.turned, **{side: note.plain for side in plain}}
    elif turned is not None:
        job = turned.job
        targets = [side.job.counters.spare() for side in (*plain[:1], turned)]
        (rows, columns), long = job.shape, max(job.block)
        held = long * WIDE * 2 * job.x.itemsize + 4 * long
        threads = _threads(held)
        shape = {"LP_FROM": job.kind, "LP_K": long, "LP_SIZE": turned.size, "LP_THREADS": threads, "LP_RESIDENT": 65536 // (threads * PEAKS)}
        kernel = device.function("peaks", "peaks", tuple(shape.items()))
        grid = _grid(kernel, threads, held, rows // long * -(-columns // WIDE))
        kernel(grid, (threads,), (job.x, rows, columns, *_turn(turned), targets[0] if plain else 0, targets[-1]))
        found[turned] = targets[-1]
        found |= {side: targets[0] for side in plain}
    elif plain:
        measured = measure.tensor_amax(plain[0].job)
        found |= {side: measured for side in plain}
    return found

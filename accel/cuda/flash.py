"""Attention of grade fast on the device: fused kernels that keep the logarithms of the sums of exponentials, not the probabilities.

The kernels (flash_forward.cu, flash_backward.cu) multiply float32 numbers on bfloat16 tensor cores: by three products of the halves of each number
(`TERMS["float32"]`), or by one of the numbers rounded to bfloat16, where the caller allows it (``operands="bfloat16"``). They read and write
heads where they lie, whose last axis is contiguous; nothing is read on the host, and of memory they take only results, from CuPy's pool. What
they promise is proved in `lpref.ref.attention.fused`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from lpref.accel.cuda import device

WIDEST = 128
"""Numbers of a head, at most."""
TERMS = {"float32": 3, "bfloat16": 1}
"""Products for one, by what operands may be rounded to."""
LOG2E = 1.4426950408889634


class Tile(NamedTuple):
    """Fragments of 16 rows a warp, warps a block, rows of the other side at a time, blocks a multiprocessor; 1 for the unit of a warpgroup."""

    fragments: int
    warps: int
    other: int
    resident: int
    group: int = 0

    @property
    def rows(self) -> int:
        return 16 * self.fragments * self.warps


class Turn(NamedTuple):
    """Rotation tables [T, D / 2], or none."""

    cos: Any
    sin: Any


def serves(q: Any, v: Any) -> bool:
    """Whether there are kernels for heads of this width."""
    return max(q.shape[3], v.shape[3]) <= WIDEST


def turns(D: int) -> bool:
    """Whether the kernels rotate heads of D numbers themselves."""
    return D % 16 == 0 and D <= WIDEST


def forward(q: Any, k: Any, v: Any, o: Any, causal: bool, scale: float, turn: Turn | None, terms: int) -> Any:
    """The logarithms to base 2 of the sums of exponentials [B, H, T]; the result goes to o [B, H, T, E]."""
    B, H, T, _ = q.shape
    lse = device.cupy().empty((B, H, T), np.float32)
    if lse.size:
        q, k, v = (_rows(x) for x in (q, k, v))
        run, tile = _kernel("flash_forward", "forward", (q, k, v, o), turn, terms)
        run.launch(-(-T // tile.rows) * B * H, *_heads(q, k, v, o), lse, *(turn or _none()), *_sizes(q, k, causal), _base2(scale))
    return lse


def backward(
    do: Any, q: Any, k: Any, v: Any, o: Any, lse: Any, causal: bool, scale: float, turn: Turn | None, terms: int, out: tuple[Any, Any, Any],
) -> None:  # fmt: skip
    """Gradients to out = dq, dk, dv, of the shapes of q, k, v, whose last axes are contiguous."""
    (B, H, T, _), (G, S) = q.shape, k.shape[1:3]
    (dq, dk, dv), cp = out, device.cupy()
    if not lse.size:
        return
    do, q, k, v, o = (_rows(x) for x in (do, q, k, v, o))
    lse, delta = cp.ascontiguousarray(lse), cp.empty((B, H, T), np.float32)
    tables, sizes, c = turn or _none(), _sizes(q, k, causal), _base2(scale)
    run, tile = _kernel("flash_backward", "queries", (q, k, v, o, do, dq), turn, terms)
    run.launch(-(-T // tile.rows) * B * H, *_heads(q, k, v, o, do, dq), lse, delta, *tables, *sizes, c, np.float32(scale))
    run, tile = _kernel("flash_backward", "keys", (q, k, v, do, dk, dv), turn, terms)
    back = np.float32(float(np.float32(scale)) / float(c)) if c else np.float32(0)  # queries are times c already
    run.launch(-(-S // tile.rows) * B * G, *_heads(q, k, v, do, dk, dv), lse, delta, *tables, *sizes, c, back)


class Launch(NamedTuple):
    """A kernel with the threads and the shared memory of its blocks."""

    kernel: Any
    threads: int
    memory: int

    def launch(self, blocks: int, *args: Any) -> None:
        self.kernel((blocks,), (self.threads,), args, shared_mem=self.memory)


BEST = {
    ("forward", 1): (Tile(1, 8, 64, 2), Tile(1, 8, 64, 2), Tile(1, 8, 64, 1)),
    ("forward", 3): (Tile(1, 8, 64, 1), Tile(2, 8, 64, 1), Tile(1, 8, 64, 1)),
    ("queries", 1): (Tile(1, 8, 64, 1), Tile(1, 8, 32, 2), Tile(2, 8, 32, 1)),
    ("queries", 3): (Tile(1, 8, 64, 1), Tile(1, 8, 32, 2), Tile(1, 8, 32, 1)),
    ("keys", 1): (Tile(1, 8, 64, 1), Tile(2, 4, 32, 2), Tile(1, 8, 32, 1)),
    ("keys", 3): (Tile(1, 8, 64, 1), Tile(1, 8, 64, 1), Tile(1, 8, 32, 1)),
}  # fmt: skip
"""Kernel and terms -> the fastest tile on one H200 for heads of up to 32, 64 and 128 numbers."""
SMALLER = (Tile(1, 4, 32, 1), Tile(1, 4, 16, 1), Tile(1, 2, 16, 1), Tile(1, 1, 16, 1))
"""Tiles for devices with less shared memory."""


GROUPS = {("forward", terms): (Tile(1, 8, 64, 1, 1),) * 3 for terms in (1, 3)}
"""The same where the matrix units of warpgroups are (sm_90), for heads of 32, 64 and 128 numbers. The backward kernels have such tiles too
(`Tile.group`), which the tests run; no plan takes them before they are timed."""


def plan(entry: str, wide: int, terms: int, group: bool) -> Tile:
    """The tile of a kernel for heads of `wide` numbers; group: whether matrix units of warpgroups serve."""
    best = (GROUPS if group and (entry, terms) in GROUPS else BEST)[entry, terms][0 if wide <= 32 else 1 if wide <= 64 else 2]
    return next(tile for tile in (best, *SMALLER) if shared(entry, wide, terms, tile) + 24 * tile.other <= device.shared_memory())


def shared(entry: str, wide: int, terms: int, tile: Tile) -> int:
    """Bytes of shared memory of a block that its launch asks for: what it holds, two or three tiles of two arrays of the other side."""
    turns = 3 if tile.group and entry != "forward" else 2
    rows = (1 if entry == "forward" else 2) * tile.rows + 2 * turns * tile.other
    pitch, more = (-(-wide // 64) * 64, 1024) if tile.group else (wide + 8, 0)
    return rows * (2 if terms == 3 else 1) * pitch * 2 + more


def _kernel(name: str, entry: str, arrays: tuple[Any, ...], turn: Turn | None, terms: int) -> tuple[Launch, Tile]:
    """The kernel for these heads; arrays: all that are read or written by strides, queries first, then keys and values."""
    D, E = arrays[0].shape[3], arrays[2].shape[3]
    whole = not D % 4 and not E % 4 and all(x.data.ptr % 16 == 0 and not any(s % 16 for s in x.strides[:3]) for x in arrays)
    group = whole and D == E and D in (32, 64, 128) and device.architecture() == "sm_90"
    tile = plan(entry, -(-max(D, E) // 16) * 16, terms, group)
    return _compiled(name, entry, D, E, 4 if whole else 1, terms, int(turn is not None), tile), tile


@cache
def _compiled(name: str, entry: str, D: int, E: int, vector: int, terms: int, turned: int, tile: Tile) -> Launch:
    wide = -(-max(D, E) // 16) * 16
    kernel = device.function(name, entry, macros(entry, D, E, vector, terms, turned, tile))
    kernel.max_dynamic_shared_size_bytes = shared(entry, wide, terms, tile)
    return Launch(kernel, 32 * tile.warps, shared(entry, wide, terms, tile))


def macros(entry: str, D: int, E: int, vector: int, terms: int, turned: int, tile: Tile) -> tuple[tuple[str, int], ...]:
    """What the sources are compiled for."""
    made = {"D": D, "E": E, "WIDE": -(-max(D, E) // 16) * 16, "VEC": vector, "TERMS": terms, "TURN": turned, "MT": tile.fragments,
            "WARPS": tile.warps, "BN": tile.other, "RESIDENT": tile.resident, "GROUP": tile.group, "KEYS": int(entry == "keys")}  # fmt: skip
    return tuple((f"LP_{key}", value) for key, value in sorted(made.items()))


def _rows(x: Any) -> Any:
    return x if x.strides[3] == 4 or x.shape[3] == 1 else device.cupy().ascontiguousarray(x)


def _heads(*arrays: Any) -> list[Any]:
    """Each array with its strides of batch, head and row, in numbers."""
    return [part for x in arrays for part in (x, *(s // 4 for s in x.strides[:3]))]


def _sizes(q: Any, k: Any, causal: bool) -> tuple[np.int32, ...]:
    return tuple(np.int32(n) for n in (q.shape[1], q.shape[1] // k.shape[1], q.shape[2], k.shape[2], causal))


def _base2(scale: float) -> np.float32:
    """scale log2 e: scores times this are exponents of 2."""
    return np.float32(float(np.float32(scale)) * LOG2E)


@cache
def _none() -> Turn:
    empty = device.cupy().empty(1, np.float32)
    return Turn(empty, empty)

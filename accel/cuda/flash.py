"""Attention of grade fast on the device: fused kernels that keep the logarithms of the sums of exponentials, not the probabilities.

The kernels (flash_forward.cu, flash_backward.cu) multiply float32 numbers on bfloat16 tensor cores: by three products of the halves of each number
(`TERMS["float32"]`), or by one of the numbers rounded to bfloat16, where the caller allows it (``operands="bfloat16"``). Queries, keys, values and do
that are bfloat16 arrays are multiplied as they are: what three products would add to one is zero, except for rotated numbers, whose halves a
kernel makes before (flash_halves.cu), and for what is made within (probabilities and gradients of scores). Heads are read and written where they
lie, whose last axis is contiguous; nothing is read on the host, and of memory the kernels take only results, from CuPy's pool. What they promise
is proved in `lpref.ref.attention.fused`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from lpref.accel.cuda import arrays, device, feed

WIDEST = 128
"""Numbers of a head, at most."""
TERMS = {"float32": 3, "bfloat16": 1}
"""Products for one, by what operands may be rounded to."""
LOG2E = 1.4426950408889634


class Tile(NamedTuple):
    """Fragments of 16 rows a warp, warps a block, rows of the other side at a time, blocks a multiprocessor; by the unit of warpgroups: 1: a turn
    ahead of the threads, 2 (backward): in turns with them."""

    fragments: int
    warps: int
    other: int
    resident: int
    group: int = 0

    @property
    def rows(self) -> int:
        return 16 * self.fragments * self.warps


class Numbers(NamedTuple):
    """terms: products for one; turned: queries and keys are rotated; sixteen: queries, keys and values are bfloat16 in memory, or (2) the halves
    of float32 numbers; short: gradients are bfloat16; do: so is do."""

    terms: int
    turned: int = 0
    sixteen: int = 0
    short: int = 0
    do: int = 0

    @property
    def planes(self) -> tuple[int, int, int]:
        """Halves that are kept of a query or a key, of a value, and of a number of do."""
        both = 2 if self.terms == 3 else 1
        return 1 if self.sixteen == 1 and not self.turned else both, 1 if self.sixteen == 1 else both, 1 if self.do else both


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
        q, k, v = _sources(q, k, v)
        q, k, v, sixteen = _halved(q, k, v, turn, terms)
        run, tile = _kernel("flash_forward", "forward", (q, k, v, o), Numbers(terms, int(turn is not None), sixteen))
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
    (q, k, v), (do,), (o,) = _sources(q, k, v), _sources(do), _sources(o)
    q, k, v, sixteen = _halved(q, k, v, turn, terms)
    of = Numbers(terms, int(turn is not None), sixteen, int(dq.itemsize == 2), int(do.itemsize == 2))
    lse, delta = cp.ascontiguousarray(lse), cp.empty((B, H, T), np.float32)
    tables, sizes, c = turn or _none(), _sizes(q, k, causal), _base2(scale)
    run, tile = _kernel("flash_backward", "queries", (q, k, v, o, do, dq), of)
    run.launch(-(-T // tile.rows) * B * H, *_heads(q, k, v, o, do, dq), lse, delta, *tables, *sizes, c, np.float32(scale))
    run, tile = _kernel("flash_backward", "keys", (q, k, v, do, dk, dv), of)
    run.launch(-(-S // tile.rows) * B * G, *_heads(q, k, v, do, dk, dv), lse, delta, *tables, *sizes, c, np.float32(scale))


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


GROUPS: dict[tuple[str, int, int], tuple[Tile, Tile, Tile]] = {
    ("forward", 1, 0): (Tile(1, 8, 64, 1, 1), Tile(1, 4, 64, 2, 1), Tile(1, 8, 64, 1, 1)),
    ("forward", 3, 0): (Tile(1, 8, 64, 1, 1),) * 3,
    ("queries", 3, 0): (Tile(1, 8, 64, 1, 1), Tile(1, 8, 64, 1, 1), Tile(1, 8, 32, 1, 1)),
    ("keys", 1, 0): (Tile(1, 4, 64, 2, 2), Tile(1, 4, 64, 2, 2), Tile(1, 8, 32, 1, 1)),
    ("keys", 3, 0): (Tile(1, 4, 64, 2, 2), Tile(1, 4, 64, 2, 2), Tile(1, 8, 32, 1, 1)),
    ("forward", 1, 1): (Tile(1, 4, 64, 3, 1), Tile(1, 4, 64, 3, 1), Tile(1, 4, 64, 2, 1)),
    ("forward", 3, 1): (Tile(1, 4, 64, 3, 1), Tile(1, 4, 64, 3, 1), Tile(1, 4, 64, 2, 1)),
    ("queries", 1, 1): (Tile(1, 4, 64, 3, 1), Tile(1, 4, 64, 3, 1), Tile(1, 8, 64, 1, 1)),
    ("queries", 3, 1): (Tile(1, 4, 64, 3, 1), Tile(1, 4, 64, 3, 1), Tile(1, 8, 64, 1, 1)),
    ("keys", 1, 1): (Tile(1, 4, 64, 3, 2), Tile(1, 4, 64, 2, 1), Tile(1, 4, 64, 2, 2)),
    ("keys", 3, 1): (Tile(1, 4, 64, 3, 2), Tile(1, 4, 64, 2, 1), Tile(1, 4, 64, 2, 2)),
    ("forward", 3, 2): (Tile(1, 4, 64, 2, 1), Tile(1, 4, 64, 2, 1), Tile(1, 8, 64, 1, 1)),
    ("queries", 3, 2): (Tile(1, 4, 64, 2, 2), Tile(1, 4, 64, 2, 2), Tile(1, 8, 32, 1, 1)),
    ("keys", 3, 2): (Tile(1, 4, 64, 2, 1), Tile(1, 4, 64, 2, 1), Tile(1, 8, 32, 1, 1)),
}
"""Kernel, terms and `Numbers.sixteen` -> the same where the matrix units of warpgroups are (sm_90), for heads of 32, 64 and
128 numbers."""
TURNED = {
    "forward": (Tile(1, 4, 64, 3, 1), Tile(1, 4, 64, 3, 1), Tile(1, 8, 64, 1, 1)),
    "queries": (Tile(1, 4, 64, 2, 1), Tile(1, 4, 64, 3, 2), Tile(1, 8, 32, 1, 1)),
    "keys": (Tile(1, 4, 64, 2, 1), Tile(1, 4, 64, 2, 1), Tile(1, 8, 32, 1, 1)),
}
"""Kernel -> the same for three terms of rotated bfloat16 sources, whose queries and keys have two planes."""


AHEAD = False
"""Whether float32 heads are halved before."""


def plan(entry: str, wide: int, of: Numbers, group: bool) -> Tile:
    """The tile of a kernel for heads of `wide` numbers; group: whether matrix units of warpgroups serve."""
    tiles = GROUPS.get((entry, of.terms, of.sixteen), BEST[entry, of.terms]) if group else BEST[entry, of.terms]
    if group and of.terms == 3 and of.turned and of.sixteen == 1:
        tiles = TURNED[entry]
    best = tiles[0 if wide <= 32 else 1 if wide <= 64 else 2]
    return next(tile for tile in (best, *SMALLER) if shared(entry, wide, of, tile) + 24 * tile.other <= device.shared_memory())


def shared(entry: str, wide: int, of: Numbers, tile: Tile) -> int:
    """Bytes of shared memory of a block that its launch asks for: what it holds, two or three tiles of two arrays of the other side."""
    turns = 3 if tile.group == 1 and entry != "forward" else 2
    pitch, more = (-(-wide // 64) * 64, 1024) if tile.group else (wide + 8, 0)
    k, v, do = of.planes
    held, other = {"forward": (k, k + v), "queries": (k + do, k + v), "keys": (k + v, k + do)}[entry]
    return (held * tile.rows + turns * other * tile.other) * pitch * 2 + more


def _kernel(name: str, entry: str, by_strides: tuple[Any, ...], of: Numbers) -> tuple[Launch, Tile]:
    """The kernel for these heads; by_strides: all that is read or written so, queries first, then keys and values."""
    D, E, each = by_strides[0].shape[3], by_strides[2].shape[3], 8 if of.sixteen or of.do else 4
    whole = not D % each and not E % each and all(_aligned(x) for x in by_strides)
    group = whole and D == E and D in (32, 64, 128) and device.architecture() == "sm_90"
    tile = plan(entry, -(-max(D, E) // 16) * 16, of, group)
    return _compiled(name, entry, D, E, each if whole else 1, of, tile), tile


def _aligned(x: Any) -> bool:
    """Whether every row starts at a multiple of 16 bytes."""
    return x.data.ptr % 16 == 0 and not any(s % 16 for s in x.strides[:3])


@cache
def _compiled(name: str, entry: str, D: int, E: int, vector: int, of: Numbers, tile: Tile) -> Launch:
    memory = shared(entry, -(-max(D, E) // 16) * 16, of, tile)
    kernel = device.function(name, entry, macros(entry, D, E, vector, of, tile))
    kernel.max_dynamic_shared_size_bytes = memory
    return Launch(kernel, 32 * tile.warps, memory)


def macros(entry: str, D: int, E: int, vector: int, of: Numbers, tile: Tile) -> tuple[tuple[str, int], ...]:
    """What the sources are compiled for."""
    made = {
        "D": D, "E": E, "WIDE": -(-max(D, E) // 16) * 16, "VEC": vector, "TERMS": of.terms, "TURN": of.turned, "SIXTEEN": of.sixteen,
        "SHORT": of.short, "DO": of.do, "MT": tile.fragments, "WARPS": tile.warps, "BN": tile.other, "RESIDENT": tile.resident, "GROUP": tile.group,
        "KEYS": int(entry == "keys"),
    }  # fmt: skip
    return tuple((f"LP_{key}", value) for key, value in sorted(made.items()))


def _sources(*given: Any) -> tuple[Any, ...]:
    """The arrays, all bfloat16 or all float32, whose last axes are contiguous."""
    if len({x.itemsize for x in given}) > 1:
        given = tuple(arrays.wide(x) for x in given)
    return tuple(x if x.strides[3] == x.itemsize or x.shape[3] == 1 else device.cupy().ascontiguousarray(x) for x in given)


def _halved(q: Any, k: Any, v: Any, turn: Turn | None, terms: int) -> tuple[Any, Any, Any, int]:
    """q, k and v as the kernels read them, and `Numbers.sixteen`: where bfloat16 is to be rotated, q and k are the planes of the rotated numbers, the
    second behind the first in each row."""
    sixteen, (B, H, T, D), G, planes = int(q.itemsize == 2), q.shape, k.shape[1], 2 if terms == 3 else 1
    if turn is None if sixteen else not AHEAD or terms != 3 or D not in (32, 64, 128) or v.shape[3] != D or k.shape[2] != T:
        return q, k, v, sixteen
    V = 0 if sixteen else G
    made = device.cupy().empty((B, T, H + G + V, planes * D), arrays.SIXTEEN)
    vector = int(all(_aligned(x) for x in (q, k, v)))
    defines = (("LP_D", D), ("LP_PLANES", planes), ("LP_SIXTEEN", sixteen), ("LP_TURN", int(turn is not None)), ("LP_VEC", 8 if vector else 1))
    pieces, numbers = B * T * (H + G + V) * D // 16, (np.int32(n) for n in (H, G, V, T))
    arrays.each("flash_halves", "halves", pieces, *_heads(q, k, v), pieces, *numbers, *(turn or _none()), made, defines=defines)
    made = made.transpose(0, 2, 1, 3)[..., :D]
    return made[:, :H], made[:, H : H + G], v if sixteen else made[:, H + G :], 1 if sixteen else 2


def _heads(*given: Any) -> list[Any]:
    """Each array with its strides of batch, head and row, in numbers."""
    return [part for x in given for part in (x, *(s // x.itemsize for s in x.strides[:3]))]


def _sizes(q: Any, k: Any, causal: bool) -> tuple[np.int32, ...]:
    return tuple(np.int32(n) for n in (q.shape[1], q.shape[1] // k.shape[1], q.shape[2], k.shape[2], causal))


def _base2(scale: float) -> np.float32:
    """scale log2 e: scores times this are exponents of 2."""
    return np.float32(float(np.float32(scale)) * LOG2E)


@feed.lasting
def _none() -> Turn:
    empty = device.cupy().empty(1, np.float32)
    return Turn(empty, empty)

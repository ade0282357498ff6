"""Attention of grade fast on the device: fused kernels that keep the logarithms of the sums of exponentials, not the probabilities.

The kernels (flash_forward.cu, flash_backward.cu) multiply float32 numbers on bfloat16 tensor cores: by three products of the halves of each number
(`TERMS["float32"]`), or by one of the numbers rounded to bfloat16, where the caller allows it (``operands="bfloat16"``). Queries, keys, values and do
that are bfloat16 arrays are multiplied as they are: what three products would add to one is zero, except for rotated numbers and what is made
within (probabilities and gradients of scores). Both halves of rotated numbers are made once by a kernel before (flash_halves.cu), but those of
queries by the forward; they are kept for the backward (`Kept`). Where one block holds all rows of a head it rotates them itself, and one kernel
makes all gradients (flash_whole.cu). Heads are read and written where they lie, whose last axis is contiguous; nothing is read on the host, and
the kernels take only results from CuPy's pool. What they promise is proved in `lpref.ref.attention.fused`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from lpref.accel.cuda import arrays, device, feed, noted
from lpref.accel.cuda.flash_tiles import ONCE, Numbers, Tile, macros, plan, shared

WIDEST = 128
"""Numbers of a head, at most."""
TERMS = {"float32": 3, "bfloat16": 1}
"""Products for one, by what operands may be rounded to."""
LOG2E = 1.4426950408889634


class Turn(NamedTuple):
    """Rotation tables [T, D / 2], or none."""

    cos: Any
    sin: Any


class Heads(NamedTuple):
    """Queries, keys and values as the kernels read them; made: whether planes were made for that."""

    qkv: tuple[Any, Any, Any]
    of: Numbers
    made: bool


@dataclass(frozen=True)
class Kept:
    """What the forward of rotated heads leaves for their backward: the logarithms [B, H, T], and the rotated planes, which would be made again."""

    logs: Any
    heads: Heads

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.logs.shape)

    @property
    def ndim(self) -> int:
        return 3

    def host(self) -> np.ndarray:
        """The logarithms in NumPy; waits for the device."""
        return np.asarray(device.cupy().asnumpy(self.logs))


def serves(q: Any, v: Any) -> bool:
    """Whether there are kernels for heads of this width."""
    return max(q.shape[3], v.shape[3]) <= WIDEST


def turns(D: int) -> bool:
    """Whether the kernels rotate heads of D numbers themselves."""
    return D % 16 == 0 and D <= WIDEST


def forward(
    q: Any, k: Any, v: Any, o: Any, causal: bool, scale: float, turn: Turn | None, terms: int, peak: noted.Noted = noted.NOWHERE,
) -> Any:  # fmt: skip
    """The logarithms to base 2 of the sums of exponentials [B, H, T], or `Kept`; the result goes to o [B, H, T, E], its amax where `peak` says."""
    B, H, T, _ = q.shape
    lse = device.cupy().empty((B, H, T), np.float32)
    if not lse.size:
        return lse
    heads = _read(q, k, v, turn, terms, _held_once(q, k, v), leaves=True)
    (planes, k, v), of = heads.qkv, heads.of
    left: list[Any] = [0, 0, 0, 0]
    if heads.made and _aligned(q):
        of, left = of._replace(turned=3), _heads(planes)
    else:
        q = planes
    run, tile = _kernel("flash_forward", "forward", (q, k, v, o), of, peak[0])
    run.launch(-(-T // tile.rows) * B * H, *_heads(q, k, v, o), lse, *(turn or _none()), *_sizes(q, k, causal), _base2(scale), *left, peak[1])
    return Kept(lse, heads) if heads.made else lse


def backward(
    do: Any, q: Any, k: Any, v: Any, o: Any, saved: Any, causal: bool, scale: float, turn: Turn | None, terms: int, out: tuple[Any, Any, Any],
    peak: noted.Noted = noted.NOWHERE,
) -> None:  # fmt: skip
    """Gradients to out = dq, dk, dv, of the shapes of q, k, v, whose last axes are contiguous, their amax to `peak`; saved: what forward gave."""
    (B, H, T, _), (G, S) = q.shape, k.shape[1:3]
    (dq, dk, dv), cp = out, device.cupy()
    lse, kept = (saved.logs, saved.heads) if isinstance(saved, Kept) else (cp.ascontiguousarray(saved), None)
    if not lse.size:
        return
    (do,), (o,) = _sources(do), _sources(o)
    once = H == G and do.itemsize == 2 and _held_once(q, k, v) and all(_aligned(x) for x in (o, do, *out))
    if kept is None or (kept.of.terms, kept.of.turned) != (terms, int(turn is not None)):
        kept = _read(q, k, v, turn, terms, once)
    of = kept.of._replace(short=int(dq.itemsize == 2), do=int(do.itemsize == 2))
    (q, k, v), tables, sizes, c = kept.qkv, turn or _none(), _sizes(q, k, causal), (_base2(scale), np.float32(scale))
    if once:
        run, _ = _kernel("flash_whole", "whole", (q, k, v, o, do, dq, dk, dv), of, peak[0])
        run.launch(B * H, *_heads(q, k, v, o, do, dq, dk, dv), lse, *tables, np.int32(H), np.int32(T), np.int32(causal), *c, peak[1])
        return
    delta = cp.empty((B, H, T), np.float32)
    run, tile = _kernel("flash_backward", "queries", (q, k, v, o, do, dq), of, peak[0])
    run.launch(-(-T // tile.rows) * B * H, *_heads(q, k, v, o, do, dq), lse, delta, *tables, *sizes, *c, peak[1])
    run, tile = _kernel("flash_backward", "keys", (q, k, v, do, dk, dv), of, peak[0])
    run.launch(-(-S // tile.rows) * B * G, *_heads(q, k, v, do, dk, dv), lse, delta, *tables, *sizes, *c, peak[1])


class Launch(NamedTuple):
    """A kernel with the threads and the shared memory of its blocks."""

    kernel: Any
    threads: int
    memory: int

    def launch(self, blocks: int, *args: Any) -> None:
        self.kernel((blocks,), (self.threads,), args, shared_mem=self.memory)


def _kernel(name: str, entry: str, by_strides: tuple[Any, ...], of: Numbers, peak: device.Macros) -> tuple[Launch, Tile]:
    """The kernel for these heads; by_strides: all that is read or written so, queries first, then keys and values."""
    D, E, each = by_strides[0].shape[3], by_strides[2].shape[3], 8 if of.sixteen or of.do else 4
    whole = not D % each and not E % each and all(_aligned(x) for x in by_strides)
    group = whole and D == E and D in (32, 64, 128) and device.architecture() == "sm_90"
    tile = plan(entry, -(-max(D, E) // 16) * 16, of, group)
    return _compiled(name, entry, D, E, each if whole else 1, of, tile, peak), tile


def _aligned(x: Any) -> bool:
    """Whether every row starts at a multiple of 16 bytes."""
    return x.data.ptr % 16 == 0 and not any(s % 16 for s in x.strides[:3])


@cache
def _compiled(name: str, entry: str, D: int, E: int, vector: int, of: Numbers, tile: Tile, peak: device.Macros) -> Launch:
    memory = shared(entry, -(-max(D, E) // 16) * 16, of, tile)
    kernel = device.function(name, entry, (*macros(entry, D, E, vector, of, tile), *peak))
    kernel.max_dynamic_shared_size_bytes = memory
    return Launch(kernel, 32 * tile.warps, memory)


def _sources(*given: Any) -> tuple[Any, ...]:
    """The arrays, all bfloat16 or all float32, whose last axes are contiguous."""
    if len({x.itemsize for x in given}) > 1:
        given = tuple(arrays.wide(x) for x in given)
    return tuple(x if x.strides[3] == x.itemsize or x.shape[3] == 1 else device.cupy().ascontiguousarray(x) for x in given)


def _held_once(q: Any, k: Any, v: Any) -> bool:
    """Whether one block may hold all rows of a head (`flash_tiles.ONCE`), which then rotates each row once."""
    if device.architecture() != "sm_90" or any(x.itemsize != 2 or not _aligned(x) for x in (q, k, v)):
        return False
    return 64 < q.shape[2] == k.shape[2] <= ONCE["whole"].rows and q.shape[3] == v.shape[3] and q.shape[3] in (32, 64)


def _read(q: Any, k: Any, v: Any, turn: Turn | None, terms: int, once: bool, leaves: bool = False) -> Heads:
    """q, k and v as the kernels read them: what is rotated in bfloat16, and not `once`, in planes, the second behind the first in each row; leaves:
    those of aligned queries are left to a forward."""
    q, k, v = _sources(q, k, v)
    sixteen = int(q.itemsize == 2)
    of = Numbers(terms, 0 if turn is None else 2 if once else 1, sixteen)
    if turn is None or once or not sixteen:
        return Heads((q, k, v), of, False)
    (B, H, T, D), G, planes = q.shape, k.shape[1], 2 if terms == 3 else 1
    made, first = device.cupy().empty((B, T, H + G, planes * D), arrays.SIXTEEN), H if leaves and _aligned(q) else 0
    defines = (("LP_D", D), ("LP_PLANES", planes), ("LP_VEC", 8 if _aligned(q) and _aligned(k) else 1))
    pieces, numbers = B * T * (H + G - first) * D // 16, (np.int32(n) for n in (first, H, H + G, T))
    arrays.each("flash_halves", "halves", pieces, *_heads(q, k), pieces, *numbers, *turn, made, defines=defines)
    made = made.transpose(0, 2, 1, 3)[..., :D]
    return Heads((made[:, :H], made[:, H:], v), of, True)


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

"""Tiles of the fused attention kernels: what each is fastest with on one H200, what it then holds in shared memory, what it is compiled for."""

from __future__ import annotations

from typing import NamedTuple

from lpref.accel.cuda import device


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
    """terms: products for one; turned: queries and keys are rotated, (2) on the way though they are bfloat16, (3, forward) queries
    on the way, whose planes it leaves; sixteen: queries, keys and values are bfloat16 in memory; short: gradients are bfloat16; do: so is do."""

    terms: int
    turned: int = 0
    sixteen: int = 0
    short: int = 0
    do: int = 0

    @property
    def planes(self) -> tuple[int, int, int]:
        """Halves that are kept of a query or a key, of a value, and of a number of do."""
        both = 2 if self.terms == 3 else 1
        return 1 if self.sixteen and not self.turned else both, 1 if self.sixteen else both, 1 if self.do else both


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
}
"""Kernel, terms and whether the sources are bfloat16 -> the same where the matrix units of warpgroups are (sm_90), for heads of 32, 64 and
128 numbers."""
TURNED = {
    "forward": (Tile(1, 4, 64, 3, 1), Tile(1, 4, 64, 3, 1), Tile(1, 8, 64, 1, 1)),
    "queries": (Tile(1, 4, 64, 2, 1), Tile(1, 4, 64, 3, 2), Tile(1, 8, 32, 1, 1)),
    "keys": (Tile(1, 4, 64, 2, 1), Tile(1, 4, 64, 2, 1), Tile(1, 8, 32, 1, 1)),
}
"""Kernel -> the same for three terms of rotated bfloat16 sources, whose queries and keys have two planes."""
ONCE = {"forward": Tile(1, 8, 128, 1, 1), "whole": Tile(1, 8, 128, 1, 1)}
"""Kernel -> the same where a block holds all rows of a head, in bfloat16, of 32 or 64 numbers."""


def plan(entry: str, wide: int, of: Numbers, group: bool) -> Tile:
    """The tile of a kernel for heads of `wide` numbers; group: whether matrix units of warpgroups serve."""
    if (group and of.turned == 2) or entry == "whole":
        return ONCE[entry]
    tiles = GROUPS.get((entry, of.terms, of.sixteen), BEST[entry, of.terms]) if group else BEST[entry, of.terms]
    if group and of.terms == 3 and of.turned and of.sixteen:
        tiles = TURNED[entry]
    best = tiles[0 if wide <= 32 else 1 if wide <= 64 else 2]
    return next(tile for tile in (best, *SMALLER) if shared(entry, wide, of, tile) + 24 * tile.other <= device.shared_memory())


def shared(entry: str, wide: int, of: Numbers, tile: Tile) -> int:
    """Bytes of shared memory of a block that its launch asks for: what it holds, two or three tiles of two arrays of the other side."""
    turns = 3 if tile.group == 1 and entry != "forward" else 2
    pitch, more = (-(-wide // 64) * 64, 1024) if tile.group else (wide + 8, 0)
    k, v, do = of.planes
    held, other = {"forward": (k, k + v), "queries": (k + do, k + v), "keys": (k + v, k + do), "whole": (2 * k + v + do, 0)}[entry]
    return (held * tile.rows + turns * other * tile.other) * pitch * 2 + more


def macros(entry: str, D: int, E: int, vector: int, of: Numbers, tile: Tile) -> tuple[tuple[str, int], ...]:
    """What the sources are compiled for."""
    made = {
        "D": D, "E": E, "WIDE": -(-max(D, E) // 16) * 16, "VEC": vector, "TERMS": of.terms, "TURN": of.turned, "SIXTEEN": of.sixteen,
        "SHORT": of.short, "DO": of.do, "MT": tile.fragments, "WARPS": tile.warps, "BN": tile.other, "RESIDENT": tile.resident, "GROUP": tile.group,
        "KEYS": int(entry == "keys"),
    }  # fmt: skip
    return tuple((f"LP_{key}", value) for key, value in sorted(made.items()))

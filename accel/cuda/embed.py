"""Codes times block scales in bfloat16 for operands of block formats (kernels/embed.cu), and which those are."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from lpref.accel.cuda import device, plans
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer

NEIGHBOURS, EACH = 16, 8
"""Columns come in whole multiples of the first; a thread has as many rows as the second says, where their scales are the same."""


@cache
def macros(q: Quantizer) -> tuple[tuple[str, Any], ...] | None:
    """The format of elements and scales for embedded.cuh: floats of 4 or 8 bits whose living blocks hold numbers only, under scales of 8 bits."""
    found, fmt = dict(plans.macros(q) or ()), format_named(q.format)
    if not found or found["LP_INTEGER"] or fmt.bits not in (4, 8) or q.scale.rule not in ("mx", "nvfp4") or q.scale.format == "float32":
        return None
    stored = int(plans.rule_of(q)[0]["format"])
    return (*((name, found[name]) for name in ("LP_BITS", "LP_TRAILING", "LP_EMIN")), ("LP_STORED", stored))


def embedded(codes: Any, scales: Any, shape: tuple[int, int], block: tuple[int, int], q: Quantizer, out: Any) -> bool:
    """out [R, C], 16 bits each, where the kernel serves the quantizer and these blocks; else False."""
    (rows, columns), (high, wide), made = shape, block, macros(q)
    down = wide == 1
    if made is None or columns % NEIGHBOURS or rows >= 2**32 or not (down or wide % NEIGHBOURS == 0) or columns % wide:
        return False
    each = EACH if rows % EACH == 0 and (high % EACH == 0 or not down) else 1
    run = device.function("embed", "embed", (*made, ("LP_DOWN", int(down)), ("LP_EACH", each)))
    run((device.blocks_for(rows // each * columns // 8),), (device.THREADS,), (codes, rows, columns, np.uint32(high), np.uint32(wide), scales, out))
    return True

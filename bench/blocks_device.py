"""Operands of block formats on the GPU: rows, columns, both from one read; codes alone and with their numbers in bfloat16; integer rows beside them.

Run: PYTHONPATH=src python bench/blocks_device.py OUT.json. Arrays of 1 GiB, times by CUDA events, medians; bytes are the least that the operation
moves: x (under a tensor scale twice, first for its amax; `amax given`: once), codes, scales, numbers. Shares are of the copy of the same run. Nothing
is timed before its codes, scales and counts equal `lpref.ref`'s on a part of the data, and its numbers those of its codes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cupy as cp
import ml_dtypes
import numpy as np
from nn_device import milliseconds, write

from lpref.accel import reference
from lpref.accel.cuda.job import job_of
from lpref.accel.cuda.quantize import in_panels, quantize
from lpref.ref import quantize as ref
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer, lookup
from lpref.ref.random import WordAddress
from lpref.ref.recipes.transform import Transform

SIZE, COLUMNS, PART = 1 << 30, 1 << 13, (64, 1 << 11)
SOURCES = {"bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
WORDS = tuple(WordAddress(1, 2, f"bench/blocks/x/{side}") for side in ("rows", "columns"))
SIGNS = np.where(np.random.default_rng(2).random(16) < 0.5, -1, 1).astype(np.float32)
TURN = ((Transform(size=16, signs="fixed", vector=tuple(int(s) for s in SIGNS)), SIGNS),)
PANELS = {"mxfp8_e4m3": (), "mxfp8_e4m3:rounding=stochastic": (), "nvfp4": TURN, "nvfp4:rounding=stochastic": TURN}
"""Quantizer -> the transform of its columns."""
BARS = {"mxfp8_e4m3": 80, "nvfp4:rounding=stochastic": 55}
"""% of the copy, of rows and columns together, codes alone."""
ALONE = {"int8_row": 92, "int8_row:rounding=stochastic": 80, "fp8_row": 92, "fp8_row:rounding=stochastic": 80, "mxfp6_e2m3": None, "nvfp4_2d": None}
"""What else is made by one kernel, in rows or squares; the bar."""


def data(kind: Any) -> Any:
    """[rows, COLUMNS] of SIZE bytes: normal numbers, rows of different size (by up to 16)."""
    rows, parts = SIZE // np.dtype(kind).itemsize // COLUMNS, 16
    part = cp.random.default_rng(1).standard_normal((rows // parts, COLUMNS), dtype=cp.float32)
    part *= cp.exp2(cp.arange(rows // parts, dtype=cp.float32) % 5 - 2)[:, None]
    out = cp.empty((rows, COLUMNS), kind)
    for i in range(parts):
        out[i * (rows // parts) : (i + 1) * (rows // parts)] = part.astype(kind)
    return out


def wanted(x: Any, q: Quantizer, turn: Any, axes: Sequence[int], numbers: bool, amax: Any) -> list[tuple[Any, Any, bool]]:
    """What `in_panels` takes; axis 1: along rows."""
    return [(job_of(x, q, None, amax, WORDS[1 - axis], axis), () if axis else turn, numbers) for axis in axes]


def refuse_what_differs(x: Any, q: Quantizer, turn: Any, axes: Sequence[int], numbers: bool) -> None:
    part = cp.ascontiguousarray(x[: PART[0], : PART[1]])
    for axis, got in zip(axes, in_panels(wanted(part, q, turn, axes, numbers, None)), strict=True):
        values = cp.asnumpy(part).astype(np.float32)
        want = reference.operand(values, q, k_axis=axis, words=WORDS[1 - axis], transforms=() if axis else turn)
        refuse(got.host(), want, f"{q.name or q.format} along axis {axis}")
        if numbers and not bool((got.embedded == replace(got, embedded=None).in_bfloat16(True)).all()):
            raise AssertionError(f"{q.format} along axis {axis}: the numbers are not those of the codes")


def refuse(got: Any, want: Any, what: str) -> None:
    same = np.array_equal(got.codes, want.codes) and np.array_equal(got.scales[0], want.scales[0])
    if not same or repr(dict(got.observed)) != repr(dict(want.observed)):
        raise AssertionError(f"{what}: the kernel differs from the reference")


def least(x: Any, q: Quantizer, axes: Sequence[int], numbers: bool, given: bool) -> float:
    """Bytes an element."""
    bits, (high, wide) = format_named(q.format).bits, q.blocks.on(tuple(x.shape), 1)
    reads = 2 if q.scale.rule == "nvfp4" and not given else 1
    return reads * x.itemsize + len(axes) * (bits / 8 + (1 if q.blocks.k else 4) / (high * wide) + 2 * numbers)


def panel_cases(x: Any) -> list[tuple[str, float, float | None, Callable[[], Any]]]:
    """Name, bytes an element, bar, call."""
    made, amax = [], cp.asarray(np.float32(64))
    for name, turn in PANELS.items():
        q = lookup(name)
        for side, axes in (("rows", (1,)), ("columns", (0,)), ("both", (1, 0))):
            for numbers in (False, True):
                refuse_what_differs(x, q, turn, axes, numbers)
                for given in (False, True) if q.scale.rule == "nvfp4" else (False,):
                    label = f"{name}, {side}{', numbers' * numbers}{', amax given' * given}"
                    bar = BARS.get(name) if side == "both" and not numbers and not given else None

                    def call(q: Any = q, turn: Any = turn, axes: Any = axes, numbers: bool = numbers, a: Any = amax if given else None) -> Any:
                        if axes == (1,) and not numbers:
                            return quantize(x, q, amax=a, words=WORDS[0])
                        return in_panels(wanted(x, q, turn, axes, numbers, a))

                    made.append((label, least(x, q, axes, numbers, given), bar, call))
    return made


def other_cases(x: Any) -> list[tuple[str, float, float | None, Callable[[], Any]]]:
    """As `panel_cases`."""
    made = []
    for name, bar in ALONE.items():
        q, part = lookup(name), x[: PART[0]]
        refuse(quantize(part, q, words=WORDS[0]).host(), ref.quantize(cp.asnumpy(part), q, words=WORDS[0]), name)
        made.append((name, least(x, q, (1,), False, False), bar, lambda q=q: quantize(x, q, words=WORDS[0])))
    return made


def main() -> int:
    rows: list[dict[str, Any]] = []
    for source, kind in SOURCES.items():
        x = data(kind)
        target = cp.empty_like(x)
        copy = milliseconds(lambda x=x, target=target: cp.cuda.runtime.memcpyAsync(target.data.ptr, x.data.ptr, x.nbytes, 3, 0))
        bandwidth = 2 * x.nbytes / copy / 1e9
        del target
        rows.append({"name": f"copy, {source}", "ms": copy, "TB/s": bandwidth})
        print(f"{source}: copy {copy:.3f} ms, {bandwidth:.3f} TB/s", flush=True)
        for label, size, bar, call in panel_cases(x) + other_cases(x):
            ms = milliseconds(call)
            share = 100 * size * x.size / ms / 1e9 / bandwidth
            rows.append({"name": label, "source": source, "bytes_per_element": size, "ms": ms, "share_of_copy_%": share, "bar_%": bar})
            print(f"{label:58s} {ms:8.3f} ms {share:5.1f} % of copy, bar {bar}", flush=True)
        del x, call
    write(rows, elements="1 GiB of the source", columns=COLUMNS)
    return 0


if __name__ == "__main__":
    sys.exit(main())

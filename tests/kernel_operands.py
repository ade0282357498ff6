"""Cases of the ops that transform, quantize and multiply; see `kernel_cases`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from kernel_draw import Draw, f32

import lpref
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import Accumulate, HighPrecision
from lpref.ref.quantize import QUANTIZERS, lookup
from lpref.ref.random import WordAddress
from lpref.ref.recipes import Transform


def products(draw: Draw) -> Iterator[tuple]:
    shapes = [((3, 5), (5, 4)), ((2, 13, 37), (2, 37, 51)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3, 8, 16), (3, 16, 48)), ((70, 33), (33, 70))]
    for a, b in shapes:
        yield draw(*a), draw(*b)
    yield draw(9, 40).T, draw(50, 9).T


def operands(draw: Draw) -> Iterator[tuple]:
    x, w = draw(40, 64), draw(24, 64)
    ref = lpref.backend("reference", "exact")
    for a in (None, "mxfp8_e4m3", "mxfp8_e5m2", "nvfp4", "fp8_tensor", "int8_row"):
        for b in {a, None}:
            yield (*(ref.operand(t, q and QUANTIZERS[q], k_axis=1) for t, q in ((x, a), (w, b))), Accumulate())
    for name in ("bf16", "nvfp4", "fp8_tensor", "int8_row", "fp16"):
        a, b = (ref.operand(t, QUANTIZERS[name], k_axis=1) for t in (x, w))
        yield from ((a, b, Accumulate(), output) for output in ("bfloat16", "binary16"))
        yield from ((a, b, Accumulate(), output, draw(24)) for output in ("float32", "bfloat16", "binary16"))
    yield HighPrecision(x[:24], 0), HighPrecision(w, 0), Accumulate(), "bfloat16"
    yield HighPrecision(x[:24], 0), HighPrecision(w, 0), Accumulate()
    yield HighPrecision(x[:0], 1), HighPrecision(w, 1), Accumulate()
    yield HighPrecision(x[:, :0], 1), HighPrecision(w[:, :0], 1), Accumulate(), "bfloat16", draw(24)


def transforms(draw: Draw) -> Iterator[tuple]:
    for shape, size, axis in (((3, 32), 16, 1), ((32, 5), 32, 0), ((65, 64), 1, 1), ((0, 16), 16, 1)):
        yield draw(*shape), size, axis, None
        yield draw(*shape), size, axis, np.sign(draw(size)) + f32(0)


OPERANDS = ("nvfp4", "nvfp4_2d", "mxfp8_e4m3", "mxint8", "fp8_tensor", "fp8_block128", "int8_row", "bf16")


def quantized(draw: Draw) -> Iterator[tuple]:
    for q in QUANTIZERS.values():  # more in cpu/test_quantize.py
        if q.scale.history == "current" and q.scale.rule not in ("learned", "quartic"):
            x = draw.wild(128, 256)
            refused = q.scale.rule == "none" and not format_named(q.format).has_nan
            yield np.where(np.isnan(x), f32(1), x) if refused else x, q
    yield draw(3, 5), QUANTIZERS["bf16"]


def decoded(draw: Draw) -> Iterator[tuple]:
    yield from quantized(draw)
    for name in (*OPERANDS[:-1], "nvfp4_torchao", "nvfp4_4over6_mse", "nf4", "ternary_absmean"):
        for make in (draw, lambda *shape: draw(*shape) * f32(1e-38), lambda *shape: np.abs(draw(*shape)) * f32(3e37)):
            x, address = make(128, 128), WordAddress(1, 2, name)
            yield (x, QUANTIZERS[name]), {"k_axis": 0}
            yield (x, lookup(f"{name}:rounding=stochastic")), {"words": address}
    yield (draw(1, 16), QUANTIZERS["nvfp4"]), {"amax": 100.0}
    yield (draw(2, 3, 64), "nvfp4"), {}
    yield (draw(64).astype(np.float64), "mxfp4"), {}
    yield draw(0, 32), "mxfp4"
    yield draw(3, 5).T, "bf16"


def made(draw: Draw) -> Iterator[tuple[tuple, dict[str, Any]]]:
    turn = Transform("hadamard", "k", 16)
    for number, name in enumerate(OPERANDS):
        for make in (draw, draw.wild):
            x, address = make(128, 128), WordAddress(1, number, "site")
            yield (x, QUANTIZERS[name]), {"k_axis": 1, "words": address}
            yield (x, QUANTIZERS[name]), {"k_axis": 0, "words": address, "transforms": ((turn, np.sign(draw(16))),)}
    yield (x, None), {"k_axis": 1, "transforms": ((turn, None),)}
    yield (x, QUANTIZERS["nvfp4"]), {"k_axis": 1, "collect": True}

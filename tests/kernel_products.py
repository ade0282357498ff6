"""More cases of products, operands and attention, for the tests of the cuda backend with and without a GPU; see `kernel_cases`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from kernel_draw import Draw, f32

from lpref.ref.attention import attention as dense
from lpref.ref.linalg import Accumulate, HighPrecision
from lpref.ref.quantize import Blocks, Quantizer, Scale, lookup, quantize
from lpref.ref.random import WordAddress

OPS = (
    "operand", "gemm", "gemms", "matmul", "cast", "quantize", "qdq", "attention", "attention_backward", "attention_packed",
    "attention_packed_backward",
)  # fmt: skip
PAIRS = [
    ("nvfp4", "nvfp4_2d"), ("fp8_tile1x128", "fp8_block128"), ("mxfp8_e4m3", "mxfp8_e5m2"), ("mxfp8_e5m2", "mxfp8_e5m2"), ("mxfp4", "nvfp4"),
    ("fp8_tensor", "fp8_tensor:format=e5m2"), ("fp8_tensor:format=e5m2", "fp8_tensor:format=e5m2"), ("int8_row", "ternary_absmean"),
    ("int8_row:k=64:tail=partial", "int8_row:k=64"), ("int4_group", "int4_group"), ("mxfp6_e2m3", "mxfp4"), ("ternary_absmean", "int8_tensor"),
    ("nvfp4_2d", "nvfp4"), ("mxint8", "mxint8"), ("int8_switchback", "int8_switchback"), ("bf16", "fp16"), ("int4_group", "nf4"),
    ("mxfp6_e2m3", "mxfp6_e3m2"),
]  # fmt: skip
MODELS = (Accumulate("sequential"), Accumulate("sequential", product="exact"), Accumulate("sequential", chunk=24), Accumulate(chunk=40))


def stored(draw: Draw, one: str, other: str, m: int, n: int, depth: int, axes: tuple[int, int] = (1, 1), wild: bool = False) -> tuple[Any, Any]:
    """Two operands of these quantizers; `axes` are their contraction axes."""
    made = []
    for name, rows, axis in ((one, m, axes[0]), (other, n, axes[1])):
        q = replace(lookup(name), tail="pad_zero")
        x = (draw.wild if wild else draw)(rows, depth)
        x = np.where(np.isfinite(x), x, f32(3)) if q.scale.rule == "te" else x
        made.append(quantize(np.ascontiguousarray(x if axis else x.T), q, k_axis=axis, words=WordAddress(1, 2, "product")))
    return made[0], made[1]


def gemms(draw: Draw) -> Iterator[tuple]:
    """Every recipe's operands, along every axis, with specials, under every model that has a kernel."""
    for one, other in PAIRS:
        for axes in ((1, 1), (0, 1), (0, 0)):
            yield stored(draw, one, other, 37, 33, 130, axes)
            yield stored(draw, one, other, 5, 34, 67, axes, wild=True)
        yield from ((*stored(draw, one, other, 33, 9, 130), model) for model in MODELS)
    for depth in (64, 65, 128, 129, 256):
        yield stored(draw, "nvfp4", "nvfp4", 129, 65, depth)
        yield stored(draw, "int8_row", "int8_tensor", 128, 64, depth)
    yield stored(draw, "mxfp8_e4m3", "nvfp4", 3, 4, 0)
    yield stored(draw, "nvfp4", "nvfp4", 3, 4, 0)
    yield stored(draw, "mxfp8_e4m3", "nvfp4", 0, 4, 32)
    yield from cancelling(draw.source)
    yield from infinite(draw)


UNITS = {
    "hopper_fp8_fast": ("fp8_tensor", "fp8_tensor:format=e5m2"), "hopper_fp8_promote128": ("fp8_tile1x128", "fp8_block128"),
    "hopper_bf16": ("bf16", "nvfp4"), "hopper_fp16": ("fp16", "fp16"), "hopper_tf32": ("bf16", "mxfp8_e5m2"), "ampere_bf16": ("bf16", "mxfp8_e4m3"),
    "volta_fp16": ("fp16", "fp8_tensor"), "ada_fp8": ("fp8_row", "mxfp4"), "blackwell_f8f6f4": ("mxfp6_e3m2", "mxfp8_e5m2"),
    "blackwell_mma_sync_fp8": ("fp8_tensor", "fp8_row"),
}  # fmt: skip
"""Models of matrix units that have kernels -> quantizers whose values they read."""


LAYOUTS = ((1, 1), (0, 1), (1, 0), (0, 0))


def units(draw: Draw, name: str, layouts: tuple[tuple[int, int], ...] = LAYOUTS) -> Iterator[tuple]:
    """A unit's operands of every kind of size, along every axis; sums of all magnitudes, that cancel, of zeros, infinities and NaN."""
    one, other = UNITS[name]
    for axes in layouts:
        yield (*stored(draw, one, other, 37, 35, 150, axes), name)
    for m, n, depth in ((1, 1, 1), (5, 3, 31), (66, 65, 129), (3, 4, 300), (2, 3, 0)):
        yield (*stored(draw, one, other, m, n, depth), name)
    yield (*stored(draw, one, other, 40, 33, 200, wild=True), name)
    if name == "hopper_bf16":
        yield from ends(draw, name)


def ends(draw: Draw, name: str) -> Iterator[tuple]:
    """bfloat16 products about 2^-149 and 2^128, of neighbours that nearly cancel, with infinities and zeros, as float32 and as codes."""
    for scale in (2.0**-70, 2.0**-64, 2.0**62, 2.0**64, 2.0**100, 1.0):
        x, y = (draw(24, 96).astype(np.float64) * scale for _ in range(2))
        x[:, 1::2], y[:, 1::2] = -x[:, ::2] * (1 + draw(24, 48) * 2.0**-7), y[:, ::2]
        sides = [(v.astype(f32).view(np.uint32) & 0xFFFF0000).view(f32) for v in (x, y)]
        yield (*(HighPrecision(v) for v in sides), name)
        sides[0][3, 5], sides[0][4, 40], sides[0][5, 70], sides[1][2, 5], sides[1][7, :64] = np.inf, -np.inf, np.nan, 0, -0.0
        yield (*(quantize(v, lookup("bf16")) for v in sides), name)


def cancelling(source: np.random.Generator) -> Iterator[tuple]:
    """E5M2 codes of all magnitudes whose halves cancel but for one bit: what is left is far below the terms."""
    q = Quantizer("e5m2", Blocks(), Scale("amax"))
    for flip in (0x80, 0):
        codes = [source.integers(0, 256, (33, 64), dtype=np.uint8) for _ in range(2)]
        codes = [np.where(c & 0x7C == 0x7C, np.uint8(0x30), c) for c in codes]
        codes[0][:, 32:], codes[1][:, 32:] = codes[0][:, :32] ^ np.uint8(flip), codes[1][:, :32]
        codes[0][:, 40] ^= 1
        a, b = (replace(quantize(np.ones((33, 64), np.float32), q), codes=c) for c in codes)
        yield a, b


def infinite(draw: Draw) -> Iterator[tuple]:
    """Codes of infinity and NaN among wide sums."""
    for name in ("e5m2", "e4m3"):
        e5 = Quantizer("e5m2", Blocks(1, 32), Scale("mx", format="e8m0"))
        a, b = quantize(draw(40, 96), e5), quantize(draw(33, 96), replace(e5, format=name))
        one, other = a.codes.copy(), b.codes.copy()
        one[3, 5], one[4, 40], one[5, 70], one[6, 1:3] = 0x7C, 0xFC, 0x7E, (0x7C, 0xFC)
        other[2, 5], other[7, 5] = 0, 0x7F if name == "e4m3" else 0x7C
        yield replace(a, codes=one), replace(b, codes=other)
        yield replace(b, codes=other), replace(a, codes=one)


def quantized(draw: Draw) -> Iterator[tuple[tuple, dict[str, Any]]]:
    """Steps that are given, and mean magnitudes, for any blocks."""
    names = ("ternary_absmean", "binary_absmean:other=1", "ternary_absmean:other=16:k=48:tail=partial", "ternary_absmean:apply=divide:eps=0")
    ends = (np.full((7, 50), 3e38, np.float32), np.zeros((3, 5), np.float32), draw(0, 4))
    for x in (draw(33, 130), draw(33, 130) * f32(1e-40), draw.wild(33, 130), *ends):
        for axis in (0, 1):
            yield from (((np.asarray(x, np.float32), lookup(name)), {"k_axis": axis}) for name in names)
            finite = np.where(np.isnan(x), f32(1), x)
            for name in ("int4_learned", "int4_learned:apply=mul_inverse"):
                yield (finite, lookup(name)), {"k_axis": axis, "state": {"scale": np.asarray(0.3, np.float32)}}
    yield draw(4, 5), lookup("int4_learned")
    for name in ("bf16", "fp16", "bf16:overflow=saturate", "fp16:rounding=toward_zero"):
        for x in (draw.wild(33, 132), draw.wild(3, 5), draw(64, 64) * f32(1e-6)):
            yield np.asarray(x, np.float32), lookup(name)


def heads(draw: Draw, backward: bool) -> Iterator[tuple]:
    """Rows about the lengths that registers hold, more keys than queries, groups, and heads that are not contiguous."""
    for T, S in ((90, 70), (3, 1023), (2, 1025), (2, 2050), (1, 32), (2, 33), (70, 70)):
        for causal in (False, True) if T <= S else (False,):
            q, k, v, do = draw(1, 2, T, 8), draw(1, 1, S, 8), draw(1, 1, S, 8), draw(1, T, 2, 8).transpose(0, 2, 1, 3)
            yield (do, q, k, v, *dense(q, k, v, causal), causal) if backward else (q, k, v, causal)


def products(draw: Draw) -> Iterator[tuple]:
    """Tiles that are full, and one more and less; many batches; axes that are broadcast."""
    for m, n, k in ((64, 32, 16), (63, 33, 17), (1, 129, 15), (65, 1, 1), (128, 128, 33)):
        yield draw.wild(m, k), draw.wild(k, n)
        yield draw(2, m, k), draw(k, n)
    yield draw(2, 1, 3, 5, 7), draw(2, 4, 1, 7, 3)
    yield draw(6, 1, 5, 7), draw(1, 3, 7, 4)
    yield draw(4, 8, 6)[::2, ::-1, 1:5], draw(4, 9).T[2:6, :4][::-1]


MORE: dict[str, Any] = {
    "matmul": products, "gemm": gemms, "quantize": quantized, "attention": lambda draw: heads(draw, False),
    "attention_backward": lambda draw: heads(draw, True),
}  # fmt: skip

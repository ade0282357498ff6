"""Inputs of every backend op, for the tests of every backend: `CASES` maps an op to its cases.

A case is a tuple of arguments, or a pair of such a tuple and a dict of options. Cases put edges where kernels have them: no rows,
one, a task's rows ± 1, a vector's length ± 1, the 1024 lanes of the sum ± 1; values include zeros of both signs, subnormals, the
largest numbers, infinities and NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from kernel_draw import EXTREMES, Draw, f32
from kernel_operands import decoded, made, operands, products, quantized, transforms

import lpref
from lpref.ref import optim

SHAPES = [(0, 5), (1, 1), (1, 16), (31, 7), (33, 16), (65, 33), (3, 128), (2, 1023), (2, 1025), (1030, 3)]
HEADS = [(1, 2, 1, 5, 5, 3), (1, 2, 2, 33, 40, 24), (1, 1, 1, 1, 1, 1), (2, 2, 2, 8, 8, 16), (0, 2, 2, 4, 4, 4), (1, 4, 4, 128, 128, 32)]


def elementwise(draw: Draw) -> Iterator[tuple]:
    yield (EXTREMES,)
    for n in (0, 1, 15, 17, 40000):
        yield (draw.wild(n),)
    yield (draw(3, 4, 5).transpose(2, 0, 1),)


def casts(draw: Draw) -> Iterator[tuple]:
    for name in ("bfloat16", "binary16", "tf32", "float32", "e4m3", "e5m2"):
        yield EXTREMES, name
        for n in (0, 1, 17, 40000):
            yield draw.wild(n), name


def pairs(draw: Draw) -> Iterator[tuple]:
    for n in (0, 1, 17, 40000):
        yield draw.wild(n), draw.wild(n)
    yield draw(5, 4).T, draw(4, 5)


def norms(draw: Draw, *extra: Any, backward: bool, layer: bool) -> Iterator[tuple]:
    for n, d in SHAPES:
        for make in (draw, draw.wild):
            x, w, b = make(n, d), draw(d), draw(d)
            saved = (draw(n), draw(n)) if layer else (draw(n),)
            yield (make(n, d), x, w, *saved) if backward else ((x, w, b, 1e-5) if layer else (x, w, 1e-5))


def added_norms(draw: Draw, backward: bool, layer: bool) -> Iterator[tuple]:
    """Also rows of whole fours that a warp has in its registers, and the lanes of a column sum - 1, + 0 and + 1."""
    for n, d in [*SHAPES, (9, 4), (130, 132), (17, 384), (5, 1024), (1023, 8), (1024, 8), (1025, 8), (3100, 12)]:
        for make in (draw, draw.wild):
            first, second, w, b = make(n, d), make(n, d), draw(d), draw(d)
            saved = (draw(n), draw(n)) if layer else (draw(n),)
            if backward:
                yield make(n, d), first, second, w, *saved
            else:
                yield (first, second, w, b, 1e-5) if layer else (first, second, w, 1e-5)


def heads(draw: Draw, backward: bool) -> Iterator[tuple]:
    ref = lpref.backend("reference", "exact")
    for B, Hq, Hkv, T, S, D in HEADS:
        for causal in (True, False):
            q, k, v, do = draw(B, Hq, T, D), draw(B, Hkv, S, D), draw(B, Hkv, S, D), draw(B, Hq, T, D)
            yield (do, q, k, v, *ref.attention(q, k, v, causal), causal) if backward else (q, k, v, causal)
    for spoil in range(5):
        q, k, v, do = draw(1, 2, 17, 8), draw(1, 1, 20, 8), draw(1, 1, 20, 8), draw(1, 2, 17, 8)
        spoiled = [(v, np.inf), (k, np.nan), (do, -np.inf), (v, 3e38), (q, 3e38)][spoil]
        spoiled[0][0, 0, -1, 1:3] = spoiled[1]
        if spoil == 3:
            do *= f32(1e30)
        yield (do, q, k, v, *ref.attention(q, k, v, True), True, 0.3) if backward else (q, k, v, True, 0.3)


def packed_heads(draw: Draw, backward: bool) -> Iterator[tuple]:
    ref = lpref.backend("reference", "exact")
    for B, H, G, T, D in ((1, 1, 1, 1, 2), (2, 4, 2, 17, 8), (1, 3, 1, 33, 16), (3, 2, 2, 8, 32)):
        for rotary in (None, (draw(T, D // 2), draw(T, D // 2))):
            for causal in (True, False):
                for spoil in (None, np.inf, np.nan, 3e38):
                    qkv, do = draw(B * T, (H + 2 * G) * D), draw(B * T, H * D)
                    if spoil is not None:
                        qkv[-1, draw.source.integers(0, qkv.shape[1], 2)] = spoil
                    options = (B, H, G, rotary, causal, 0.3)
                    yield (do, qkv, *ref.attention_packed(qkv, *options), *options) if backward else (qkv, *options)


def entropies(draw: Draw, backward: bool) -> Iterator[tuple]:
    for n, v in SHAPES[1:]:
        for make in (draw, draw.wild):
            targets = draw.source.integers(0, v, n)
            yield (f32(0.7), make(n, v), targets) if backward else (make(n, v), targets.astype(np.int32))


def embeddings(draw: Draw) -> Iterator[tuple]:
    for n, v in ((0, 3), (1, 1), (50, 7), (2500, 2), (5, 100)):
        yield draw.wild(n, 19), draw.source.integers(0, v, n), v
    yield draw(2, 5, 3), draw.source.integers(0, 4, (2, 5)), 4


def rotations(draw: Draw) -> Iterator[tuple]:
    for b, h, t, d in ((1, 1, 1, 2), (2, 3, 5, 6), (0, 1, 2, 4), (1, 2, 33, 32)):
        yield draw.wild(b, h, t, d), draw(t, d // 2), draw(t, d // 2)
        yield draw(b, t, h, d).transpose(0, 2, 1, 3), draw(t, d // 2), draw(t, d // 2)


def packed(draw: Draw, backward: bool) -> Iterator[tuple]:
    for n, f in ((0, 3), (1, 1), (33, 17), (5, 1030)):
        gu = draw.wild(n, 2 * f)
        yield (draw.wild(n, f), gu) if backward else (gu,)


def sums(draw: Draw) -> Iterator[tuple]:
    for shape in ((1,), (1023,), (1025,), (3, 2050), (70, 65)):
        yield (draw.wild(*shape), -1)
    yield draw(2050, 3), 0
    yield draw(1030, 532), 0
    yield draw(2, 300, 132), 1
    yield draw(4, 5, 6), (0, 2)
    yield draw(4, 5, 6), None, True


def updates(draw: Draw) -> Iterator[tuple]:
    for shape in ((), (0,), (1,), (17,), (40000,), (30, 40)):
        for order in ("before", "inside", "after"):
            k = optim.adamw_coefficients(3, 1e-2, 0.9, 0.95, 1e-8, 0.1, order)
            yield draw(*shape), draw.wild(*shape), draw(*shape), np.asarray(np.abs(draw(*shape))), k, order


def momenta(draw: Draw) -> Iterator[tuple]:
    for shape in ((), (0,), (17,), (40000,), (30, 40)):
        for mu, dampening, wd, nesterov in ((0.9, 0.0, 0.0, False), (0.9, 0.1, 0.01, True), (0.5, 0.0, 0.1, False)):
            for first in (False, True):
                yield draw(*shape), draw.wild(*shape), draw(*shape), 0.1, mu, dampening, wd, nesterov, first
    yield draw(5), draw(5), None, 0.1


def lions(draw: Draw) -> Iterator[tuple]:
    for shape in ((), (0,), (1,), (17,), (40000,), (30, 40)):
        yield draw(*shape), draw.wild(*shape), draw(*shape), 1e-2, 0.9, 0.99, 0.1
        yield draw(*shape), np.zeros(shape, f32), np.zeros(shape, f32), 1e-2, 0.9, 0.99, 0.0


def images(draw: Draw, adjoint: bool) -> Iterator[tuple]:
    ref = lpref.backend("reference", "exact")
    kernels = [((2, 3, 8, 8), 3, 3, 1, 1), ((1, 1, 5, 7), 2, 3, 2, 0), ((0, 2, 4, 4), 3, 3), ((3, 2, 4, 4), 4, 4, 1, 3), ((1, 5, 9, 9), 1, 1, 3, 0)]
    for shape, *rest in kernels:
        x = draw.wild(*shape)
        yield (draw.wild(*ref.im2col(x, *rest).shape), shape, *rest) if adjoint else (x, *rest)


def lists(draw: Draw) -> Iterator[tuple]:
    yield ([],)
    yield ([draw(5), draw(2, 3000), np.zeros((0,), np.float32), draw(1024)],)
    yield ([draw.wild(300)],)


def selections(draw: Draw) -> Iterator[tuple]:
    for a, b in pairs(draw):
        yield a > f32(0), a, b
    yield draw(4, 5) > f32(0), draw(4, 5), f32(-np.inf)


def arithmetic(draw: Draw) -> Iterator[tuple]:
    """Pairs, every extreme with every other, and the ways of broadcasting that a layer needs."""
    yield from pairs(draw)
    yield np.repeat(EXTREMES, EXTREMES.size), np.tile(EXTREMES, EXTREMES.size)
    for a, b in (((33, 17), (17,)), ((33, 1), (33, 17)), ((2, 3, 5), (3, 1)), ((1,), (40, 3)), ((), (5,)), ((4,), ())):
        yield draw.wild(*a), draw.wild(*b)
    for number in (0.5, 2, -3e-41, 1e38):
        yield draw.wild(300), number
        yield number, draw.wild(300)


def lookups(draw: Draw) -> Iterator[tuple]:
    for v, n in ((3, 0), (1, 1), (7, 50), (2, 2500)):
        yield draw.wild(v, 19), draw.source.integers(0, v, n)
    yield draw.wild(4, 3), draw.source.integers(0, 4, (2, 5), dtype=np.int32)


def magnitudes(draw: Draw) -> Iterator[tuple]:
    for shape in ((1,), (17,), (70, 65), (40000,)):
        for make in (draw, draw.wild):
            yield (make(*shape),)
    yield draw.wild(5, 33), 1
    yield draw.wild(33, 5), 0


def ranked(draw: Draw) -> Iterator[tuple]:
    """Ends and middles, repeated ranks, ties, zeros of both signs, infinities, NaN (last); elements that differ in their last bits."""
    for n in (1, 2, 17, 5000, 40000):
        for make in (draw, draw.wild):
            yield make(n), (0, n - 1)
            yield make(n), (n // 2, n // 100, n // 2)
    yield np.float32([-0.0, 0.0, -1.0, np.nan, np.inf, -np.inf, -0.0]), tuple(range(7))
    yield np.repeat(np.float32([2.0, -3.0, -0.0]), 700).reshape(30, 70), (699, 700, 1399, 1400)
    yield (np.float32(1.5).view(np.uint32) + np.arange(5000, dtype=np.uint32)[::-1]).view(np.float32), (1234, 4999)


def finite_lists(draw: Draw) -> Iterator[tuple]:
    yield from lists(draw)
    for bad in (np.inf, -np.inf, np.nan):
        last = draw(1025)
        last[-1] = bad
        yield ([draw(3), last],)


def kinds(cases: Iterator[tuple]) -> Iterator[tuple]:
    for case in cases:
        yield (*case, "tanh")
        yield (*case, "erf")


CASES: dict[str, Any] = {
    "quantize": quantized,
    "qdq": decoded,
    "operand": made,
    "cast": casts,
    **{op: arithmetic for op in ("add", "sub", "mul", "div", "maximum", "minimum", "greater", "greater_equal", "equal")},
    **{op: elementwise for op in ("neg", "abs", "sqrt", "rint")},
    "where": selections,
    "amax": magnitudes,
    "order_statistics": ranked,
    "embedding": lookups,
    "all_finite": finite_lists,
    "hadamard_inverse": transforms,
    "hadamard": transforms,
    "tree_sum": sums,
    "tree_mean": sums,
    **{op: elementwise for op in ("exp", "exp2", "log", "log2", "sin", "cos", "tanh", "sigmoid", "erf", "rsqrt", "relu", "silu")},
    "pow": pairs,
    "relu_backward": pairs,
    "silu_backward": pairs,
    "gelu": lambda draw: kinds(elementwise(draw)),
    "gelu_backward": lambda draw: kinds(pairs(draw)),
    "swiglu": pairs,
    "swiglu_backward": lambda draw: ((draw.wild(*g.shape), g, u) for g, u in pairs(draw)),
    "swiglu_packed": lambda draw: packed(draw, False),
    "swiglu_packed_backward": lambda draw: packed(draw, True),
    "rmsnorm": lambda draw: norms(draw, backward=False, layer=False),
    "rmsnorm_backward": lambda draw: norms(draw, backward=True, layer=False),
    "layernorm": lambda draw: norms(draw, backward=False, layer=True),
    "layernorm_backward": lambda draw: norms(draw, backward=True, layer=True),
    "add_rmsnorm": lambda draw: added_norms(draw, False, False),
    "add_rmsnorm_backward": lambda draw: added_norms(draw, True, False),
    "add_layernorm": lambda draw: added_norms(draw, False, True),
    "add_layernorm_backward": lambda draw: added_norms(draw, True, True),
    "softmax_cross_entropy": lambda draw: entropies(draw, False),
    "softmax_cross_entropy_backward": lambda draw: entropies(draw, True),
    "embedding_backward": embeddings,
    "rope": rotations,
    "rope_backward": rotations,
    "attention": lambda draw: heads(draw, False),
    "attention_backward": lambda draw: heads(draw, True),
    "attention_packed": lambda draw: packed_heads(draw, False),
    "attention_packed_backward": lambda draw: packed_heads(draw, True),
    "adamw_update": updates,
    "sgd_update": momenta,
    "lion_update": lions,
    "im2col": lambda draw: images(draw, False),
    "col2im": lambda draw: images(draw, True),
    "global_norm": lists,
    "matmul": products,
    "gemm": operands,
    "gemms": lambda draw: (([case, case] if number % 2 else [case],) for number, case in enumerate(operands(draw))),
}

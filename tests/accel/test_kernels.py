"""Every registered kernel of the cpu backend against its reference, under its contract, in both grades.

A kernel belongs here the moment it is in the table: `test_every_kernel_has_cases` fails for one that has none. Cases put edges
where kernels have them: no rows, one, a task's rows ± 1, a vector's length ± 1, the 1024 lanes of the sum ± 1; values include
zeros of both signs, subnormals, the largest numbers, infinities and NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lpref
from lpref.accel.cpu import KERNELS
from lpref.ref import optim
from lpref.ref.formats import format as format_named
from lpref.ref.linalg import Accumulate, HighPrecision
from lpref.ref.quantize import QUANTIZERS, lookup
from lpref.ref.random import WordAddress
from lpref.ref.recipes import Transform

f32 = np.float32
EXTREMES = f32([0.0, -0.0, 1e-45, -1e-45, 1e-38, -3e-39, 1, -1, 0.5, 30, -30, 89, -104, 3e38, -3e38, np.inf, -np.inf, np.nan])
SHAPES = [(0, 5), (1, 1), (1, 16), (31, 7), (33, 16), (65, 33), (3, 128), (2, 1023), (2, 1025), (1030, 3)]
HEADS = [(1, 2, 1, 5, 5, 3), (1, 2, 2, 33, 40, 24), (1, 1, 1, 1, 1, 1), (2, 2, 2, 8, 8, 16), (0, 2, 2, 4, 4, 4), (1, 4, 4, 128, 128, 32)]


PRODUCTS = ("operand", "gemm", "gemms", "matmul")  # the ops that differ between the grades


class Draw:
    """Deterministic inputs: normal numbers, or with extremes sprinkled in."""

    def __init__(self, seed: int) -> None:
        self.source = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> np.ndarray:
        return np.asarray(self.source.standard_normal(shape), np.float32)

    def wild(self, *shape: int) -> np.ndarray:
        x = np.asarray(self(*shape) * f32(4))
        at = np.asarray(self.source.random(shape) < 0.1)
        x[at] = self.source.choice(EXTREMES, int(at.sum()))
        return x


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
                    yield (do, qkv, ref.attention_packed(qkv, *options)[1], *options) if backward else (qkv, *options)


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
    yield draw(4, 5, 6), (0, 2)
    yield draw(4, 5, 6), None, True


def updates(draw: Draw) -> Iterator[tuple]:
    for shape in ((), (0,), (1,), (17,), (40000,), (30, 40)):
        for order in ("before", "inside", "after"):
            k = optim.adamw_coefficients(3, 1e-2, 0.9, 0.95, 1e-8, 0.1, order)
            yield draw(*shape), draw.wild(*shape), draw(*shape), np.abs(draw(*shape)), k, order


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
    yield HighPrecision(x[:24], 0), HighPrecision(w, 0), Accumulate()
    yield HighPrecision(x[:0], 1), HighPrecision(w, 1), Accumulate()


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


def kinds(cases: Iterator[tuple]) -> Iterator[tuple]:
    for case in cases:
        yield (*case, "tanh")
        yield (*case, "erf")


CASES: dict[str, Any] = {
    "quantize": quantized,
    "qdq": decoded,
    "operand": made,
    "cast": casts,
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


def test_every_kernel_has_cases() -> None:
    assert set(CASES) == set(KERNELS) | set(PRODUCTS)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("op", CASES)
def test_kernel_keeps_its_contract(op, numerics) -> None:
    if numerics == "fast" and op not in PRODUCTS:
        fast, exact = (lpref.backend("cpu", grade).kernels[op] for grade in ("fast", "exact"))
        assert (fast.function, fast.contract) == (exact.function, exact.contract)
        return
    kernel = lpref.backend("cpu", numerics).kernels[op]
    with np.errstate(all="ignore"):
        for number, case in enumerate(CASES[op](Draw(11))):
            case, options = case if len(case) == 2 and isinstance(case[1], dict) else (case, {})
            kept = [a.copy() if isinstance(a, np.ndarray) else a for a in case]
            found = kernel.contract.mismatch(kernel.reference(*case, **options), kernel.function(*case, **options), case, options)
            shapes = [getattr(a, "shape", a) for a in case]
            assert found is None, f"case {number} {shapes}: {found}"
            for before, after in zip(kept, case, strict=True):
                if isinstance(before, np.ndarray):
                    np.testing.assert_array_equal(before, after, f"{op} changed its input")

"""The kernels that are no matrix products, at sizes that take other ways through them, and at sizes of real layers against the cpu kernels."""

from __future__ import annotations

import cupy as cp
import numpy as np
import pytest
from kernel_check import check_cases, cuda_place
from kernel_draw import Draw
from kernel_sizes import KERNELS, MORE

import lpref
from lpref.ref.contracts import Bits

CPU = lpref.backend("cpu", "exact")
FUNCTIONS = ("exp", "exp2", "log", "log2", "sin", "cos", "tanh", "sigmoid", "erf", "rsqrt")


@pytest.mark.parametrize("op", MORE)
def test_other_sizes(op: str) -> None:
    check_cases(KERNELS[op], cuda_place(), MORE[op](Draw(3)))


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions_of_numbers_spread_over_all_float32(op: str) -> None:
    x = np.arange(7, 2**32, 251, dtype=np.uint64).astype(np.uint32).view(np.float32)
    same(getattr(CPU, op)(x), KERNELS[op].function(cp.asarray(x)))


def same(expected: object, actual: object) -> None:
    assert Bits().mismatch(expected, cuda_place().here(actual), (), {}) is None


def large(op: str, *args: object) -> None:
    same(getattr(CPU, op)(*args), KERNELS[op].function(*cuda_place().there(args)))


@pytest.mark.parametrize(("rows", "width"), [(16384, 384), (40001, 768), (9000, 2048)])
def test_layers(rows: int, width: int) -> None:
    draw = Draw(width)
    x, dy, w, b = draw(rows, width), draw(rows, width), draw(width), draw(width)
    large("rmsnorm", x, w, 1e-5)
    large("rmsnorm_backward", dy, x, w, draw(rows))
    large("layernorm", x, w, b, 1e-5)
    large("layernorm_backward", dy, x, w, draw(rows), draw(rows))
    large("add_rmsnorm", x, dy, w, 1e-5)
    large("add_rmsnorm_backward", dy, x, x, w, draw(rows))
    large("add_layernorm", x, dy, w, b, 1e-5)
    large("add_layernorm_backward", dy, x, x, w, draw(rows), draw(rows))
    large("swiglu_packed", x)
    large("swiglu_packed_backward", dy[:, : width // 2], x)
    large("gelu_backward", dy, x)
    large("tree_sum", x, 0)
    large("tree_mean", x, None)
    large("hadamard", x, 128, 1)
    large("hadamard", x[: rows // 128 * 128], 128, 0)
    large("global_norm", [x, dy, w])
    large("mul", x, b)
    large("amax", x)


@pytest.mark.parametrize(("tokens", "words"), [(16384, 256), (4096, 50257)])
def test_ends_of_a_language_model(tokens: int, words: int) -> None:
    draw = Draw(words)
    ids = np.minimum(draw.source.geometric(20 / words, tokens), words) - 1
    large("embedding_backward", draw(tokens, 384), ids, words)
    large("embedding", draw(words, 64), ids)
    logits = draw(tokens // 4, words)
    large("softmax_cross_entropy", logits, ids[: tokens // 4])
    large("softmax_cross_entropy_backward", 0.5, CPU.softmax_cross_entropy(logits, ids[: tokens // 4])[1], ids[: tokens // 4])

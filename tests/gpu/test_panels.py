"""Operands in panels on the device: both sides of a tensor from one read, transforms, random words; numbers in bfloat16 by three ways. Bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cupy as cp
import ml_dtypes
import numpy as np
import pytest
from device_cases import hard, same, wide

from lpref.accel import backend, reference
from lpref.accel.cuda.backend import CudaBackend
from lpref.accel.cuda.job import job_of
from lpref.accel.cuda.operand import operand
from lpref.accel.cuda.quantize import in_panels
from lpref.ref.quantize import Quantizer, lookup
from lpref.ref.random import WordAddress
from lpref.ref.recipes import Context, linear_backward, linear_forward
from lpref.ref.recipes.transform import Transform
from lpref.specs import recipe

WORDS = WordAddress(2**40 + 5, 9, "h.0.mlp.up/dgrad/a/round", start=64)
OTHER = WordAddress(2**40 + 5, 9, "h.0.mlp.up/wgrad/a/round", start=128)
NAMES = ["nvfp4", "mxfp4", "mxfp8_e4m3", "mxfp8_e4m3:scale=rceil", "mxfp8_e5m2", "mxfp4:scale=tetrajet", "mxfp4:word_bits=16"]
KINDS = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def quantizer(name: str, rounding: str) -> Quantizer:
    return replace(lookup(f"{name}:rounding={rounding}"), tail="pad_zero")


def turn(size: int, length: int) -> tuple[Any, ...]:
    signs = np.where(np.random.default_rng(size).random(length) < 0.5, -1, 1).astype(np.float32)
    return ((Transform(size=size, signs="random"), signs),)


def check(got: Any, want: Any) -> None:
    same(got.host(), want)
    alone = replace(got, embedded=None)
    expected = alone.folded().get().astype(ml_dtypes.bfloat16)
    numbers = [alone.in_bfloat16(True), alone._values(2, np.uint16), *([] if got.embedded is None else [got.embedded])]
    for each in numbers:
        np.testing.assert_array_equal(each.get().view(ml_dtypes.bfloat16).astype(np.float32), expected.astype(np.float32))


def source(kind: str, rows: int, columns: int, rough: bool) -> np.ndarray:
    x = hard(rows, columns, KINDS[kind]) if rough else wide(rows, columns)
    return np.ascontiguousarray(np.clip(x, -60000, 60000) if kind == "float16" else x).astype(KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
@pytest.mark.parametrize("name", NAMES)
def test_both_sides(name: str, rounding: str, kind: str) -> None:
    q = quantizer(name, rounding)
    cases = ((64, 192, 16, False), (1184, 1056, 8, False), (352, 32, 16, False), (64, 1152, 2, True), (3232, 768, 16, False))
    for rows, columns, size, rough in cases:
        x = source(kind, rows, columns, rough)
        if rough and name == "nvfp4":
            x = np.where(np.isfinite(x.astype(np.float32)), x, np.zeros((), x.dtype)).astype(x.dtype)
        on, values, turned = cp.asarray(x), x.astype(np.float32), turn(size, rows if rows % 3 else size)
        with np.errstate(all="ignore"):
            for transforms in ((), turned):
                jobs = [(job_of(on, q, None, None, WORDS, 1), (), True), (job_of(on, q, None, None, OTHER, 0), transforms, True)]
                one, two = in_panels(jobs)
                check(one, reference.operand(values, q, k_axis=1, words=WORDS))
                check(two, reference.operand(values, q, k_axis=0, words=OTHER, transforms=transforms))
                check(operand(on, q, k_axis=0, words=OTHER, transforms=transforms, numbers=True), two.host())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
def test_squares(rounding: str, kind: str) -> None:
    q = quantizer("nvfp4_2d", rounding)
    for rows, columns in ((16, 16), (768, 2304), (1024, 80)):
        x = source(kind, rows, columns, False)
        check(operand(cp.asarray(x), q, k_axis=1, words=WORDS, numbers=True), reference.operand(x.astype(np.float32), q, k_axis=1, words=WORDS))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["nvfp4", "mxfp8_e4m3", "nvfp4_2d"])
def test_what_is_not_finite(name: str, bad: float) -> None:
    q, x = quantizer(name, "nearest_even"), wide(96, 192)
    x[7, 100] = bad
    for k_axis in (0, 1):
        for transforms in ((), turn(16, 16)) if k_axis == 0 and name != "nvfp4_2d" else ((),):
            with np.errstate(all="ignore"):
                want = reference.operand(x, q, k_axis=k_axis, transforms=transforms)
            check(operand(cp.asarray(x), q, k_axis=k_axis, transforms=transforms, numbers=True), want)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("second", [np.inf, -np.inf, 1.0, 3e38])
def test_infinities_that_meet_in_the_transform(second: float, kind: str) -> None:
    q, x = quantizer("nvfp4", "nearest_even"), wide(96, 192).astype(KINDS[kind])
    x[5, 100], x[13, 100] = np.inf if second != 3e38 else 3e38, second
    with np.errstate(all="ignore"):
        want = reference.operand(x.astype(np.float32), q, k_axis=0, transforms=turn(16, 16))
    check(operand(cp.asarray(x), q, k_axis=0, transforms=turn(16, 16), numbers=True), want)


@pytest.mark.parametrize("micro", [0, 1])
@pytest.mark.parametrize("name", ["nvfp4", "mxfp8"])
def test_a_layer(name: str, micro: int) -> None:
    rng, linear = np.random.default_rng(7), recipe(name).linear
    tensors = [rng.standard_normal(shape).astype(np.float32) for shape in ((512, 384), (256, 384), (512, 256))]
    found = []
    for ops in (CudaBackend("exact"), backend("cpu", "exact")):
        x, w, dy = (ops.arrays.make(t) for t in tensors)
        ctx = Context(site="h.0.mlp.up", seed=5, step=3, micro=micro)
        y, kept = linear_forward(x, w, linear, ctx, ops)
        grads = linear_backward(dy, kept, linear, ctx, ops)
        found.append(([np.asarray(ops.arrays.host(v), np.float32) for v in (y, grads.dx, grads.dw)], {k: dict(v) for k, v in ctx.observed.items()}))
    for mine, theirs in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_array_equal(mine.view(np.uint32), theirs.view(np.uint32))
    assert repr(found[0][1]) == repr(found[1][1])

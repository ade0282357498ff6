"""Fixed-point and integer recipes: operands bit for bit against `emulation_integer`, both CPU backends, and what their pages say they show."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from lpref.accel import backend
from lpref.accel.reference import ReferenceBackend
from lpref.conformance.proves import proves
from lpref.ref.recipes import Context, linear_backward, linear_forward
from lpref.ref.recipes.observe import first_states
from lpref.specs import recipe

_spec = importlib.util.spec_from_file_location("emulation_integer", Path(__file__).with_name("emulation_integer.py"))
integer = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(integer)
emulation = integer.emulation

M, N, K = 32, 96, 64
EXECUTED = [*integer.EMULATIONS, "int8_switchback"]


class Recorder:
    """A backend that remembers every operand it multiplies."""

    def __init__(self) -> None:
        self.ops, self.pairs = ReferenceBackend("exact"), []

    def __getattr__(self, name):
        return getattr(self.ops, name)

    def gemm(self, a, b, accumulate):
        self.pairs.append((a, b))
        return self.ops.gemm(a, b, accumulate)

    def gemms(self, products):
        return [self.gemm(*product) for product in products]


def tensors(seed: int = 0):
    """x, w (on grids of 1/64, whose means are exact) and dy with an outlier column."""
    rng = np.random.default_rng(seed)
    x, dy = (np.rint(rng.standard_normal((M, K)) * 64) / 64).astype(np.float32), (rng.standard_normal((M, N)) * 1e-2).astype(np.float32)
    x[:, 3] *= 20
    return x, (np.rint(rng.standard_normal((N, K)) * 8) / 64).astype(np.float32), dy


def run(name: str, x, w, dy, ops):
    linear = recipe(name).linear
    ctx = Context(seed=emulation.SEED, step=emulation.STEP, site=emulation.SITE, state=first_states(linear, emulation.SITE))
    y, saved = linear_forward(x, w, linear, ctx, ops)
    return y, linear_backward(dy, saved, linear, ctx, ops), ctx


@proves("recipe:{name}", "oracle")
@pytest.mark.parametrize("name", integer.EMULATIONS)
def test_operands_are_the_cards(name: str) -> None:
    x, w, dy = tensors()
    ops = Recorder()
    run(name, x, w, dy, ops)
    wanted = integer.EMULATIONS[name](x, w, dy)
    for gemm, pair in zip(("fprop", "dgrad", "wgrad"), ops.pairs, strict=True):
        for side, operand in zip("ab", pair, strict=True):
            np.testing.assert_array_equal(operand.dequantize(), wanted[f"{gemm}.{side}"], err_msg=f"{name} {gemm}.{side}")


@proves("recipe:{name}", "cpu")
@pytest.mark.parametrize("name", EXECUTED)
def test_both_cpu_backends_have_the_same_bits(name: str) -> None:
    x, w, dy = tensors(1)
    want, got = run(name, x, w, dy, backend("reference", "exact")), run(name, x, w, dy, backend("cpu", "exact"))
    np.testing.assert_array_equal(want[0], got[0])
    np.testing.assert_array_equal(want[1].dx, got[1].dx)
    np.testing.assert_array_equal(want[1].dw, got[1].dw)
    assert set(want[2].observed) == set(got[2].observed)

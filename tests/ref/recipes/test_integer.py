"""Fixed-point and integer recipes: operands bit for bit against `emulation_integer`, both CPU backends, and what their pages say they show."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.accel import backend
from lpref.conformance.proves import proves
from lpref.ref.recipes import Context, linear_backward, linear_forward
from lpref.ref.recipes.observe import first_states
from lpref.specs import recipe

from . import emulation
from . import emulation_integer as integer
from .recorder import Recorder, assert_operands

M, N, K = 32, 96, 64
EXECUTED = [*integer.EMULATIONS, "int8_switchback"]


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
    assert_operands(ops, wanted, name)


@proves("recipe:{name}", "cpu")
@pytest.mark.parametrize("name", EXECUTED)
def test_both_cpu_backends_have_the_same_bits(name: str) -> None:
    x, w, dy = tensors(1)
    want, got = run(name, x, w, dy, backend("reference", "exact")), run(name, x, w, dy, backend("cpu", "exact"))
    np.testing.assert_array_equal(want[0], got[0])
    np.testing.assert_array_equal(want[1].dx, got[1].dx)
    np.testing.assert_array_equal(want[1].dw, got[1].dw)
    assert set(want[2].observed) == set(got[2].observed)

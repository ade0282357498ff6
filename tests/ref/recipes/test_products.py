"""Sums of GEMMs: stacked parts, terms, complex products, low-rank transforms and projections, against their plain ancestors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lpref.accel import backend
from lpref.accel.reference import ReferenceBackend
from lpref.ref.quantize import Quantizer, lookup
from lpref.ref.recipes import (
    GEMMS,
    Context,
    Epilogue,
    GemmSpec,
    LinearRecipe,
    Saved,
    Slot,
    Split,
    Term,
    Transform,
    linear_backward,
    linear_forward,
)
from lpref.ref.scaling import Scale
from lpref.specs import recipe

OPS = ReferenceBackend("exact")
U = 2.0**-24
DIGITS = (Quantizer("int4", scale=Scale("constant", value=16.0)), Quantizer("int4", scale=Scale("constant", value=1.0)))


def integers(m: int = 8, n: int = 6, k: int = 10, seed: int = 0):
    """X, W small integers; dY integers that two digits of radix 16 hold: every sum below is exact."""
    rng = np.random.default_rng(seed)
    x, w = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((m, k), (n, k)))
    return x, w, (16 * rng.integers(-7, 8, (m, n)) + rng.integers(-7, 8, (m, n))).astype(np.float32)


def run(linear: LinearRecipe, x, w, dy, ops=OPS, **ctx):
    context = Context(seed=1, step=2, site="h.0.mlp", **ctx)
    y, saved = linear_forward(x, w, linear, context, ops)
    return y, linear_backward(dy, saved, linear, context, ops)


def split(stacked: bool, **changes) -> LinearRecipe:
    slot = Slot(split=Split("residual", ("hi", "lo"), DIGITS, stacked=stacked))
    terms = () if stacked else (Term(a="hi"), Term(a="lo"))
    combine = (Epilogue("combine"),) if stacked else ()
    return LinearRecipe(dgrad=GemmSpec(a=slot, terms=terms, epilogue=combine), wgrad=GemmSpec(a=slot, terms=terms), **changes)


@pytest.mark.parametrize("stacked", [True, False])
def test_two_digits_add_up_to_the_product(stacked: bool) -> None:
    x, w, dy = integers()
    _, grads = run(split(stacked), x, w, dy)
    np.testing.assert_array_equal(grads.dx, dy @ w)
    np.testing.assert_array_equal(grads.dw, dy.T @ x)


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_factors_of_terms(name: str) -> None:
    x, w, dy = integers()
    slot = Slot(split=Split("residual", ("hi", "lo"), DIGITS))
    linear = LinearRecipe(wgrad=GemmSpec(a=slot, terms=(Term(a="hi", factor=0.5), Term(a="lo", factor=-2.0))))
    _, grads = run(linear, x, w, dy, backend(name, "exact"))
    hi = 16 * np.rint(dy / 16)
    np.testing.assert_array_equal(grads.dw, 0.5 * (hi.T @ x) - 2 * ((dy - hi).T @ x))


def test_averaged_samples_of_an_exact_tensor_are_the_tensor() -> None:
    x, w, dy = integers()
    slot = Slot(quantizer=Quantizer("int16", scale=Scale("constant")), split=Split("samples", ("first", "second")))
    linear = LinearRecipe(wgrad=GemmSpec(a=slot, terms=(Term(a="first", factor=0.5), Term(a="second", factor=0.5))))
    np.testing.assert_array_equal(run(linear, x, w, dy)[1].dw, dy.T @ x)


def complex_recipe() -> LinearRecipe:
    """iFairy's products without its quantizers."""
    linear = recipe("ifairy").linear
    specs = {gemm: linear.gemm(gemm) for gemm in GEMMS}
    bare = {gemm: replace(s, a=Slot(split=s.a.split), b=Slot(split=s.b.split)) for gemm, s in specs.items()}
    return replace(linear, **bare, save={"x": Saved("hp"), "w": Saved("reference")})


def test_a_complex_layer_is_a_real_one_with_a_structured_weight() -> None:
    """y = conj(x) w by pairs is the real layer with the weight [[w_r, w_i], [w_i, -w_r]], and so are its gradients."""
    rng = np.random.default_rng(3)
    x, w, dy = (rng.integers(-4, 5, shape).astype(np.float32) for shape in ((7, 12), (10, 6), (7, 10)))
    y, grads = run(complex_recipe(), x, w, dy)
    real = np.empty((10, 12), np.float32)
    real[0::2, 0::2], real[0::2, 1::2] = w[0::2], w[1::2]
    real[1::2, 0::2], real[1::2, 1::2] = w[1::2], -w[0::2]
    np.testing.assert_array_equal(y, x @ real.T)
    np.testing.assert_array_equal(y[:, 0::2] + 1j * y[:, 1::2], (x[:, 0::2] - 1j * x[:, 1::2]) @ (w[0::2] + 1j * w[1::2]).T)
    np.testing.assert_array_equal(grads.dx, dy @ real)
    dreal = dy.T @ x
    np.testing.assert_array_equal(grads.dw[0::2], dreal[0::2, 0::2] - dreal[1::2, 1::2])
    np.testing.assert_array_equal(grads.dw[1::2], dreal[0::2, 1::2] + dreal[1::2, 0::2])


@pytest.mark.parametrize(("size", "rank"), [(4, 4), (16, 16)])
def test_a_transform_of_full_rank_changes_no_product(size: int, rank: int) -> None:
    """Its columns are Sylvester's in another order: every sum over them has the same exact value, here a multiple of 1 / size."""
    x, w, dy = integers(m=16)
    paired = GemmSpec(transform=Transform(size=size, rank=rank))
    np.testing.assert_array_equal(run(LinearRecipe(wgrad=paired), x, w, dy)[1].dw, dy.T @ x)


def test_a_transform_of_lower_rank_projects_on_the_lowest_sequencies() -> None:
    x, w, dy = integers(m=16)
    linear = LinearRecipe(wgrad=GemmSpec(transform=Transform(size=16, rank=4)))
    h = np.array([[(-1) ** (i & j).bit_count() for j in range(16)] for i in range(16)]) / 4
    changes = (np.diff(np.sign(h), axis=0) != 0).sum(axis=0)
    low = h[:, changes < 4]
    np.testing.assert_array_equal(run(linear, x, w, dy)[1].dw, dy.T @ low @ low.T @ x)


def test_a_constant_token_axis_survives_rank_one() -> None:
    x, w, dy = integers(m=16)
    x[:] = x[0]
    linear = LinearRecipe(wgrad=GemmSpec(transform=Transform(size=16, rank=1)))
    np.testing.assert_array_equal(run(linear, x, w, dy)[1].dw, dy.T @ x)


def test_codes_of_projected_rows_are_what_is_saved() -> None:
    x, w, dy = integers(m=32)
    q = lookup("int8_tensor")
    spec = GemmSpec(transform=Transform(size=16, rank=8), b=Slot(quantizer=q))
    linear = LinearRecipe(wgrad=spec, save={"x": Saved("codes", "wgrad.b"), "w": Saved("reference")})
    _, saved = linear_forward(x, w, linear, Context(site="h"), OPS)
    assert saved.entries["x"].shape == (16, 10)
    later = replace(linear, save={"x": Saved("hp"), "w": Saved("reference")})
    np.testing.assert_array_equal(run(linear, x, w, dy)[1].dw, run(later, x, w, dy)[1].dw)


def test_a_saved_projection_is_unbiased_and_exact_in_one_dimension_a_column() -> None:
    """R is made of +-1 / sqrt(r): the diagonal of R R^T is exactly 1 for r a power of four, and the other entries average to 0."""
    x, w, dy = integers(k=16)
    linear = LinearRecipe(save={"x": Saved("projection", ratio=4), "w": Saved("reference")})
    mean = np.zeros((6, 16))
    for seed in range(64):
        context = Context(seed=seed, site="h")
        _, saved = linear_forward(x, w, linear, context, OPS)
        assert saved.entries["x"][1].values.shape == (8, 4)
        mean += linear_backward(dy, saved, linear, context, OPS).dw / 64
    one = np.zeros((8, 16), np.float32)
    one[:, 3] = x[:, 3]
    _, saved = linear_forward(one, w, linear, Context(site="h"), OPS)
    np.testing.assert_array_equal(linear_backward(dy, saved, linear, Context(site="h"), OPS).dw[:, 3], (dy.T @ one)[:, 3])
    spread = np.linalg.norm(mean - dy.T @ x) / np.linalg.norm(dy.T @ x)
    assert spread < 4 * np.sqrt(15 / 4 / 64)  # standard deviation of 15 terms of variance 1/4 each, over 64 draws; four of it


def test_a_recipe_without_splits_makes_its_backward_products_side_by_side() -> None:
    made = []

    class Spy:
        def __getattr__(self, name):
            return getattr(OPS, name)

        def gemms(self, products):
            made.append(len(products))
            return OPS.gemms(products)

    x, w, dy = integers()
    run(LinearRecipe(), x, w, dy, Spy())
    run(split(True), x, w, dy, Spy())
    assert made == [2]

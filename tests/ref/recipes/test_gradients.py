"""Gradient rules: each against its surrogate by finite differences, against its formula, and in its limits.

A new rule: a row in `CASES` (what it is tested on) and, where its page states more than a derivative, a test of its own.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lpref.accel.reference import ReferenceBackend
from lpref.ref.errors import SpecError
from lpref.ref.quantize import Blocks, GradRule, Quantizer, Scale, quantize
from lpref.ref.quantize.quantizer import GRADIENTS
from lpref.ref.recipes import Context, GemmSpec, Slot
from lpref.ref.recipes.gradient import levels, local_gradient
from lpref.ref.recipes.gradients import LEARNED, RULES
from lpref.ref.recipes.layer import Layer
from lpref.ref.recipes.learned import first_parameters

from .layers import activations, weights

OPS = ReferenceBackend("exact")
CTX = Context(seed=1, step=1, site="h")
STEP = 0.25
CONSTANT = Scale("constant", value=STEP)
INT4 = Quantizer("int4", Blocks(), CONSTANT, narrow=False)
FP4 = Quantizer("e2m1", Blocks(), CONSTANT)
# rule -> quantizer that it is tested on
CASES = {
    "ste": INT4, "clipped_ste": INT4, "zero": INT4, "trust": INT4, "dge": FP4, "tanh": INT4, "dsq": INT4,
    "lsq": replace(INT4, scale=Scale("learned", value=STEP)), "lsq_plus": replace(INT4, scale=Scale("learned", value=STEP)),
    "pact": Quantizer("uint4", Blocks(), Scale("learned", value=STEP)),
    "affine": Quantizer("uint4", Blocks(), Scale("learned", value=STEP)),
}  # fmt: skip


def local(q: Quantizer, v: np.ndarray, params: dict | None = None):
    """The rule of q on v [R, C], with its kept values."""
    layer = Layer(activations(q), CTX, OPS, params or {})
    return local_gradient(layer, "fprop.a", v, layer.made("fprop.a", v).quantized)


def with_rule(name: str, **params) -> Quantizer:
    return replace(CASES[name], gradient=GradRule(name, params))


def learned_of(name: str, step: float = STEP) -> dict:
    """Parameters of a learned quantizer whose scale is `step`."""
    q = CASES[name]
    if q.scale.rule != "learned":
        return {}
    found = {"step": step, "offset": 0.0, "zero": 0.0, "alpha": 15 * step}
    return {f"x_{key}": np.float32(found[key]) for key in RULES[name].learned}


def points(q: Quantizer) -> np.ndarray:
    """v around every level and every midpoint, and beyond both ends; no point is at a jump."""
    grid = np.array(levels(q))
    near = np.concatenate([grid, (grid[1:] + grid[:-1]) / 2])
    offsets = np.array([-0.11, -0.03, 0.02, 0.07])
    u = np.unique((near[:, None] + offsets).reshape(-1))
    return (u * STEP).astype(np.float32)[None]


def test_the_tables_agree() -> None:
    assert set(RULES) == set(GRADIENTS) == {*CASES, "ewgs", "xnor"}
    for rule in RULES.values():
        assert set(rule.learned) == set(rule.first) <= set(LEARNED)


@pytest.mark.parametrize("name", CASES)
def test_the_rule_is_the_derivative_of_its_surrogate(name: str) -> None:
    """Central differences of width h have an error of h^2/6 max|f'''| and 2 u |f| / h from rounding; away from the jumps of the DGE curve, whose
    third derivative is unbounded, h = 2^-20 keeps both below 2^-16."""
    q = with_rule(name, **({"cap": 1e30} if name == "dge" else {}))
    v = points(q)
    g = np.float32(1.5)
    found, _ = local(q, v, learned_of(name)).pull(np.full(v.shape, g), OPS)
    rule, h = RULES[name], 2.0**-20
    grid, settings = levels(q), rule.settings(q)
    scale = 1.0 if name == "tanh" else STEP
    u = v.astype(np.float64) / scale
    if name == "tanh":  # its normalization is one constant of the tensor
        settings = {**settings, "normalize": False}
        top = float(np.abs(np.tanh(v.astype(np.float64))).max())
    slope = (rule.surrogate(u + h, grid, settings) - rule.surrogate(u - h, grid, settings)) / (2 * h)
    want = float(g) * slope / (top if name == "tanh" else 1.0)
    np.testing.assert_allclose(found, want, rtol=2.0**-14, atol=2.0**-14)


def test_xnor_moves_the_mean_and_passes_inside_the_limit() -> None:
    """dw = g (1/n + alpha 1(|w| <= limit)), alpha and n of the element's own row."""
    q = Quantizer("int1", Blocks(1, None), Scale("absmean"), gradient=GradRule("xnor"))
    v = np.float32([[0.5, -1.0, 1.5, -1.0], [4.0, -0.25, 0.25, 0.5]])
    g = np.float32([[1, -2, 3, 4], [1, 1, 1, -1]])
    alpha, inside = np.float32([[1.0], [1.25]]), np.abs(v) <= 1
    np.testing.assert_array_equal(local(q, v).pull(g, OPS)[0], g * (np.float32(0.25) + alpha * inside))
    half = replace(q, gradient=GradRule("xnor", {"limit": 0.5}))
    np.testing.assert_array_equal(local(half, v).pull(g, OPS)[0], g * (np.float32(0.25) + alpha * (np.abs(v) <= 0.5)))


def test_dge_k_1_is_straight_through_and_the_cap_costs_40_percent() -> None:
    v = points(FP4)
    ones = np.ones(v.shape, np.float32)
    np.testing.assert_array_equal(local(with_rule("dge", k=1.0), v).pull(ones, OPS)[0], ones)
    n = 4096
    inside = ((np.arange(n) + 0.5) / n * 0.5 * STEP).astype(np.float32)[None]  # midpoints of the first interval [0, 0.5]
    slope, _ = local(with_rule("dge"), inside).pull(np.ones(inside.shape, np.float32), OPS)
    # with z = |2t/d - 1|: the integral of min(z^(-4/5)/5, 3) over [0, 1] is 3 b + 1 - b^(1/5), b = 15^(-5/4)
    b = 15.0**-1.25
    assert abs(float(slope.astype(np.float64).mean()) - (3 * b + 1 - b**0.2)) <= 3 / n
    assert abs(3 * b + 1 - b**0.2 - 0.594) < 1e-3
    assert slope.max() == 3


def test_dge_reads_the_widths_of_e2m1() -> None:
    """At a quarter of every interval |2t/d - 1| = 1/2, whatever its width: 14 equal slopes."""
    grid = np.array(levels(FP4))
    quarters = (grid[:-1] + (grid[1:] - grid[:-1]) / 4) * STEP
    slope, _ = local(with_rule("dge"), quarters.astype(np.float32)[None]).pull(np.ones((1, 14), np.float32), OPS)
    assert slope.shape == (1, 14)
    assert set(slope.reshape(-1).tolist()) == {float(np.float32(OPS.pow(np.float32(0.5), np.float32(-0.8))) * np.float32(0.2))}


def test_trust_passes_what_rounds_by_half_a_step() -> None:
    v = np.float32([[0.0, 0.12, 7 * STEP, 7.5 * STEP, 7.51 * STEP, -8.5 * STEP, -9 * STEP]])
    g = np.ones(v.shape, np.float32)
    np.testing.assert_array_equal(local(with_rule("trust", threshold=0.5), v).pull(g, OPS)[0], [[1, 1, 1, 1, 0, 1, 0]])
    np.testing.assert_array_equal(local(with_rule("trust", threshold=float("inf")), v).pull(g, OPS)[0], g)
    grid = (np.arange(-90, 81) / 40 * STEP * 4).astype(np.float32)[None]
    masked = local(with_rule("trust", threshold=0.25), grid).pull(np.ones(grid.shape, np.float32), OPS)[0]
    error = np.abs(quantize(grid, INT4).dequantize(np.float32) - grid)
    np.testing.assert_array_equal(masked, error <= 0.25 * STEP)


def test_a_limit_on_the_values_themselves() -> None:
    v = np.float32([[1.99, 2.0, -2.0, -1.5, 30]])
    q = with_rule("clipped_ste", bounds="exclusive", limit=2.0)
    np.testing.assert_array_equal(local(q, v).pull(np.ones(v.shape, np.float32), OPS)[0], [[1, 0, 0, 1, 0]])


def test_ewgs_pulls_along_the_error() -> None:
    """dv = g + delta |g| e, e = (v/s - round)/(Qp - Qn); delta = 0 is clipped straight-through without the ends."""
    v = points(INT4)
    g = np.where(np.arange(v.size) % 2 == 0, 1.5, -0.75).astype(np.float32)[None]
    q = replace(INT4, gradient=GradRule("ewgs", {"delta": 0.5}))
    found, _ = local(q, v).pull(g, OPS)
    u = v.astype(np.float64) / STEP
    inside = (u > -8) & (u < 7)
    want = np.where(inside, g + 0.5 * np.abs(g) * (u - np.rint(u)) / 15, 0)
    np.testing.assert_allclose(found, want, rtol=2.0**-22, atol=0)
    plain, _ = local(replace(INT4, gradient=GradRule("ewgs", {"delta": 0.0})), v).pull(g, OPS)
    np.testing.assert_array_equal(plain, np.where(inside, g, 0))


@pytest.mark.parametrize("alpha", [0.9, 0.2, 0.01])
def test_dsq_hardens_with_alpha(alpha: float) -> None:
    """The area under the slope over one interval is 1; its value on a grid point goes to 0 with alpha."""
    n = 1 << 14
    v = ((np.arange(n) + 0.5) / n * STEP).astype(np.float32)[None]
    slope, _ = local(with_rule("dsq", alpha=alpha), v).pull(np.ones(v.shape, np.float32), OPS)
    assert abs(float(slope.astype(np.float64).mean()) - 1) < 1e-4
    kappa = math.log(2 / alpha - 1)
    assert abs(float(slope[0, 0]) - kappa / 2 / (1 - alpha) * (1 - (1 - alpha) ** 2)) < 2e-3


def test_learned_gradients_are_differences_of_the_frozen_quantizer() -> None:
    """v^ as a function of the parameters, rounding errors frozen, is linear between jumps: its exact derivative by differences."""
    rng = np.random.default_rng(3)
    v = rng.normal(0, 1.5, (8, 6)).astype(np.float32)
    g = rng.normal(size=v.shape).astype(np.float32)
    s, b, low, high = 0.25, 0.125, -8, 7

    def lsq_plus(step: float, offset: float) -> np.ndarray:
        u = (v.astype(np.float64) - b) / s
        error = np.rint(u) - u  # frozen
        moved = (v.astype(np.float64) - offset) / step
        return np.where((u > low) & (u < high), step * (moved + error), step * np.where(u <= low, low, high)) + offset

    params = {"x_step": np.float32(s), "x_offset": np.float32(b)}
    q = with_rule("lsq_plus", scaled=False)
    _, found = local(q, v, params).pull(g, OPS)
    h = 2.0**-20
    for key, step, offset in (("x_step", h, 0), ("x_offset", 0, h)):
        slope = (lsq_plus(s + step, b + offset) - lsq_plus(s - step, b - offset)) / (2 * h)
        assert abs(float(found[key]) - float((g * slope).sum())) <= 1e-5 * float(np.abs(g * slope).sum())


def test_affine_gradients_are_those_of_the_straight_through_graph() -> None:
    """EfficientQAT's graph, differentiated by hand: inside dz = 0, outside -g s; ds = (q - z) - v/s inside, q - z outside."""
    rng = np.random.default_rng(5)
    v = rng.normal(0, 1.2, (4, 8)).astype(np.float32)
    g = rng.normal(size=v.shape).astype(np.float32)
    q = replace(with_rule("affine"), blocks=Blocks(None, 4))
    params = {"x_step": np.float32([[0.2, 0.1]]), "x_zero": np.float32([[6.4, 9.0]])}
    dx, found = local(q, v, params).pull(g, OPS)
    for block, (s, z) in enumerate(((np.float32(0.2), 6), (np.float32(0.1), 9))):
        cut = np.s_[:, 4 * block : 4 * block + 4]
        ratio = v[cut] / s
        code = np.rint(ratio) + z
        inside = (code >= 0) & (code <= 15)
        value = np.clip(code, 0, 15) - z
        np.testing.assert_array_equal(dx[cut], np.where(inside, g[cut], 0))
        ds = np.where(inside, value - ratio, value).astype(np.float64) * g[cut]
        dz = np.where(inside, 0, -g[cut].astype(np.float64) * s)
        assert not inside.all()
        assert abs(found["x_step"][0, block] - ds.sum()) <= 2e-6 * np.abs(ds).sum()
        assert abs(found["x_zero"][0, block] - dz.sum()) <= 2e-6 * np.abs(dz).sum()


def test_affine_values_are_the_formula() -> None:
    rng = np.random.default_rng(6)
    v = rng.normal(0, 1.2, (4, 8)).astype(np.float32)
    q = replace(with_rule("affine"), blocks=Blocks(None, 4))
    params = {"x_step": np.float32([[0.2, 1e-9]]), "x_zero": np.float32([[6.4, 99.0]])}
    made = Layer(activations(q), CTX, OPS, params).made("fprop.a", v).quantized
    s, z = np.float32([0.2, 1e-4]).repeat(4), np.array([6, 15]).repeat(4)
    want = (np.clip(np.rint(v / s) + z, 0, 15) - z).astype(np.float64) * s
    np.testing.assert_array_equal(made.dequantize(np.float64), want)


def test_pact_gradient_goes_to_alpha_above_and_nowhere_below() -> None:
    v = np.float32([[-1, 0, 1, 3.7499, 3.75, 9]])
    g = np.float32([[1, 2, 4, 8, 16, 32]])
    dx, found = local(with_rule("pact"), v, {"x_alpha": np.float32(3.75)}).pull(g, OPS)
    np.testing.assert_array_equal(dx, [[0, 2, 4, 8, 0, 0]])
    assert found["x_alpha"] == 48
    signed = replace(with_rule("pact"), format="int4")
    dx, found = local(signed, v - 4, {"x_alpha": np.float32(3.5)}).pull(g, OPS)
    np.testing.assert_array_equal(dx, [[0, 0, 4, 8, 16, 0]])
    assert found["x_alpha"] == 32 - 1 - 2


@pytest.mark.parametrize("blocks", [Blocks(1, None), Blocks(1, 4), Blocks(2, 3)])
def test_parameters_of_blocks(blocks: Blocks) -> None:
    """A weight's step per row, group or tile: first values and gradients are those of the block as a tensor of its own."""
    rng = np.random.default_rng(7)
    w, g = (rng.normal(size=(4, 8)).astype(np.float32) for _ in range(2))
    q = Quantizer("int4", blocks, Scale("learned", eps=1e-8), narrow=False, tail="partial", gradient=GradRule("lsq"))
    linear = weights(q)
    params = first_parameters(Layer(linear, CTX, OPS, {}), {"x": w, "w": w})
    layer = Layer(linear, CTX, OPS, params)
    dw, found = local_gradient(layer, "fprop.b", w, layer.made("fprop.b", w).quantized).pull(g, OPS)
    rows, columns = blocks.on((4, 8), 1)
    assert found["w_step"].shape == params["w_step"].shape == (-(-4 // rows), -(-8 // columns))
    alone = replace(q, blocks=Blocks())
    for i, j in np.ndindex(*params["w_step"].shape):
        cut = np.s_[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        part = np.ascontiguousarray(w[cut])
        one = Layer(replace(linear, fprop=GemmSpec(b=Slot(quantizer=alone))), CTX, OPS, {"w_step": params["w_step"][i, j]})
        want_dw, want = local_gradient(one, "fprop.b", part, one.made("fprop.b", part).quantized).pull(np.ascontiguousarray(g[cut]), OPS)
        np.testing.assert_array_equal(dw[cut], want_dw)
        if part.size == rows * columns:  # a ragged block has c of a whole one, and other lanes of the sum
            assert abs(found["w_step"][i, j] - want["w_step"]) <= 2.0**-20 * np.abs(g[cut]).sum()


@pytest.mark.parametrize(
    ("q", "text"),
    [
        (replace(INT4, gradient=GradRule("dge", {"kk": 2})), "gradient.params.kk: 'dge' has no such setting; did you mean 'k'?"),
        (replace(INT4, gradient=GradRule("xnor", {"limit": 0.0})), "gradient.params.limit: 0.0 is not a positive number"),
        (replace(INT4, gradient=GradRule("dge", {"k": 0.5})), "gradient.params.k: 0.5 is below 1"),
        (replace(INT4, gradient=GradRule("trust", {"threshold": "x"})), "gradient.params.threshold: 'x' has the wrong type"),
        (replace(FP4, gradient=GradRule("dsq")), "'dsq' is defined for integers; the levels of e2m1 are not 1 apart"),
        (replace(INT4, gradient=GradRule("lsq")), "'lsq' goes with a learned scale; write scale: {rule: learned}"),
        (replace(INT4, scale=Scale("learned"), gradient=GradRule("trust")), "'trust' trains no scale, and the scale is learned; use one of"),
        (replace(INT4, blocks=Blocks(1, None), scale=Scale("learned"), gradient=GradRule("lsq")), "a learned scale spans all tokens"),
        (Quantizer("int16", gradient=GradRule("dge")), "'dge' reads every interval between levels"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(q: Quantizer, text: str) -> None:
    from lpref.ref.recipes import Recipe

    with pytest.raises(SpecError) as caught:
        Recipe("r", linear=activations(q))
    assert any(text in problem and problem.startswith("linear.fprop.a.quantizer.") for problem in caught.value.problems), caught.value

"""nf4, bnb_fp4, dynamic8: the facts of their pages."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from lpref.ref.errors import FormatError
from lpref.ref.formats import CodebookFormat, format


def test_nf4_shape_and_ties_go_down() -> None:
    f = format("nf4")
    values = f.decode(np.arange(16))
    assert (values > 0).sum() == 8
    assert (values < 0).sum() == 7
    assert {0.0, 1.0, -1.0} <= set(values.tolist())
    assert np.array_equal(values, values.astype(np.float32))
    middle = (values[1:] + values[:-1]) / 2
    assert np.array_equal(f.encode(middle), np.arange(15))
    assert np.array_equal(f.encode(np.nextafter(middle, 2)), np.arange(1, 16))
    assert np.float32(middle[0]) == np.float32(-0.8480964)
    assert middle[-1] == pytest.approx(0.8614784, abs=1e-7)


def test_nf4_differs_from_float32_thresholds_on_the_named_inputs_only() -> None:
    """bitsandbytes compares with float32(midpoint): the only inputs that can differ are those thresholds."""
    f = format("nf4")
    values = f.decode(np.arange(16))
    exact = (values[1:] + values[:-1]) / 2
    threshold = exact.astype(np.float32)
    x = np.unique(np.concatenate([np.nextafter(threshold, np.float32(s)) for s in (-2, 2)] + [threshold]))
    theirs = (x[:, None] > threshold[None]).sum(1)
    differ = x[theirs != f.encode(x)]
    assert np.array_equal(differ, threshold[threshold.astype(float) > exact])
    assert differ.size == 6


def test_nf4_beats_int4_on_normal_blocks() -> None:
    x = np.random.default_rng(0).normal(size=(256, 64))
    x /= np.abs(x).max(axis=1, keepdims=True)
    nf4 = x - format("nf4").round(x)
    int4 = x - format("int4").round(x * 7) / 7
    assert (nf4**2).mean() < (int4**2).mean()


def test_bnb_fp4_is_not_e2m1() -> None:
    f = format("bnb_fp4")
    want = np.float32([0, 0.0625, 8, 12, 4, 6, 2, 3]) / np.float32(12)
    assert np.array_equal(f.decode(np.arange(8)), want.astype(float))
    assert np.array_equal(f.decode(np.arange(8, 16)), -want.astype(float))
    assert f.encode([-1e-9, -0.0, 0.0]).tolist() == [8, 8, 0]
    assert f.encode([float(want[5] + want[6]) / 2, 0.0]).tolist()[1] == 0
    up, down = f.encode([(f.decode(2) + f.decode(5)) / 2, -(f.decode(2) + f.decode(5)) / 2])
    assert (up, down) == (5, 13)  # ties toward zero: 6/12 rather than 8/12


@pytest.mark.parametrize(("name", "smallest"), [("dynamic8", 5.5e-7), ("dynamic8_unsigned", 3.25e-7)])
def test_dynamic_map_facts(name: str, smallest: float) -> None:
    f = format(name)
    v = f.decode(np.arange(256))
    assert (np.diff(v) > 0).all()
    assert np.array_equal(v, v.astype(np.float32))
    assert f.max == 1.0
    assert v[v > 0].min() == pytest.approx(smallest, rel=1e-6)
    if name == "dynamic8":
        assert f.min == float(np.float32(-0.99296874))
        assert f.round(-1.0) == f.min
    else:
        assert v[-2] == pytest.approx(0.99648, abs=1e-5)


@pytest.mark.peer
@pytest.mark.parametrize(("name", "signed"), [("dynamic8", True), ("dynamic8_unsigned", False)])
def test_dynamic_map_equals_the_published_construction_in_torch(name: str, signed: bool) -> None:
    torch = pytest.importorskip("torch")
    data = [0.0, 1.0]
    for i in range(7):
        edges = torch.linspace(0.1, 1, (2**i if signed else 2 ** (i + 1)) + 1)
        cells = (edges[:-1] + edges[1:]) / 2.0
        data += (10 ** (-6 + i) * cells).tolist()
        if signed:
            data += (-(10 ** (-6 + i)) * cells).tolist()
    assert np.array_equal(np.float32(sorted(data)).astype(float), format(name).decode(np.arange(256)))


def _book(**fields: object) -> CodebookFormat:
    given = {"name": "t", "bits": 3, "title": "", "standard": "", "source_level": "memory", **fields}
    return CodebookFormat(**given)


def _sign(f: CodebookFormat, x: Fraction, a: Fraction, b: Fraction) -> int:
    """Sign of |x| - midpoint of a and b, by the definition of the page."""
    if f.middle == "geometric" and a * b > 0:
        return (x * x > a * b) - (x * x < a * b)
    m = abs(a + b) / 2
    return (abs(x) > m) - (abs(x) < m)


@pytest.mark.parametrize("tie", ["even_code", "lower_code", "away", "toward_zero", "up", "down"])
@pytest.mark.parametrize("middle", ["arithmetic", "geometric"])
@pytest.mark.parametrize(
    "values", [(0, 1, 2, 8, -2, -1, -8, -18), (1, 2, 4, 16, 0.5, 9, 3, 0.125), (-1, -4, -9, 1, 4, 9, 25, -25)]
)
def test_midpoints_and_ties_by_definition(values: tuple[float, ...], middle: str, tie: str) -> None:
    f = _book(values=values, middle=middle, tie=tie)
    table = sorted((Fraction(v), c) for c, v in enumerate(values))
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [
            rng.uniform(-30, 30, 300),
            [a * 0.5 for a in range(-40, 41)],
            np.sqrt(np.arange(1, 200.0)),
            -np.sqrt(np.arange(1, 200.0)),
        ]
    )
    x = np.concatenate([x, np.nextafter(x, 99), np.nextafter(x, -99)])
    x = x[(x > min(values)) & (x < max(values)) & (x != 0)]
    x = x[np.array([any((a > 0) == (v > 0) or a == 0 for a in values) for v in x])]
    for v, got in zip(x.tolist(), f.encode(x).tolist(), strict=True):
        low = max(p for p in table if p[0] <= v)
        high = min(p for p in table if p[0] >= v)
        if low == high or (low[0] < 0 < high[0]):
            continue
        near, far = (low, high) if v > 0 else (high, low)
        side = _sign(f, Fraction(v), low[0], high[0])
        up = {"even_code": near[1] % 2 == 1, "lower_code": far[1] < near[1], "away": True, "toward_zero": False,
              "up": v > 0, "down": v < 0}[tie]  # fmt: skip
        assert got == (far if side > 0 or (side == 0 and up) else near)[1], (v, values)


def test_geometric_midpoints_are_exact_next_to_irrational_ones() -> None:
    f = _book(values=(0, 1, 2, 3, 5, 7, 11, 13), middle="geometric", tie="away")
    for code, (a, b) in enumerate([(1, 2), (2, 3), (3, 5), (5, 7), (7, 11), (11, 13)], start=1):
        root = math.sqrt(a * b)
        for v in (math.nextafter(root, 0), root, math.nextafter(root, 99)):
            assert f.encode(v) == code + (Fraction(v) ** 2 > a * b)


def test_listed_midpoints_directed_and_stochastic_rounding() -> None:
    f = _book(bits=2, values=(0, 1, 2, 4), middle="listed", middles=(0.25, 1.75, 2.5), tie="even_code")
    assert f.midpoint == "listed"
    assert f.encode([0.25, 0.3, 1.7, 1.75, 1.8, 2.4, 2.5, 2.6]).tolist() == [0, 1, 1, 2, 2, 2, 2, 3]
    assert f.encode([0.25, 1.75, 2.5], "nearest_away").tolist() == [1, 2, 3]
    assert f.encode([0.25, 1.75, 2.5], "nearest_toward_zero").tolist() == [0, 1, 2]
    assert f.encode([0.01, 1.01, 3.99], "toward_positive").tolist() == [1, 2, 3]
    assert f.encode([0.99, 1.99, 3.99], "toward_zero").tolist() == [0, 1, 2]
    words = np.arange(256)
    assert (
        f.round(np.full(256, 2.5), "stochastic", words=words, word_bits=8).mean() == 2.5
    )  # the mean is x, not the midpoint's
    with pytest.raises(FormatError):
        _book(bits=2, values=(0, 1, 2, 4), middle="listed", middles=(0.25, 2.25, 2.5))
    with pytest.raises(FormatError):
        _book(bits=2, values=(0, 1, 2, 4), middles=(0.25, 1.75, 2.5))


def test_special_values_in_a_book_and_a_half_step_beyond_it() -> None:
    f = _book(values=(0, 1, 2, math.inf, math.nan, -1, -2, -math.inf), beyond=3.0, tie="away")
    assert (f.max, f.min, f.nan_code, f.inf_code) == (2.0, -2.0, 4, 3)
    assert f.encode([2.4, -2.4, 2.5, -2.5, 9, -9], overflow="ocp_nonsat").tolist() == [2, 6, 3, 7, 3, 7]
    assert f.encode([2.4, -2.4, 2.5, -2.5, 9, -9]).tolist() == [2, 6, 2, 6, 2, 6]
    assert f.encode([math.inf, -math.inf, math.nan, -math.nan], overflow="ocp_nonsat").tolist() == [3, 7, 4, 4]
    assert f.encode([2.4, 2.6, 9.0], "toward_zero", "ocp_nonsat").tolist() == [2, 2, 2]
    assert f.encode([2.4, -2.4], "toward_positive", "ocp_nonsat").tolist() == [3, 6]
    assert len(f.table()[0]) == 5
    f.encode([2.4, -2.4], overflow="raise")
    with pytest.raises(FormatError):
        f.encode(2.5, overflow="raise")

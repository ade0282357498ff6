"""nf4, bnb_fp4, dynamic8: the facts of their pages."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.formats import format


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

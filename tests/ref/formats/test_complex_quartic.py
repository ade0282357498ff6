"""complex_quartic: quadrants exactly, on every edge; multiplication and rotation as arithmetic of codes."""

from __future__ import annotations

import cmath
import math
from fractions import Fraction

import numpy as np
import pytest

from lpref.conformance.proves import proves
from lpref.ref.errors import FormatError, NonFiniteError, UnknownNameError
from lpref.ref.formats import VECTOR_FORMATS, format, vector_format

F = vector_format("complex_quartic")


def quadrant(x: Fraction, y: Fraction) -> int:
    """The half-open quarter turn that holds the phase: rotate by 45 degrees, then look at the two signs."""
    if x == y == 0:
        return 0
    u, v = x - y, x + y  # sqrt(2) z e^(i pi/4): the phase plus 45 degrees is in [0, 90), [90, 180), ...
    if u > 0 and v >= 0:
        return 0
    if u <= 0 and v > 0:
        return 1
    if u < 0 and v <= 0:
        return 2
    return 3


@proves("complex_quartic", "oracle")
def test_every_direction_by_definition() -> None:
    ticks = [0.0, -0.0, 1.0, math.nextafter(1, 2), math.nextafter(1, 0), 5e-324, 1e308, 0.3]
    line = np.array([s * t for t in ticks for s in (1.0, -1.0)])
    z = np.stack([a.ravel() for a in np.meshgrid(line, line)], axis=-1)
    z = np.concatenate([z, np.random.default_rng(0).normal(size=(500, 2))])
    want = [quadrant(Fraction(x), Fraction(y)) for x, y in z.tolist()]
    assert F.classify(z).tolist() == want
    assert F.encode(z[:, 0] + 1j * z[:, 1]).tolist() == want
    narrow = z[::7][np.abs(z[::7]).max(axis=1) < 1e30].astype(np.float32)
    assert F.classify(narrow).tolist() == [quadrant(Fraction(x), Fraction(y)) for x, y in narrow.tolist()]


def test_edges_belong_to_the_quadrant_that_begins_there() -> None:
    assert F.classify([[1, 1], [-1, 1], [-1, -1], [1, -1]]).tolist() == [1, 2, 3, 0]
    for k in range(4):
        a, b = (k * 90 - 44.9, k * 90 + 44.9)
        assert F.encode([cmath.rect(2, math.radians(a)), cmath.rect(2, math.radians(b))]).tolist() == [k, k]


def test_values_and_rotation() -> None:
    values = F.as_complex(np.arange(4))
    assert values.tolist() == [1, 1j, -1, -1j]
    assert np.array_equal(values, 1j ** np.arange(4)) or np.abs(values - 1j ** np.arange(4)).max() < 1e-15
    assert ((F.decode(np.arange(4)) != 0).sum(axis=1) == 1).all()  # exactly one of the parts is nonzero
    assert F.classify(F.decode(np.arange(4))).tolist() == [0, 1, 2, 3]
    z = np.random.default_rng(1).normal(size=(200, 2))
    codes = F.classify(z)
    turned = np.stack([-z[:, 1], z[:, 0]], axis=-1)
    assert np.array_equal(F.classify(turned), (codes + 1) % 4)
    for k in range(4):
        product = (z[:, 0] + 1j * z[:, 1]) * [1, 1j, -1, -1j][k]
        assert np.array_equal(F.multiply(np.full(200, k), z), np.stack([product.real, product.imag], axis=-1))
    assert np.array_equal(F.round(z), F.decode(codes))
    assert np.array_equal(F.round(z[:, 0] + 1j * z[:, 1]), F.as_complex(codes))


def test_shapes_and_errors() -> None:
    assert F.bits == 2
    assert F.dimension == 2
    assert F.classify(np.zeros((3, 5, 2))).shape == (3, 5)
    assert F.classify(1 + 2j) == 1
    assert F.classify(np.int8([[-128, -128], [-128, 127]])).tolist() == [3, 2]
    assert F.classify([[math.inf, 1.0], [-math.inf, math.inf]]).tolist() == [0, 2]
    with pytest.raises(NonFiniteError):
        F.classify([[math.nan, 1.0]])
    for bad in ([1.0, 2.0, 3.0], 1.0, ["a", "b"]):
        with pytest.raises(FormatError):
            F.classify(bad)
    for codes in ([4], [-1], [0.5]):
        with pytest.raises(FormatError):
            F.decode(codes)
    with pytest.raises(FormatError, match="vector_format"):
        format("complex_quartic")
    with pytest.raises(UnknownNameError):
        vector_format("complex_octic")
    for name, f in VECTOR_FORMATS.items():
        assert f.name == name
        assert "Source:" in f.page()
        assert "Pitfalls:" in f.page()


def test_its_page_is_shown_and_it_is_listed() -> None:
    from lpref.trainer.catalog import rows
    from lpref.trainer.show import show

    page = show("complex_quartic")
    assert page.data["values"][3] == {"code": 3, "bits": "11", "vector": [0.0, -1.0]}
    assert "10  (-1, 0)" in page.text
    assert "complex_quartic" in [row["name"] for row in rows("formats")]

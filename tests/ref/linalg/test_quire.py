"""Quire: exact sums against fractions and against SoftPosit's quires."""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction

import numpy as np
import pytest
from oracle import table

from lpref.ref.errors import FormatError, ShapeError
from lpref.ref.formats import format
from lpref.ref.linalg import Quire, quire_dot


def to_posit(name: str, x: Fraction) -> int:
    """Nearest on the bit string, from an exact fraction."""
    t = table.make(name)
    values = t.values
    if x == 0:
        return 0
    x = max(min(x, values[-1][0]), values[0][0])
    x = (1 if x > 0 else -1) * max(abs(x), t.smallest)
    i = bisect_right(values, x, key=lambda p: p[0]) - 1
    if values[i][0] == x:
        return values[i][1]  # type: ignore[return-value]
    near, far = (values[i][1], values[i + 1][1])[:: 1 if x > 0 else -1]
    assert t.side is not None
    assert near is not None
    assert far is not None
    side = t.side(abs(x), near, far)
    return far if side > 0 or (side == 0 and near % 2 == 1) else near


@pytest.mark.parametrize("name", ["posit8_0", "posit8_1", "posit8_2", "posit4_1"])
def test_dots_are_exact_and_rounded_once(name: str) -> None:
    f, rng = format(name), np.random.default_rng(1)
    codes = rng.integers(0, 2**f.bits, (2, 300, 6))
    codes = np.where(codes == f.nan_code, 1, codes)
    codes[:, :100, 3:] = codes[:, :100, :3]  # cancellation: a b - a b + small
    codes[1, :100, 3:] = (-codes[1, :100, :3]) % 2**f.bits
    codes[1, :100, 5] = rng.integers(1, 9, 100) % f.nan_code
    v = f.decode(codes)
    got = quire_dot(codes[0], codes[1], name)
    for a, b, code in zip(v[0].tolist(), v[1].tolist(), got.tolist(), strict=True):
        assert code == to_posit(name, sum((Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)), Fraction(0)))


def test_a_quire_keeps_what_every_rounded_sum_loses() -> None:
    f = format("posit16_2")
    big, one, small = (int(f.encode(v)) for v in (2.0**50, 1.0, 2.0**-50))
    q = Quire(f).add_product(big, big).add_product(small, small).add_product(int(f.encode(-(2.0**50))), big)
    assert f.decode(np.array(q.round())) == f.min_subnormal  # 2^-100 is not 0
    assert q.add(one).round("toward_zero") == one
    assert q.add(one).round("toward_positive") == one + 1
    assert q.bits == 256


def test_nar_and_the_limit() -> None:
    f = format("posit8_2")
    top, nar = 2**7 - 1, f.nan_code
    assert Quire(f).add(nar).add_product(0, 0).round() == nar
    assert Quire(f).add_product(nar, 0).round() == nar
    most = Quire(f)._plus((2**31 - 1) << 96)
    assert most.total == (2**31 - 1) * Quire(f).add_product(top, top).total  # type: ignore[operator]
    assert most.round() == top
    assert most.add_product(top, top).round() == nar
    assert quire_dot(np.zeros((2, 0), int), np.zeros((2, 0), int), f).tolist() == [0, 0]


def test_wide_posits_do_not_pass_through_float64() -> None:
    f = format("posit32_2")
    x = f.encode(np.array([1 + 2.0**-27, 1 - 2.0**-28, 2.0**-100]))
    got = quire_dot(x, x, f)
    exact = sum(Fraction(v) ** 2 for v in f.decode(x).tolist())
    assert abs(Fraction(float(f.decode(got))) - exact) <= Fraction(1, 2**27)
    huge = format("posit32_5")
    top = np.array([2**31 - 1, 2**31 - 1])
    assert quire_dot(top, top, huge) == 2**31 - 1
    assert quire_dot([1], [1], huge) == 1


def test_errors() -> None:
    for call in (
        lambda: quire_dot([1], [1], "e4m3"),
        lambda: quire_dot([256], [1], "posit8_0"),
        lambda: quire_dot([1], [1], "posit8_0", "stochastic"),
    ):
        with pytest.raises(FormatError):
            call()
    with pytest.raises(ShapeError):
        quire_dot([1, 2], [1], "posit8_0")


@pytest.mark.peer
@pytest.mark.parametrize(("name", "width"), [("posit8_0", 8), ("posit16_1", 16)])
def test_softposit_quires(name: str, width: int) -> None:
    softposit = pytest.importorskip("softposit")
    f, rng = format(name), np.random.default_rng(3)
    posit, quire = getattr(softposit, f"posit{width}"), getattr(softposit, f"quire{width}")
    values = f.round(rng.normal(size=(2, 100, 8)))
    codes = f.encode(values)
    got = f.decode(quire_dot(codes[0], codes[1], f))
    for a, b, v in zip(values[0].tolist(), values[1].tolist(), got.tolist(), strict=True):
        q = quire()
        for x, y in zip(a, b, strict=True):
            q.qma(posit(x), posit(y))
        assert float(q.toPosit()) == v

"""The MX modes: measured tables, laws, exponents next to powers of two, zero / NaN / infinity blocks."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.formats import format as format_named
from lpref.ref.quantize import lookup, quantize
from lpref.ref.scaling import shared_exponent

MODES = ("floor", "even", "ceil", "rceil")
E4M3, E2M1 = (448.0, 3), (6.0, 1)


@pytest.mark.parametrize(
    ("element", "amax", "want"),
    [
        (E4M3, 1.76, (-8, -8, -7, -7)), (E4M3, 1.99, (-8, -7, -7, -7)), (E4M3, 448, (0, 0, 1, 0)), (E4M3, 449, (0, 0, 1, 1)),
        (E2M1, 1.74, (-2, -2, -1, -1)), (E2M1, 1.75, (-2, -1, -1, -1)), (E2M1, 6, (0, 0, 1, 0)), (E2M1, 6.5, (0, 0, 1, 1)),
        (E4M3, 0, (-127,) * 4), (E4M3, 2.0**-130, (-127,) * 4), (E2M1, 2.0**-149, (-127,) * 4),
    ],
)  # fmt: skip
def test_measured_table(element: tuple[float, int], amax: float, want: tuple[int, ...]) -> None:
    assert tuple(int(shared_exponent(np.float32(amax), m, *element)) for m in MODES) == want


@pytest.mark.parametrize("k", [-126, -100, -1, 0, 1, 5, 100, 127])
def test_next_below_a_power_of_two_stays_below(k: int) -> None:
    below = np.nextafter(np.float32(2.0**k), np.float32(0))
    assert int(shared_exponent(below, "floor", 1.0, 3)) == max(k - 1, -127)
    assert int(shared_exponent(np.float32(2.0**k), "floor", 1.0, 3)) == k
    assert int(shared_exponent(below, "ceil", 1.0, 3)) == k


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m3", "e3m2", "e2m1"])
def test_modes_are_ordered_and_rceil_never_saturates(name: str) -> None:
    fmt = format_named(name)
    mantissas = 1 + np.arange(2**12) * 2.0**-12
    amax = np.concatenate([mantissas, np.nextafter(mantissas.astype(np.float32), np.float32(0))]).astype(np.float32)
    floor, even, ceil, rceil = (shared_exponent(amax, m, fmt.max, fmt.precision - 1) for m in MODES)
    assert (floor <= even).all()
    assert (even <= ceil).all()
    assert (floor <= rceil).all()
    assert (rceil <= ceil).all()
    assert (amax <= fmt.max * np.ldexp(1.0, rceil)).all()
    top = fmt.max / 2.0**fmt.emax  # largest mantissa: floor clips exactly above it
    assert ((amax > fmt.max * np.ldexp(1.0, floor)) == (np.ldexp(amax.astype(float), 1 - np.frexp(amax)[1]) > top)).all()
    threshold = 2 - 2.0 ** -fmt.precision
    assert ((amax > fmt.max * np.ldexp(1.0, even)).any()) == (top < threshold)  # EVEN still clips between the two
    loss = 1 - fmt.max * np.ldexp(1.0, floor) / amax
    assert abs(loss.max() - (1 - top / 2)) < 2.0**-12  # E4M3, E5M2 and E3M2 12.5 %, E2M1 25 %, E2M3 6.25 %
    assert ((even > floor) == (np.ldexp(amax.astype(float), 1 - np.frexp(amax)[1]) >= threshold)).all()


def test_the_recorded_ocp_case() -> None:
    x = np.zeros((1, 32), np.float32)
    x[0, 3] = 957
    assert quantize(x, "mxfp8_e4m3").dequantize().max() == 896  # not a bug: the floor rule clamps 957 / 2 to 448


def test_a_block_next_below_two_keeps_the_lower_scale() -> None:
    x = np.full((1, 32), 0.3, np.float32)
    x[0, 0] = np.nextafter(np.float32(2), np.float32(0))
    t = quantize(x, "mxfp4")
    assert t.scales[0].tolist() == [[127 - 2]]
    assert t.dequantize()[0, 1] == 0.25  # 0.3 * 4 = 1.2, rounds to 1


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8"])
@pytest.mark.parametrize("mode", MODES)
def test_zero_nan_and_infinity_blocks(name: str, mode: str) -> None:
    x = np.ones((3, 64), np.float32)
    x[0, :32], x[1, 5], x[2, 40] = 0, np.nan, -np.inf
    t = quantize(x, lookup(f"{name}:scale={mode}"))
    assert t.scales[0][0, 0] == 0
    assert t.scales[0][1, 0] == 255
    assert t.scales[0][2, 1] == 255
    values = t.dequantize()
    assert (values[0, :32] == 0).all()
    assert np.isnan(values[1, :32]).all()
    assert np.isnan(values[2, 32:]).all()
    assert (t.unpacked()[1, :32] == 0).all()
    assert np.isfinite(values[1, 32:]).all()
    assert np.isfinite(values[2, :32]).all()


@pytest.mark.parametrize("k", [-20, -1, 3, 30])
def test_powers_of_two_leave_the_codes_alone(k: int) -> None:
    x = np.random.default_rng(1).standard_normal((4, 64)).astype(np.float32)
    a, b = quantize(x, "mxfp4"), quantize(x * np.float32(2.0**k), "mxfp4")
    assert (a.codes == b.codes).all()
    assert (b.scales[0].astype(int) - a.scales[0] == k).all()


def test_three_quarters_never_saturates_and_says_so_in_the_tensor_scale() -> None:
    x = np.random.default_rng(2).standard_normal((64, 64)).astype(np.float32)
    q = lookup("mxfp4:multiplier=0.75:rounding=stochastic")
    words = np.full(x.shape, 255, np.uint8)  # always up
    t = quantize(x, q, words=words)
    assert t.observed["overflowed"] == 0
    assert t.tensor_scale == np.float32(1) / np.float32(0.75)
    u = x / np.repeat(t.scale_values(), 32, axis=1) * np.float32(0.75)
    assert np.abs(u).max() < 6
    assert (np.abs(t.element_values()) >= np.abs(u) - 2.0**-8 * 2).all()


def test_three_quarters_with_stochastic_rounding_is_unbiased_where_the_floor_rule_is_not() -> None:
    x = np.zeros((1, 32), np.float32)
    x[0, :4] = 7.5, 1, 2.25, 3.125
    r = np.arange(256, dtype=np.uint8)[:, None]
    bias = {}
    for name, setting in (("floor", ""), ("three_quarters", ":multiplier=0.75"), ("rceil", ":scale=rceil")):
        q = lookup(f"mxfp4:rounding=stochastic{setting}")
        all_words = quantize(np.repeat(x, 256, axis=0), q, words=np.broadcast_to(r, (256, 32)))
        bias[name] = np.abs(all_words.dequantize().mean(axis=0) - x[0]).max()
    assert bias["floor"] == 1.5  # 7.5 is clamped to 6 whatever the word
    assert bias["rceil"] == 0  # every element is a multiple of its step / 256
    assert bias["three_quarters"] < 2 * 2 / 256


@pytest.mark.parametrize(("name", "multiplier"), [("mxfp4", 1.0), ("mxfp4_three_quarters", 0.75), ("mxfp4:scale=rceil", 1.0)])
def test_the_mean_over_all_words_is_the_clamped_number(name: str, multiplier: float) -> None:
    """200 normal blocks over all 256 words of 8 bits: the mean of x^ is x, clamped to the largest element 6 s/m, but for what words do not resolve.

    With nu = (|u| - l)/(w - l), the mean over the words is l + (w - l) k/256 with k = 256 nu rounded to a neighbouring integer, so it is off by
    at most step/256; steps of E2M1 are at most 2. u = fl32(fl32(x/s) m) is off by 6 2^-24 at most. Only the floor rule clamps normal blocks.
    """
    x = np.random.default_rng(11).standard_normal((200, 32)).astype(np.float32)
    q, total = lookup(f"{name}:rounding=stochastic:word_bits=8"), np.zeros(x.shape)
    for word in range(256):
        t = quantize(x, q, words=np.full(x.shape, word))
        total = total + t.dequantize()
    unit = t.scale_values().astype(float) / multiplier
    clamped = np.clip(x, -6 * unit, 6 * unit)
    assert (np.abs(total / 256 - clamped) <= (2 / 256 + 6 * 2.0**-24) * unit).all()
    assert (clamped != x).any() == (name == "mxfp4")

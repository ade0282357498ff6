"""What the fixed-point and integer pages say they show, as laws of their quantizers and products."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lpref.accel.reference import ReferenceBackend
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer, Scale, lookup, quantize
from lpref.ref.recipes import Context, linear_backward, linear_forward
from lpref.specs import recipe

F = np.float32
rng = np.random.default_rng(21)


def over_all_words(x: float, q: Quantizer, others: list[float]) -> float:
    """The exact mean of x^ over every 16-bit word; `others` share its block."""
    tensor = np.tile(F([x, *others]), (1 << 16, 1))
    words = np.zeros(tensor.shape, np.uint32)
    words[:, 0] = np.arange(1 << 16)
    values = quantize(tensor, q, words=words).dequantize()[:, 0]
    return float(sum(map(Fraction, values.tolist())) / len(values))


@pytest.mark.parametrize(("name", "path"), [("gupta", "fprop.a"), ("swalp", "dgrad.a"), ("dorefa", "dgrad.a")])
@pytest.mark.parametrize("x", [0.0, 0.3125, -0.3125, 0.0078125, -0.9921875])
def test_gradient_and_activation_quantizers_are_unbiased(name: str, path: str, x: float) -> None:
    """Inside the range, for fractions of at most 16 bits: the mean over all words is x; DoReFa's up to the rounding of u."""
    q = recipe(name).linear.slot(path).quantizer
    mean = over_all_words(x, q, [1.0, -1.0])
    assert mean == pytest.approx(x, abs=0 if name != "dorefa" else 2.0**-21)


def test_dorefas_gradients_have_no_zero_and_63_steps() -> None:
    q = recipe("dorefa").linear.dgrad.a.quantizer
    x = np.linspace(-1, 1, 4097, dtype=F).reshape(1, -1)
    values = np.unique(np.concatenate([quantize(x, q, words=np.full(x.shape, w, np.uint32)).dequantize() for w in (0, 65535)]))
    np.testing.assert_allclose(values, (2 * np.arange(64) - 63) / 63, rtol=0, atol=2.0**-23)
    assert np.abs(values).min() == pytest.approx(1 / 63, rel=1e-6)


def test_the_largest_element_of_dfp16_is_kept_to_two_to_the_minus_15() -> None:
    for k in range(64):
        x = F([[2.0 ** (k - 32) * v for v in (1.0, 1.2345678, 1.9999999, 0.25)]])
        t = quantize(x, "dfp16")
        worst = np.abs(t.dequantize()[0, 2] - x[0, 2]) / x[0, 2]
        assert worst <= 2.0**-15


def test_jetfire_transposes_exactly_and_requantizes_to_the_same_codes() -> None:
    q = recipe("jetfire").linear.fprop.a.quantizer
    x = rng.standard_normal((64, 96)).astype(F)
    t = quantize(x, q)
    np.testing.assert_array_equal(quantize(np.ascontiguousarray(x.T), q).unpacked(), t.unpacked().T)
    again = quantize(t.dequantize(F), q)
    np.testing.assert_array_equal(again.unpacked(), t.unpacked())
    assert np.all(t.scale_values() == t.scale_values().astype(np.float16))


def test_the_flag_keeps_what_8_bits_lose() -> None:
    """Below u the error is at most u 2^-8, where plain 8 bits have u / 2."""
    q = recipe("wageubn").linear.dgrad.a.quantizer
    plain = recipe("wage").linear.dgrad.a.quantizer
    x = np.append(rng.uniform(-1, 1, 4000) * 2.0**-7, 1.0).astype(F).reshape(1, -1)
    u = 2.0**-7
    flagged, coarse = (np.abs(quantize(x, p).dequantize() - x)[np.abs(x) < u].max() for p in (q, plain))
    assert flagged <= u * 2.0**-8
    assert u / 4 < coarse <= u / 2


def test_flag8_is_its_definition() -> None:
    fmt = format_named("flag8")
    values = sorted({*(s * i for i in range(1, 128) for s in (1, -1)), *(s * i / 128 for i in range(128) for s in (1, -1))})
    decoded = fmt.decode(np.arange(512))
    assert sorted(set(decoded[~np.isnan(decoded)].tolist())) == values
    assert np.isnan(decoded[[0, 128, 384]]).all()
    x = rng.uniform(-140, 140, 3000) * 2.0 ** rng.integers(-9, 1, 3000)
    wanted = np.where(np.abs(x) < 1, np.rint(x * 128) / 128, np.clip(np.rint(x), -127, 127))
    np.testing.assert_array_equal(fmt.round(x), wanted)


def gradients(name, x, w, dy):
    linear, ops = recipe(name).linear, ReferenceBackend("exact")
    _, saved = linear_forward(x, w, linear, Context(seed=1, step=2, site="s"), ops)
    return linear_backward(dy, saved, linear, Context(seed=1, step=2, site="s"), ops)


def test_quantizing_the_gradient_for_wgrad_too_hurts() -> None:
    """Banner's bifurcation, and SwitchBack's: the error of dW, given X as it was saved, with 8-bit dY is a multiple of that with 16 bits."""
    x, w, dy = (rng.standard_normal(s).astype(F) for s in ((256, 32), (24, 32), (256, 24)))

    def error(name, seen: np.ndarray) -> float:
        return float(np.linalg.norm(gradients(name, x, w, dy).dw - dy.T.astype(np.float64) @ seen))

    inside = quantize(x, recipe("banner").linear.fprop.a.quantizer).dequantize()
    both = {"base": "banner", "set": {"linear.wgrad.a": {"source": "requant", "of": "dgrad.a"}}}
    assert error("banner", inside) < 0.5 * error(both, inside)
    eight = {"base": "int8_switchback", "set": {"linear.wgrad.a.quantizer": "int8_tensor", "linear.wgrad.b.quantizer": "int8_tensor"}}
    assert error("int8_switchback", x) < 0.6 * error(eight, x)


def test_the_error_of_an_8_bit_wgrad_grows_with_the_tokens() -> None:
    """Absolute error of dW: a sum of M independent roundings, so about sqrt(M)."""
    found = []
    for m in (64, 1024):
        x, dy = (rng.standard_normal(s).astype(F) for s in ((m, 16), (m, 12)))
        a, b = (quantize(t, "int8_tensor").dequantize() for t in (dy, x))
        found.append(np.linalg.norm(a.T @ b - dy.T.astype(np.float64) @ x))
    assert 2.5 < found[1] / found[0] < 8


def test_channels_have_smaller_errors_than_the_tensor() -> None:
    """Distribution-adaptive INT8: channels of different size, one scale each; the weighted search favours large gradients."""
    g = (rng.standard_normal((128, 32)) * 2.0 ** -rng.integers(0, 8, 32)).astype(F)
    q = recipe("distribution_adaptive").linear.dgrad.a.quantizer
    nearest = Quantizer(q.format, q.blocks, Scale("clip", criterion="weighted"))
    error = lambda t: np.square(t.dequantize() - g).sum()  # noqa: E731
    assert error(quantize(g, nearest)) < error(quantize(g, "int8_tensor")) / 4
    heavy = (rng.standard_normal((1, 4096)) ** 5).astype(F)
    weighted, plain = (quantize(heavy, Quantizer("int4", scale=Scale("clip", criterion=c))).scale_values()[0, 0] for c in ("weighted", "mse"))
    assert weighted >= plain


def test_nitis_weights_are_the_integers_that_they_are_stored_as() -> None:
    """The scale of the forward quantizer is that of the grid, or finer by whole octaves: weights are multiplied as they are stored."""
    linear, stored = recipe("niti").linear, recipe("niti").weights.stored
    w = quantize(rng.standard_normal((16, 24)).astype(F), stored)
    for shrink in (1, 0.3):
        kept = quantize((w.dequantize(F) * F(shrink)), stored, amax=F(4)).dequantize(F)
        np.testing.assert_array_equal(quantize(kept, linear.fprop.b.quantizer).dequantize(), kept)


def test_int8_switchback_differs_from_the_published_order_near_ties_only() -> None:
    x = rng.standard_normal((256, 64)).astype(F)
    ours, theirs = quantize(x, "int8_row").unpacked(), quantize(x, lookup("int8_switchback")).unpacked()
    assert np.count_nonzero(ours != theirs) <= x.size // 1000

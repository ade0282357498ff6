"""The block quantizers of the CPU backend against their definitions: codes, scales, tensor scale, observations, embedded values; bits.

A new quantizer in the registry is covered at once; a new scale rule or block shape needs nothing here either.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from device_cases import wide
from hypothesis import given, settings
from hypothesis import strategies as st

from lpref.accel.cpu.embedded import Embedded, embedded
from lpref.accel.cpu.quantize import embed, quantize
from lpref.accel.cpu.quantize_plan import DEFINED, plan_of
from lpref.conformance.proves import proves
from lpref.ref import quantize as ref
from lpref.ref.errors import FormatError, NonFiniteError, ShapeError, WordsError
from lpref.ref.formats import vector_format
from lpref.ref.linalg import hadamard
from lpref.ref.quantize import COMPLEX_QUANTIZERS, QUANTIZERS, Blocks, QTensor, Quantizer, lookup
from lpref.ref.random import WordAddress

RNG = np.random.default_rng(3)
WORDS = WordAddress(2**40 + 5, 9, "h.0.mlp.up/dgrad/a/round")
KERNELS = [n for n, q in QUANTIZERS.items() if q.scale.rule not in DEFINED | {"none"}]
DEFINITIONS = [n for n, q in QUANTIZERS.items() if q.scale.rule in DEFINED]
SETTINGS = {
    "mx": ["", ":scale=ceil", ":scale=rceil", ":scale=even", ":scale=midmax", ":scale=tetrajet"],
    "amax": ["", ":pow2=up", ":pow2=down", ":apply=mul_inverse", ":eps=0.5"],
    "te": ["", ":pow2=down", ":margin=1", ":eps=0.5"],
}


def variants() -> list[str]:
    names = [n + s for n in KERNELS for s in SETTINGS.get(QUANTIZERS[n].scale.rule, [""])]
    rounded = [n for n in KERNELS if n not in ("dfp16", "flexpoint16")]  # these two have kernels to nearest only
    names += [n + s for n in rounded for s in (":rounding=stochastic", ":rounding=toward_zero", ":rounding=stochastic_b")]
    names += [f"mxfp8_e4m3:{s}" for s in ("overflow=to_nan", "format=e4m3fnuz", "format=ue4m3", "rounding=to_odd:overflow=torch")]
    return [*names, "mxfp4:multiplier=0.75", "mxfp4:multiplier=0.75:rounding=stochastic", "mxfp8_e4m3:rounding=stochastic:word_bits=8"]


def check(got: QTensor, want: QTensor) -> None:
    assert got.codes.dtype == want.codes.dtype
    assert np.array_equal(got.codes, want.codes)
    assert [s.tolist() for s in got.scales] == [s.tolist() for s in want.scales]
    assert np.array_equal(got.tensor_scale, want.tensor_scale, equal_nan=True)
    assert (got.logical_shape, got.k_axis, got.quantizer) == (want.logical_shape, want.k_axis, want.quantizer)
    assert repr(dict(got.observed)) == repr(dict(want.observed))
    assert (got.zero is None) == (want.zero is None)
    assert got.zero is None or np.array_equal(got.zero, want.zero)
    assert repr(got.aux) == repr(want.aux)
    if want.residual is not None:
        check(got.residual, want.residual)


def check_values(got: Embedded, want: QTensor) -> None:
    other = embedded(want)
    assert np.array_equal(got.values.view(np.int32), other.values.view(np.int32))
    assert np.array_equal(got.tensor_scale, other.tensor_scale, equal_nan=True)


@proves("quantizer:{name}", "cpu")
@pytest.mark.parametrize("k_axis", [0, 1])
@pytest.mark.parametrize("name", variants())
def test_bits(name: str, k_axis: int) -> None:
    q = replace(lookup(name), tail="pad_zero")
    assert plan_of(q) is not None
    x = wide(131, 300)
    want = ref.quantize(x, q, k_axis=k_axis, words=WORDS)
    check(quantize(x, q, k_axis=k_axis, words=WORDS), want)
    check_values(embed(x, q, k_axis=k_axis, words=WORDS), want)


SHAPES = st.tuples(st.integers(1, 80), st.integers(1, 150))


@settings(max_examples=80)
@given(
    SHAPES, st.sampled_from(["e4m3", "e2m1", "e5m2", "e3m2", "int8", "int4", "int3", "e3m4", "nf4"]), st.sampled_from([None, 1, 2, 3, 16, 32, 48]),
    st.sampled_from([None, 1, 2, 5, 16, 32, 64]), st.sampled_from([0, 1]), st.booleans(), st.integers(0, 3),
)  # fmt: skip
def test_any_blocks(shape: tuple[int, int], name: str, other: int | None, k: int | None, k_axis: int, sr: bool, seed: int) -> None:
    q = Quantizer(name, Blocks(other, k), rounding="stochastic" if sr else "nearest_even", tail="partial", narrow=seed % 2 == 0)
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    words = np.random.default_rng(seed).integers(0, 2**16, shape, dtype=np.uint32)
    want = ref.quantize(x, q, k_axis=k_axis, words=words)
    check(quantize(x, q, k_axis=k_axis, words=words), want)
    check_values(embed(x, q, k_axis=k_axis, words=words), want)


@pytest.mark.parametrize("name", ["nvfp4", "mxfp8_e4m3", "mxfp4:rounding=stochastic", "nf4", "int8_tensor", "dynamic8"])
@pytest.mark.parametrize("shape", [(9000,), (1, 40960), (3, 8192 + 256), (2, 3, 512), (200, 5120), (1024, 64), (130, 32), (12, 416), (7, 36)])
def test_long_rows_short_ones_and_leading_axes(name: str, shape: tuple[int, ...]) -> None:
    x = wide(1, int(np.prod(shape))).reshape(shape)
    q = replace(lookup(name), tail="pad_zero")
    want = ref.quantize(x, q, words=WORDS)
    check(quantize(x, q, words=WORDS), want)
    check_values(embed(x, q, words=WORDS, k_axis=-1), want)


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4_2d", "nvfp4_4over6_mse", "mxfp4:rounding=stochastic", "int8_block32", "nf4:rounding=stochastic"])
@pytest.mark.parametrize("shape", [(64, 64), (1024, 32), (96, 128), (48, 24)])
def test_short_rows_that_share_blocks(name: str, shape: tuple[int, int]) -> None:
    x, q = wide(*shape), replace(lookup(name), tail="pad_zero")
    for words in (WORDS, RNG.integers(0, 2**16, shape, dtype=np.uint32)):
        want = ref.quantize(x, q, k_axis=0, words=words)
        check(quantize(x, q, k_axis=0, words=words), want)
        check_values(embed(x, q, k_axis=0, words=words), want)


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4_4over6_mae", "mxfp4:rounding=stochastic", "int8_row", "fp8_tensor", "nf4"])
@pytest.mark.parametrize("k_axis", [0, 1])
def test_strided_inputs(name: str, k_axis: int) -> None:
    x = wide(512, 640)
    for view in (x[:256, :320], x[::2, 64:], x.T, x[::-1, ::-1], x.astype(np.float64)[:, ::2], x.astype(">f4")):
        want = ref.quantize(np.ascontiguousarray(view), name, k_axis=k_axis, words=WORDS)
        check(quantize(view, name, k_axis=k_axis, words=WORDS), want)
        check_values(embed(view, name, k_axis=k_axis, words=WORDS), want)


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4:rounding=stochastic", "mxfp4", "int8_row", "fp8_tensor"])
@pytest.mark.parametrize(("k_axis", "kind"), [(0, "k"), (1, "k"), (0, "other"), (1, "other")])
@pytest.mark.parametrize("size", [2, 16, 64])
def test_fused_hadamard(name: str, k_axis: int, kind: str, size: int) -> None:
    x = wide(192, 320)
    axis = k_axis if kind == "k" else 1 - k_axis
    for signs in (None, np.where(RNG.random(size) < 0.5, -1, 1).astype(np.float32), np.where(RNG.random(x.shape[axis]) < 0.5, -1, 1)):
        want = ref.quantize(hadamard(x, size, axis=axis, signs=signs), name, k_axis=k_axis, words=WORDS)
        got = embed(x, name, k_axis=k_axis, words=WORDS, transforms=((size, kind, signs),))
        check_values(got, want)
        assert repr(dict(got.observed)) == repr(dict(want.observed))
    twice = hadamard(hadamard(x, 4, axis=axis), size, axis=axis)
    got = embed(x, name, k_axis=k_axis, words=WORDS, transforms=((4, kind, None), (size, kind, None)))
    check_values(got, ref.quantize(twice, name, k_axis=k_axis, words=WORDS))


@pytest.mark.parametrize("name", ["nvfp4", "mxfp4", "int8_row", "fp8_tensor", "nf4", "ternary_absmean"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(name: str, bad: float) -> None:
    x = wide(64, 256)
    x[7, 100] = bad
    want = ref.quantize(x, name)
    check(quantize(x, name), want)
    got, other = embed(x, name), embedded(want)
    assert np.array_equal(got.values, other.values, equal_nan=True)
    assert np.array_equal(got.tensor_scale, other.tensor_scale, equal_nan=True)


@pytest.mark.parametrize("name", KERNELS)
def test_zero_tensors_and_empty_ones(name: str) -> None:
    q = replace(lookup(name), tail="pad_zero")
    for shape in ((40, 256), (0, 256), (1, 1)):
        x = np.zeros(shape, np.float32)
        check(quantize(x, q), ref.quantize(x, q))
        check_values(embed(x, q), ref.quantize(x, q))


@pytest.mark.parametrize("value", [2.0**-149, 2.0**-127, 1e-38, 1e-36, 3e38])
@pytest.mark.parametrize("name", KERNELS)
def test_extreme_scales(name: str, value: float) -> None:
    q = replace(lookup(name), tail="pad_zero")
    x = (np.arange(-16, 48, dtype=np.float32) / 48 * np.float32(value)).reshape(1, 64)
    check(quantize(x, q), ref.quantize(x, q))
    check_values(embed(x, q), ref.quantize(x, q))


@pytest.mark.parametrize("mode", ["floor", "ceil", "even", "rceil", "midmax", "tetrajet"])
@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8"])
def test_scales_at_their_thresholds(name: str, mode: str) -> None:
    """Block maxima at and next to every eighth of a binade, in all binades."""
    edges = ((np.arange(0, 255 * 8, dtype=np.uint32) << np.uint32(20))[:, None] + np.arange(-2, 3).astype(np.uint32)).reshape(-1)
    amax = edges[edges < 0x7F800000].view(np.float32)
    x = np.repeat(amax, 32).reshape(-1, 64 * 32 if amax.size % 64 == 0 else 32)
    q = lookup(f"{name}:scale={mode}")
    check(quantize(x, q), ref.quantize(x, q))


def test_foreign_amax_and_state() -> None:
    x = wide(32, 64)
    for name, amax in (("nvfp4", 1e4), ("mxfp4", 3.0), ("int8_tensor", 0.5), ("fp8_row", np.full((32, 1), 2.0))):
        check(quantize(x, name, amax=amax), ref.quantize(x, name, amax=amax))
    delayed = lookup("fp8_tensor:history=delayed:window=4")
    state = {"scale": np.float32(3.7), "history": np.zeros(4, np.float32)}
    check(quantize(x, delayed, state=state), ref.quantize(x, delayed, state=state))
    check(quantize(x, "int4_learned", state={"scale": 0.3}), ref.quantize(x, "int4_learned", state={"scale": 0.3}))


def test_results_do_not_depend_on_the_number_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from lpref.accel.cpu import threads

    x = wide(600, 160)
    want = quantize(x, "nvfp4_2d:tail=pad_zero"), quantize(x, "nvfp4:rounding=stochastic", words=WORDS)
    monkeypatch.setattr(threads, "GRAIN", 64)
    check(quantize(x, "nvfp4_2d:tail=pad_zero"), want[0])
    check(quantize(x, "nvfp4:rounding=stochastic", words=WORDS), want[1])


def test_definitions_without_a_kernel_are_taken_as_they_are() -> None:
    x = wide(16, 64)
    for name in ("mxfp8_e4m3:overflow=raise:scale=ceil", "bf16", "mxfp4:rounding=stochastic:word_bits=32"):
        assert plan_of(lookup(name)) is None
        check(quantize(x, name, words=WORDS), ref.quantize(x, name, words=WORDS))
        check_values(embed(x, name, words=WORDS), ref.quantize(x, name, words=WORDS))


@proves("quantizer:{name}", "cpu")
@pytest.mark.parametrize("name", [n for n, q in QUANTIZERS.items() if q.scale.rule == "none"])
def test_plain_casts(name: str) -> None:
    x = wide(24, 160)
    x = np.where(np.abs(x) < 60000, x, np.float32(1)).astype(np.float32)
    check(quantize(x, name), ref.quantize(x, name))
    check_values(embed(x, name), ref.quantize(x, name))


@proves("scale-rule:{rule}", "cpu")
@pytest.mark.parametrize("rule", sorted({q.scale.rule for q in QUANTIZERS.values()} | {"constant"}))
def test_every_scale_rule(rule: str) -> None:
    names = [n for n, q in QUANTIZERS.items() if q.scale.rule == rule]
    x = RNG.standard_normal((48, 256)).astype(np.float32) * np.float32(1.7)
    for name in names or [f"int4_learned:rule={rule}:value=0.37"]:
        q = replace(lookup(name), tail="pad_zero")
        check(quantize(x, q), ref.quantize(x, q))


@proves("quantizer:{name}", "cpu")
@pytest.mark.parametrize("name", DEFINITIONS)
def test_rules_without_a_kernel_are_listed_and_take_the_definition(name: str) -> None:
    q = replace(lookup(name), tail="pad_zero")
    assert plan_of(q) is None
    x = wide(24, 160)
    check(quantize(x, q), ref.quantize(x, q))
    check_values(embed(x, q), ref.quantize(x, q))


@proves("quantizer:{name}", "cpu")
@proves("scale-rule:quartic", "cpu")
@proves("complex_quartic", "cpu")
@pytest.mark.parametrize("name", COMPLEX_QUANTIZERS)
def test_complex_tensors_take_the_definition(name: str) -> None:
    assert plan_of(lookup(name)) is None
    w = (wide(24, 160) + 1j * wide(24, 160, seed=4)).astype(np.complex64)
    w[:4] = RNG.integers(-2, 3, (4, 160)) + 1j * RNG.integers(-2, 3, (4, 160))  # edges of the quadrants, zeros
    for k_axis in (0, 1):
        got, want = quantize(w, name, k_axis=k_axis), ref.quantize(w, name, k_axis=k_axis)
        check(got, want)
        assert got.dequantize().tobytes() == want.dequantize().tobytes()
        assert np.array_equal(got.unpacked(), vector_format("complex_quartic").classify(w))
    with pytest.raises(FormatError, match="not complex"):
        quantize(w.real, name)


def test_a_code_book_with_two_zeros_keeps_their_signs() -> None:
    q = Quantizer("bnb_fp4", Blocks(1, 64))
    x = wide(8, 128)
    check(quantize(x, q), ref.quantize(x, q))


def test_inputs_are_not_changed_and_transposition_is_a_view() -> None:
    x = wide(64, 64)
    before = x.copy()
    e = embed(x, "nvfp4_2d", transforms=((16, "k", None),))
    assert (x == before).all()
    assert (e.transpose().values == e.values.T).all()
    assert np.shares_memory(e.transpose().values, e.values)
    with pytest.raises(ShapeError):
        embed(x, "nvfp4").transpose()
    y = embed(x.T, "nvfp4", k_axis=0)
    assert (y.values == embed(x, "nvfp4").values.T).all()


def test_bad_input_is_refused_as_by_the_definition() -> None:
    with pytest.raises(WordsError):
        quantize(np.ones((2, 32), np.float32), "mxfp4:rounding=stochastic")
    with pytest.raises(ShapeError):
        quantize(np.ones((2, 33), np.float32), "mxfp4")
    with pytest.raises(ShapeError):
        embed(np.ones((2, 48), np.float32), "nvfp4", transforms=((32, "k", None),))
    with pytest.raises(ShapeError):
        embed(np.ones((2, 48), np.float32), "nvfp4", transforms=((16, "k", np.zeros(16)),))
    with pytest.raises(NonFiniteError):
        quantize(np.full((1, 32), np.nan, np.float32), "mxfp4:nonfinite=raise")

"""The public entry points: backend, quantize, gemm, linear, and what arrays they take."""

from __future__ import annotations

import numpy as np
import pytest

import lpref
from lpref.ref.errors import BackendError, DTypeError, FormatError, SpecError, UnknownNameError
from lpref.ref.linalg import ACCUMULATORS, Accumulate, HighPrecision, accumulation_bound, accumulator
from lpref.ref.linalg import gemm as ref_gemm
from lpref.ref.quantize import quantize as ref_quantize
from lpref.ref.recipes import Context, Epilogue, GemmSpec, Slot, Transform


@pytest.fixture
def x():
    return np.random.default_rng(3).standard_normal((8, 32)).astype(np.float32)


def test_backend_by_name() -> None:
    assert (lpref.backend("cpu").name, lpref.backend("cpu").numerics) == ("cpu", "fast")
    assert lpref.backend("reference", "exact").numerics == "exact"
    one = lpref.backend("cpu")
    assert lpref.backend(one) is one
    with pytest.raises(UnknownNameError, match="did you mean 'reference'"):
        lpref.backend("referense")
    with pytest.raises(BackendError, match="no op 'rmsnrm'; nearest: rmsnorm"):
        one.rmsnrm  # noqa: B018


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_quantize_and_gemm_are_the_definitions(backend, x) -> None:
    t, want = lpref.quantize(x, "mxfp8_e4m3", backend=backend), ref_quantize(x, "mxfp8_e4m3")
    assert t.codes.tolist() == want.codes.tolist()
    assert t.scales[0].tolist() == want.scales[0].tolist()
    np.testing.assert_array_equal(lpref.gemm(t, x, backend=backend), ref_gemm(want, HighPrecision(x, 1)))


def test_linear_keeps_leading_axes(x) -> None:
    w = x[:4]
    y = lpref.linear(x.reshape(2, 4, 32), w, "fp32", backend="reference")
    assert y.shape == (2, 4, 4)
    np.testing.assert_array_equal(y.reshape(8, 4), ref_gemm(HighPrecision(x, 1), HighPrecision(w, 1)))


def test_arrays_of_other_libraries(x) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    want = lpref.quantize(x.astype(ml_dtypes.bfloat16).astype(np.float32), "int8_row").codes.tolist()
    assert lpref.quantize(x.astype(ml_dtypes.bfloat16), "int8_row").codes.tolist() == want
    assert lpref.quantize(x.tolist(), "int8_row").codes.tolist() == lpref.quantize(x, "int8_row").codes.tolist()


@pytest.mark.peer
def test_torch_tensors(x) -> None:
    torch = pytest.importorskip("torch")
    t = torch.tensor(x)
    assert lpref.quantize(t, "int8_row").codes.tolist() == lpref.quantize(x, "int8_row").codes.tolist()
    half = lpref.quantize(t.to(torch.bfloat16), "int8_row").codes.tolist()
    assert half == lpref.quantize(t.to(torch.bfloat16).float().numpy(), "int8_row").codes.tolist()


@pytest.mark.peer
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_results_live_in_the_library_of_x(x, dtype) -> None:
    torch = pytest.importorskip("torch")
    given = torch.tensor(x, dtype=getattr(torch, dtype), requires_grad=True)
    plain = given.detach().float().numpy()
    t, want = lpref.quantize(given, "nvfp4"), lpref.quantize(plain, "nvfp4")
    assert isinstance(t, lpref.QTensor)
    pairs = [(t.codes, want.codes), (t.scales[0], want.scales[0]), (t.unpacked(), want.unpacked()), (t.scale_values(), want.scale_values()),
             (t.element_values(), want.element_values()), (t.dequantize(), want.dequantize()),
             (t.dequantize(torch.float32), want.dequantize(np.float32)), (t.dequantize(torch.bfloat16), want.dequantize("bfloat16")),
             (t.to_layout("column")["codes"], want.to_layout("column")["codes"])]  # fmt: skip
    for got, values in pairs:
        assert isinstance(got, torch.Tensor)
        assert got.tolist() == values.tolist()
    assert t.dequantize(torch.bfloat16).dtype == torch.bfloat16
    assert (t.tensor_scale, t.logical_shape, t.nbytes) == (want.tensor_scale, want.logical_shape, want.nbytes)
    for product, numbers in ((lpref.gemm(t, t), lpref.gemm(want, want)), (lpref.linear(given, given, "mxfp4"), lpref.linear(plain, plain, "mxfp4"))):
        assert isinstance(product, torch.Tensor)
        assert product.tolist() == numbers.tolist()
    square = lpref.quantize(given, "int8_tensor").transpose()
    assert square.codes.tolist() == lpref.quantize(plain, "int8_tensor").transpose().codes.tolist()


class OnlyDlpack:
    """An array that speaks DLPack and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack_is_enough(x) -> None:
    assert lpref.quantize(OnlyDlpack(x), "int8_row").codes.tolist() == lpref.quantize(x, "int8_row").codes.tolist()
    assert lpref.format("e4m3").encode(OnlyDlpack(x)).tolist() == lpref.format("e4m3").encode(x).tolist()


@pytest.mark.parametrize("bad", [np.ones((2, 32)) * 1j, np.array([["a"] * 32]), np.array([[None] * 32]), [[1.0], [2.0, 3.0]]])
def test_what_is_no_array_of_reals_is_refused(bad) -> None:
    for call in (lambda: lpref.quantize(bad, "mxfp4"), lambda: lpref.gemm(bad, bad), lambda: lpref.linear(bad, bad, "fp32")):
        with pytest.raises((FormatError, DTypeError)):
            call()


def test_specs_and_contexts_as_mappings(x) -> None:
    assert lpref.gemm(x, x, {"inner": "pairwise"}).tolist() == lpref.gemm(x, x, Accumulate(inner="pairwise")).tolist()
    with pytest.raises(SpecError, match="inner"):
        lpref.gemm(x, x, {"innner": "pairwise"})
    at = {"seed": 3, "step": 2, "site": "h.0.mlp.up"}
    assert lpref.linear(x, x, "mxfp8", at).tolist() == lpref.linear(x, x, "mxfp8", Context(**at)).tolist()
    with pytest.raises(SpecError, match=r"ctx\.sed"):
        lpref.linear(x, x, "mxfp8", {"sed": 3})


def test_delayed_scales_start_at_one(x) -> None:
    unscaled = lpref.quantize(x, "fp8_tensor", amax=448)
    np.testing.assert_array_equal(lpref.linear(x, x, "fp8_delayed"), lpref.format("bfloat16").round(lpref.gemm(unscaled, unscaled)))
    q = lpref.quantizer("fp8_tensor:history=delayed:window=4")
    assert lpref.update_state(q, None, [{"amax": 7.0}])["scale"] == 64


def test_names_with_revisions_and_parameters() -> None:
    assert lpref.format("e4m3@1") is lpref.format("float8_e4m3fn@1") is lpref.format("e4m3")
    assert lpref.recipe("nvfp4@1") == lpref.recipe("nvfp4")
    assert lpref.quantizer("mxfp4", scale="rceil", tail="pad_zero") == lpref.quantizer("mxfp4:scale=rceil:tail=pad_zero")
    for call in (lambda: lpref.format("e4m3@2"), lambda: lpref.recipe("nvfp4@2"), lambda: lpref.quantizer("mxfp4@2")):
        with pytest.raises(UnknownNameError, match=r"did you mean '[a-z0-9]+@1'"):
            call()
    with pytest.raises(SpecError, match="scale"):
        lpref.quantizer({"base": "mxfp4"}, scale="rceil")


def test_notebooks_get_tables() -> None:
    for thing in (lpref.format("e4m3"), lpref.recipe("nvfp4"), lpref.recipe("quartet"), lpref.quantize(np.ones((1, 32)), "mxfp4")):
        assert thing._repr_html_().startswith("<table>")


def test_device_arrays_are_refused() -> None:
    class OnDevice:
        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(BackendError, match="copy it to the host"):
        lpref.quantize(OnDevice(), "int8_row")


@pytest.mark.parametrize("op", ["relu", "matmul"])
def test_kernels_are_float32(op) -> None:
    x = np.ones((2, 2))
    with pytest.raises(BackendError, match=f"{op} got float64; the kernels of the cpu backend are float32"):
        getattr(lpref.backend("cpu", "exact"), op)(*[x] * (2 if op == "matmul" else 1))


def test_a_model_is_accepted_wherever_its_name_is(x) -> None:
    entry = ACCUMULATORS["bf16_sequential"]
    assert accumulator(entry) is accumulator(entry.model) is accumulator("bf16_sequential") is entry.model
    want = lpref.gemm(x, x, "bf16_sequential").tolist()
    assert lpref.gemm(x, x, entry).tolist() == lpref.gemm(x, x, entry.model).tolist() == want
    operand = HighPrecision(x, 1)
    assert ref_gemm(operand, operand, entry).tolist() == want
    assert accumulation_bound(operand, operand, entry).tolist() == accumulation_bound(operand, operand, "bf16_sequential").tolist()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_gemm_spec_quantizes_by_its_slots(backend, x) -> None:
    """c = cast(2 (T q_a(a H)) (q_b(b H))^T), written out with the parts of lpref.ref."""
    from lpref.ref.linalg import hadamard

    q, w = lpref.quantizer("mxfp8_e4m3"), lpref.quantizer("int8_row")
    spec = GemmSpec(Slot(quantizer=q), Slot(quantizer=w), Transform("hadamard", "k", 32), accumulate=accumulator("blocked_64"),
                    epilogue=(Epilogue("scale", 2.0),), output="bfloat16")  # fmt: skip
    a, b = (hadamard(v, 32, axis=1) for v in (x, x[:5]))
    c = ref_gemm(ref_quantize(a, q), ref_quantize(b, w), "blocked_64") * np.float32(2)
    np.testing.assert_array_equal(lpref.gemm(x, x[:5], spec, backend=backend), lpref.format("bfloat16").round(c))


def test_a_gemm_spec_draws_its_words_from_the_context(x) -> None:
    spec = GemmSpec(Slot(quantizer=lpref.quantizer("mxfp4:rounding=stochastic")))
    first, other = (lpref.gemm(x, x, spec, ctx).tolist() for ctx in (None, Context(seed=1)))
    assert first == lpref.gemm(x, x, spec, {"seed": 0}).tolist()
    assert first != other


def test_a_gemm_spec_that_needs_more_than_two_arrays_says_what_to_pass(x) -> None:
    t = lpref.quantize(x, "mxfp4")
    for a, spec, match in (
        (t, GemmSpec(), "pass an array, or spec.accumulate"),
        (x, GemmSpec(Slot("requant")), "a.source: 'requant' reads the codes of another product"),
        (x, GemmSpec(epilogue=(Epilogue("mask", mask="m"),)), "the mask 'm' is saved by a training step"),
    ):
        with pytest.raises(SpecError, match=match):
            lpref.gemm(a, x, spec)

"""The published list of disagreements between packages, reproduced one by one by asking the packages themselves.

Each test names one line: what the package gives, what the definition gives, and that `lpref diff` explains it. Targets that are not
installed are left out; conformance/targets/peers.lock has them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from lpref.conformance.diff.run import compare
from lpref.conformance.matrix import cases
from lpref.conformance.proves import proves
from lpref.conformance.targets import TARGETS, builtin
from lpref.conformance.targets.base import Case, CastCase, GemmCase, QuantizeCase
from lpref.conformance.targets.client import Session
from lpref.ref.formats import format as format_of
from lpref.ref.quantize import quantize

pytestmark = pytest.mark.peer
Ask = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def sessions() -> Iterator[dict[str, Session]]:
    made: dict[str, Session] = {}
    yield made
    for session in made.values():
        session.close()


@pytest.fixture
def ask(sessions: dict[str, Session]) -> Ask:
    """ask(target, case, x): the arrays that it gives; skips where it is not installed."""

    def asked(name: str, case: Case, *arrays: np.ndarray) -> dict[str, np.ndarray]:
        target = builtin(name)
        if target.available:
            pytest.skip(target.available)
        session = sessions.setdefault(name, Session(name))
        return session.ask(case, dict(zip("ab" if len(arrays) == 2 else "x", arrays, strict=True)))

    return asked


def values(got: dict[str, np.ndarray], name: str) -> np.ndarray:
    return got["values"].astype(float) if "values" in got else format_of(name).decode(got["codes"])


X = np.float32([449, 464, 465, 1e6, np.inf, -np.inf])


@pytest.mark.parametrize(
    ("target", "case", "expected"),
    [
        ("ml_dtypes", CastCase("e4m3"), [448, 448, np.nan, np.nan, np.nan, np.nan]),
        ("gfloat", CastCase("e4m3", overflow="ocp_nonsat"), [448, 448, np.nan, np.nan, np.nan, np.nan]),
        ("gfloat", CastCase("e4m3"), [448, 448, 448, 448, 448, -448]),
        ("torch", CastCase("e4m3"), [448, 448, 448, 448, 448, -448]),  # since 2.13; NaN before
        ("onnx", CastCase("e4m3"), [448, 448, 448, 448, 448, -448]),
        ("microxcaling", CastCase("e4m3"), [448, 448, 448, 448, np.inf, -np.inf]),
        ("cuda_headers", CastCase("e4m3", overflow="cuda_satfinite"), [448, 448, 448, 448, 448, -448]),
        ("cuda_headers", CastCase("e4m3", overflow="ocp_nonsat"), [448, 448, np.nan, np.nan, np.nan, np.nan]),
        ("ml_dtypes", CastCase("e5m2"), [448, 448, 448, np.inf, np.inf, -np.inf]),
        ("torch", CastCase("e5m2"), [448, 448, 448, np.inf, np.inf, -np.inf]),
        ("onnx", CastCase("e5m2"), [448, 448, 448, 57344, 57344, -57344]),
        ("ml_dtypes", CastCase("e4m3fnuz"), [np.nan] * 6),
        ("torch", CastCase("e4m3fnuz"), [np.nan] * 6),
        ("onnx", CastCase("e4m3fnuz"), [240, 240, 240, 240, 240, -240]),  # its own table says NaN for the infinities
    ],
    ids=str,
)
def test_overflow(ask: Ask, target: str, case: CastCase, expected: list[float]) -> None:
    np.testing.assert_array_equal(values(ask(target, case, X), case.format), np.array(expected))


def test_qtorch_has_no_specials_and_breaks_ties_away(ask: Ask) -> None:
    got = values(ask("qtorch", CastCase("e4m3", "nearest_away"), np.float32([480, 1e6, np.inf, np.nan, 1.0625, -1e-9])), "e4m3")
    np.testing.assert_array_equal(got, [480, 480, 480, 480, 1.125, 0])
    assert not np.signbit(got[-1])


@pytest.mark.parametrize("target", ["ml_dtypes", "torch", "onnx"])
@pytest.mark.parametrize("name", ["e4m3", "e5m2"])
def test_float64_is_rounded_twice(ask: Ask, target: str, name: str) -> None:
    f = format_of(name)
    table = f.table()[0]
    middle = ((table[:-1] + table[1:]) / 2)[np.abs(table[:-1]) >= f.min_normal]
    x = np.concatenate([middle * (1 + s * 2.0**-k) for k in (26, 30, 40, 50) for s in (1, -1)])
    wrong = ask(target, CastCase(name, overflow="torch", input="float64"), x)["codes"] != f.encode(x)
    assert 0.4 < wrong.mean() < 0.6


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "e2m3", "e3m2"])
def test_cuda_double_conversions_round_once(ask: Ask, name: str) -> None:
    f = format_of(name)
    table = f.table()[0]
    middle = (table[:-1] + table[1:]) / 2
    x = np.concatenate([middle * (1 + s * 2.0**-k) for k in (26, 30, 40, 50) for s in (1, -1)])
    got = ask("cuda_headers", CastCase(name, overflow="cuda_satfinite", input="float64"), x)["codes"]
    assert (got == f.encode(x, overflow="cuda_satfinite")).all()


@pytest.mark.parametrize(
    ("target", "case", "expected"),
    [
        # 3 is a tie of 2 and 4; 0; -1; 1.25 * 2^-127; NaN
        ("ml_dtypes", CastCase("e8m0"), [4, np.nan, np.nan, 2.0**-126, np.nan]),
        ("torch", CastCase("e8m0"), [4, 2.0**-127, 1, 2.0**-126, np.nan]),
        ("cuda_headers", CastCase("e8m0", "toward_positive", "cuda_satfinite"), [4, 2.0**-127, 1, 2.0**-126, np.nan]),
        ("cuda_headers", CastCase("e8m0", "toward_zero", "cuda_satfinite"), [2, 2.0**-127, 1, 2.0**-127, np.nan]),
    ],
    ids=str,
)
def test_e8m0_rules(ask: Ask, target: str, case: CastCase, expected: list[float]) -> None:
    x = np.float32([3, 0, -1, 1.25 * 2.0**-127, np.nan])
    np.testing.assert_array_equal(values(ask(target, case, x), "e8m0"), expected)


def test_e8m0_of_gfloat_goes_to_the_even_code(ask: Ask) -> None:
    assert values(ask("gfloat", CastCase("e8m0"), np.float32([3, 6, 12])), "e8m0").tolist() == [2, 8, 8]


@pytest.mark.parametrize(
    ("target", "name", "code"),
    [("ml_dtypes", "e2m1", 0x8), ("torchao", "e2m1", 0x3), ("cuda_headers", "e2m1", 0x7), ("cuda_headers", "e2m3", 0x1F),
     ("cuda_headers", "e3m2", 0x1F), ("cuda_headers", "e4m3", 0x7F), ("cuda_headers", "e5m2", 0x7F)],
)  # fmt: skip
def test_nan(ask: Ask, target: str, name: str, code: int) -> None:
    assert ask(target, CastCase(name, overflow="cuda_satfinite"), np.float32([np.nan]))["codes"].tolist() == [code]


def test_microxcaling_slips(ask: Ask) -> None:
    below = np.nextafter(np.float32(0.25), np.float32(0))
    x = np.float32([below, np.finfo(np.float32).max, 0.25, 0.75])
    np.testing.assert_array_equal(ask("microxcaling", CastCase("e2m1"), x)["values"], np.float32([0.5, np.nan, 0, 1]))
    assert ask("microxcaling", CastCase("e2m1", "nearest_away"), np.float32([0.25, 0.75]))["values"].tolist() == [0.5, 1.0]


def test_pychop_overflows_late(ask: Ask) -> None:
    got = ask("pychop", CastCase("e4m3_ieee", overflow="ocp_nonsat"), np.float32([247, 248, 255, 256, 300, 512]))["values"]
    assert got.tolist() == [240, 256, 256, 0, 0, np.inf]  # the definition: 240, then infinity
    assert ask("pychop", CastCase("e5m2", overflow="ocp_nonsat"), np.float32([61440]))["values"].tolist() == [65536]


@pytest.mark.parametrize("name", ["e4m3_ieee", "e5m2", "e3m4"])
def test_apytypes_is_exact_in_ieee_formats(ask: Ask, name: str) -> None:
    f = format_of(name)
    x = np.float32(np.concatenate([f.table()[0], (f.table()[0][1:] + f.table()[0][:-1]) / 2]))
    assert (ask("apytypes", CastCase(name, overflow="ocp_nonsat"), x)["codes"] == f.encode(x, overflow="ocp_nonsat")).all()


def test_apytypes_e2m1_has_infinity(ask: Ask) -> None:
    assert ask("apytypes", CastCase("e2m1", overflow="ocp_nonsat"), np.float32([2, 3, 4, np.inf, np.nan]))["codes"].tolist() == [4, 5, 6, 6, 7]


@pytest.mark.parametrize(("target", "case"), [("gfloat", "p3109_8p3sf"), ("gfloat", "p3109_8p4sf"), ("pychop", "p3109_8p4sf")])
def test_p3109_finite_formats_without_saturation(ask: Ask, target: str, case: str) -> None:
    got = values(ask(target, CastCase(case, overflow="p3109_sat_none"), np.float32([1e9, np.inf])), case)
    assert np.isnan(got).all()
    assert format_of(case).round(np.float32([1e9]), overflow="p3109_sat_none").tolist() == [format_of(case).max]


@pytest.mark.parametrize("quantizer", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp4"])
def test_mx_scale_just_below_powers_of_two(ask: Ask, quantizer: str) -> None:
    """float32 floor(log2) is one too large there; exponent bits are not."""
    x = np.zeros((64, 32), np.float32)
    x[:, 0] = np.nextafter(np.ldexp(np.float32(1), np.arange(-31, 33)), np.float32(0))
    want = quantize(x, quantizer)
    assert (ask("torchao", QuantizeCase(quantizer), x)["scales"].reshape(-1) == want.scales[0].reshape(-1)).all()


@pytest.mark.parametrize("target", ["microxcaling", "pychop"])
def test_mx_scale_by_logarithm(ask: Ask, target: str) -> None:
    x = np.zeros((64, 32), np.float32)
    x[:, 0] = np.nextafter(np.ldexp(np.float32(1), np.arange(-31, 33)), np.float32(0))
    want = quantize(x, "mxfp4").dequantize(np.float32)
    got = ask(target, QuantizeCase("mxfp4"), x)["values"]
    assert (got[:, 0] != want[:, 0]).mean() > 0.7


def test_mx_infinity_in_a_block(ask: Ask) -> None:
    x = np.ones((1, 32), np.float32)
    x[0, 3] = np.inf
    assert np.isnan(quantize(x, "mxfp8_e4m3").dequantize()).all()
    got = ask("torchao", QuantizeCase("mxfp8_e4m3"), x)
    assert got["codes"][0, 3] == 0x7E
    assert (np.delete(got["codes"][0], 3) == 0).all()
    assert got["scales"].reshape(-1).tolist() == [247]
    assert ask("torchao", QuantizeCase("mxfp8_e4m3:scale=rceil"), x)["scales"].reshape(-1).tolist() == [254]
    assert np.isnan(ask("microxcaling", QuantizeCase("mxfp8_e4m3"), x)["values"]).all()


def test_nvfp4_zero_and_tiny_blocks(ask: Ask) -> None:
    x = np.zeros((2, 32), np.float32)
    x[0, :16] = 6
    x[1, 16:] = 1e-4
    want = quantize(x, "nvfp4").scales[0]
    got = ask("torchao", QuantizeCase("nvfp4"), x)["scales"].reshape(want.shape)
    assert got[0, 0] == want[0, 0]
    assert want[0, 1] == 0
    assert got[0, 1] == 0x08  # 2^-6, the smallest normal E4M3 number
    assert got[1, 1] == 0x08 > want[1, 1]


def test_nvfp4_agrees_on_ordinary_blocks(ask: Ask) -> None:
    x = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    got, want = ask("torchao", QuantizeCase("nvfp4"), x), quantize(x, "nvfp4")
    assert (got["scales"].reshape(-1) == want.scales[0].reshape(-1)).all()
    assert (got["codes"] == want.codes).mean() > 0.9999


@pytest.mark.parametrize(("name", "smallest"), [("posit8_0", 2.0**-6), ("posit16_1", 2.0**-28)])
def test_softposit_follows_the_older_standard(ask: Ask, name: str, smallest: float) -> None:
    f = format_of(name)
    got = ask("softposit", CastCase(name, overflow="posit"), np.float32([1e-30, -1e-30, 0, np.inf, np.nan]))["codes"]
    assert f.decode(got[:3]).tolist() == [smallest, -smallest, 0]
    assert got[3] == got[4] == f.nan_code == 1 << (f.bits - 1)  # NaR


OFFICIAL = {  # format -> (the implementation by its authors, the policy that it follows)
    "e4m3": ("cuda_headers", "cuda_satfinite"), "e5m2": ("cuda_headers", "cuda_satfinite"), "e2m3": ("cuda_headers", "cuda_satfinite"),
    "e3m2": ("cuda_headers", "cuda_satfinite"), "e2m1": ("cuda_headers", "cuda_satfinite"), "posit8_0": ("softposit", "posit"),
    "posit16_1": ("softposit", "posit"), "posit8_2": ("softposit", "posit"),
}  # fmt: skip


@proves("{name}", "official")
@pytest.mark.parametrize("name", OFFICIAL)
def test_the_authors_own_code_gives_the_same_codes(name: str) -> None:
    target, policy = OFFICIAL[name]
    found = builtin(target)
    if found.available:
        pytest.skip(found.available)
    with Session(target) as session:
        report = compare(session, found.version, CastCase(name, overflow=policy))
    assert report.status == "same", report.cells


def test_tensor_core_model(ask: Ask) -> None:
    rng = np.random.default_rng(1)
    a, b = (format_of("e4m3").round(rng.standard_normal((4, 256)).astype(np.float32)) for _ in range(2))
    from lpref.ref.linalg import HighPrecision, accumulator, gemm

    got = ask("mmaemu", GemmCase("e4m3", "hopper_fp8_fast"), a, b)["c"]
    assert (got == gemm(HighPrecision(a, 1), HighPrecision(b, 1), accumulator("hopper_fp8_fast"))).all()


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_unexplained(name: str, request: pytest.FixtureRequest) -> None:
    """Quick targets whole; of the others every case is in the kept results, and one is asked again here."""
    target = builtin(name)
    if target.available:
        pytest.skip(target.available)
    chosen = cases(name) if request.config.getoption("-m") == "peer" else cases(name)[:2]
    with Session(name) as session:
        for case in chosen:
            report = compare(session, target.version, case)
            assert report.good, (str(case), report.error, report.cells)

"""P3109: the whole family up to 8 bits against the report's equations, against gfloat, and the block conversion."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import pytest
from oracle import cases
from oracle.p3109 import Binary, binary, family
from oracle.rounding import DETERMINISTIC

from lpref.conformance.proves import proves
from lpref.ref.errors import FormatError, UnknownNameError
from lpref.ref.formats import FORMATS, format
from lpref.ref.formats.p3109 import convert_to_block

MODES = [m for m in DETERMINISTIC if m != "nearest_toward_zero"]  # the report's modes
STOCHASTIC = ["stochastic", "stochastic_b", "stochastic_c"]  # its A, B, C
SATS = ["p3109_sat_finite", "p3109_sat_propagate", "p3109_sat_none"]
REGISTERED = [n for n in FORMATS if n.startswith("p3109")]
ALL = [b for k in range(3, 9) for b in family(k)]


def check(b: Binary, x: np.ndarray) -> None:
    """Codes of x under every mode and saturation; infinities and NaN too."""
    f = format(b.name)
    special = {"inf": np.inf, "-inf": -np.inf, "nan": np.nan}
    for mode in MODES:
        rounded, which = np.unique(b.round_each(x, mode), return_inverse=True)
        exact = [Fraction(v) for v in rounded.tolist()]
        for sat in SATS:
            want = np.array([b.encode(b.saturate(sat, mode, r)) for r in exact])[which]
            got = f.encode(x, mode, sat)
            wrong = np.flatnonzero(got != want)
            assert wrong.size == 0, [(b.name, mode, sat, float(x[i]).hex(), got[i], want[i]) for i in wrong[:5]]
            for name, v in special.items():
                assert f.encode(v, mode, sat) == b.project(name, mode, sat), (b.name, mode, sat, name)


@pytest.mark.parametrize("bits", range(3, 9))
def test_rounding_of_arrays_is_the_equation(bits: int) -> None:
    """The oracle's own two forms, in float64 and in fractions, on a sample of the points below."""
    for b in family(bits):
        x = cases.critical(b.table())
        x = x[:: max(1, x.size // 40)]
        for mode in MODES:
            assert b.round_each(x, mode).tolist() == [b.round(Fraction(v), mode) for v in x.tolist()], (b.name, mode)


@pytest.mark.parametrize("bits", range(3, 9))
def test_every_code_of_the_family(bits: int) -> None:
    for b in family(bits):
        f = format(b.name)
        got = f.decode(np.arange(2**bits))
        for code, v in enumerate(got.tolist()):
            want = b.decode(code)
            assert (str(v) if isinstance(want, str) else Fraction(v)) == want, (b.name, code)
        finite = got[np.isfinite(got)]
        signed, extended = b.signed, b.extended
        assert (
            len(f.table()[0])
            == 2**bits - {(True, True): 3, (True, False): 1, (False, True): 2, (False, False): 1}[signed, extended]
        )
        assert (f.max, f.min) == (finite.max(), finite.min())
        assert f.min_subnormal == finite[finite > 0].min() == 2.0 ** (2 - b.P - b.B if b.P > 1 else 1 - b.B)
        assert (f.nan_code, f.inf_code) == (b.nan, b.inf)
        assert not (np.signbit(got) & (got == 0)).any()
        if signed:
            assert f.encode(1.0) == 2 ** (bits - 2)


@pytest.mark.parametrize("bits", range(3, 9))
def test_projection_of_the_family(bits: int) -> None:
    """All 120 formats: around every value and midpoint, every mode and saturation (223952 inputs, 4.0 million codes)."""
    for b in family(bits):
        check(b, cases.critical(b.table()))


@proves("{name}", "oracle")
@pytest.mark.parametrize("name", REGISTERED)
def test_projection_of_the_registered_ones(name: str) -> None:
    b = binary(name)
    check(b, cases.critical(b.table()))


@pytest.mark.parametrize("mode", STOCHASTIC)
@pytest.mark.parametrize("name", ["p3109_4p2sf", "p3109_5p1se", "p3109_5p3ue", "p3109_6p1uf", "p3109_6p3sf"])
def test_stochastic_projection_for_every_word(name: str, mode: str) -> None:
    b, r = binary(name), 4
    f, x = format(name), cases.critical(b.table(), 5)
    words = np.arange(2**r)
    got = f.encode(np.repeat(x, 2**r), mode, "p3109_sat_none", words=np.tile(words, x.size), word_bits=r)
    want = [b.project(Fraction(v), mode, "p3109_sat_none", r, w) for v in x.tolist() for w in words.tolist()]
    assert np.array_equal(got, want)


@pytest.mark.parametrize(("name", "high", "low"), [
    ("p3109_8p3se", 49152, 2**-17), ("p3109_8p4se", 224, 2**-10), ("p3109_8p5se", 15, 2**-7), ("p3109_8p1se", 2**62, 2**-63),
    ("p3109_8p3sf", 57344, 2**-17), ("p3109_8p4sf", 240, 2**-10), ("p3109_8p4ue", 53248, 2**-18), ("p3109_8p1uf", 2**126, 2**-127),
    ("p3109_6p3sf", 14, 2**-5), ("p3109_4p2sf", 3, 2**-2),
])  # fmt: skip
def test_constants(name: str, high: float, low: float) -> None:
    assert (format(name).max, format(name).min_subnormal) == (high, low)
    assert name in FORMATS


PUBLISHED = {
    "p3109_8p3se": "2ee7c5d98c21e361", "p3109_8p4se": "a17d86ac68e66eda", "p3109_8p5se": "d4e86473367705b9",
    "p3109_8p1se": "6e397efb94751518", "p3109_8p3sf": "134e45ac5fd02d46", "p3109_8p4sf": "458adcaeb48861b2",
    "p3109_8p4ue": "4fc51a252acff8d8", "p3109_8p1uf": "89f79cc74c949be2", "p3109_6p3sf": "e05350d0f04c2240",
    "p3109_4p2sf": "4f08b916eeb57522",
}  # fmt: skip


@proves("{name}", "vectors")
@pytest.mark.parametrize("name", REGISTERED)
def test_published_tables_of_the_registered_ones(name: str) -> None:
    """The first 16 hexadecimal digits of SHA-256 over the lines `code,value` of the working group's table."""
    f = format(name)
    lines = "".join(f"{c:02x},{v.hex()}\n" for c, v in enumerate(f.decode(np.arange(2**f.bits)).tolist()))
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == PUBLISHED[name]


def test_published_tables_of_the_family() -> None:
    """The same over every table of K = 3 .. 8, in the order of `ALL`."""
    digest = hashlib.sha256()
    for b in ALL:
        values = format(b.name).decode(np.arange(2**b.K)).tolist()
        digest.update("".join(f"{c:02x},{v.hex()}\n" for c, v in enumerate(values)).encode())
    assert digest.hexdigest() == "6b4d6ff9615c4e49a90e05088c634395b63ed66e47c1aaf23426ba1cb80227df"


def test_rules_of_the_report_by_example() -> None:
    f = format("p3109_8p4se")
    assert f.encode([f.min_subnormal / 2, -f.min_subnormal / 2]).tolist() == [0, 0]
    assert f.round([232.0, 232.01], overflow="p3109_sat_none").tolist() == [224.0, np.inf]  # 7E is even, a tie stays
    u = format("p3109_8p4ue")
    assert u.encode([9e9, 9e9], "to_odd", "p3109_sat_none").tolist() == [u.max_code] * 2
    assert u.encode([-1.0, -np.inf], overflow="p3109_sat_none").tolist() == [255, 255]
    assert u.encode([-1.0, -np.inf], "toward_zero", "p3109_sat_none").tolist() == [0, 255]
    assert u.encode([-1.0, -np.inf], overflow="p3109_sat_propagate").tolist() == [0, 0]
    e = format("p3109_8p4se")
    assert e.encode(9e9, "to_odd", "p3109_sat_none") == e.inf_code
    p1 = format("p3109_8p1se")  # ties by the parity of the code
    assert p1.round([3.0, 6.0, 12.0]).tolist() == [4.0, 4.0, 16.0]


def test_names() -> None:
    assert format("Binary8p3se") == format("p3109_8p3se") == format("binary8p3se")
    assert format("p3109_16p11se").bits == 16
    for wrong in ("p3109_2p1se", "p3109_8p8se", "p3109_8p0uf", "p3109_8p9ue", "p3109_16p1se"):
        with pytest.raises(FormatError):
            format(wrong)
    with pytest.raises(UnknownNameError):
        format("p3109_8p3s")


GFLOAT = {"nearest_even": "TiesToEven", "nearest_away": "TiesToAway", "toward_zero": "TowardZero",
          "toward_positive": "TowardPositive", "toward_negative": "TowardNegative"}  # fmt: skip


def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a == b) | (np.isnan(a) & np.isnan(b))


def gfloat_info(b: Binary) -> object:
    gfloat = pytest.importorskip("gfloat")
    from gfloat.formats import format_info_p3109

    signedness = gfloat.Signedness.Signed if b.signed else gfloat.Signedness.Unsigned
    return format_info_p3109(b.K, b.P, signedness, gfloat.Domain.Extended if b.extended else gfloat.Domain.Finite)


@pytest.mark.peer
@pytest.mark.parametrize("bits", range(3, 9))
def test_gfloat_decodes_the_same_values(bits: int) -> None:
    gfloat = pytest.importorskip("gfloat")
    for b in family(bits):
        codes = np.arange(2**bits)
        assert same(format(b.name).decode(codes), gfloat.decode_ndarray(gfloat_info(b), codes)).all(), b.name


@pytest.mark.peer
@pytest.mark.parametrize("bits", range(3, 9))
def test_gfloat_rounds_the_same_except_in_finite_formats_beyond_the_range(bits: int) -> None:
    """All codes, midpoints and neighbours. Known: without saturation gfloat 0.5.2 gives NaN where finite formats overflow."""
    gfloat = pytest.importorskip("gfloat")
    for b in family(bits):
        f, x = format(b.name), np.append(cases.critical(b.table()), [np.inf, -np.inf, np.nan])
        x = x if b.signed else x[~(x < 0)]  # known: gfloat does not clamp negative values of unsigned formats
        x = x[(np.abs(x) < 1e300) | ~np.isfinite(x)]
        for mode, theirs in GFLOAT.items():
            for sat in (True, False):
                want = gfloat.round_ndarray(gfloat_info(b), x, gfloat.RoundMode[theirs], sat)
                got = f.round(x, mode, "p3109_sat_finite" if sat else "p3109_sat_none")
                ok = same(got, want)
                if not sat and not b.extended:
                    beyond = np.isnan(want) & ~np.isnan(x)
                    assert beyond.any()
                    assert (got[beyond] == np.where(x[beyond] < 0, f.min, f.max)).all()
                    ok |= beyond
                assert ok.all(), (b.name, mode, sat, x[~ok][:4], got[~ok][:4], want[~ok][:4])


def exact_block(
    x: list[float], element: str, scale: str, mode: str, sat: str, s_mode: str, s_sat: str
) -> tuple[list[int], int]:
    """Section 5.2.3 in fractions."""
    f, g = binary(element), binary(scale)
    finite = [abs(Fraction(v)) for v in x if np.isfinite(v)]
    largest = max(finite) if finite else ("nan" if all(np.isnan(x)) else "inf")
    code = g.project(largest, s_mode, s_sat)
    s = g.decode(code)
    out: list[int] = []
    for v in x:
        sign = int(v > 0) - int(v < 0)
        if s == "nan" or np.isnan(v):
            z: Fraction | str = "nan"
        elif s == 0:
            z = Fraction(0)
        elif s == "inf":
            z = Fraction(sign)
        else:
            z = Fraction(v) / Fraction(s) if np.isfinite(v) else ("inf" if v > 0 else "-inf")
        out.append(f.project(z, mode, sat))
    return out, code


@pytest.mark.parametrize(
    ("element", "scale"),
    [("p3109_8p4se", "p3109_8p1uf"), ("p3109_6p3sf", "p3109_8p4ue"), ("p3109_4p2sf", "p3109_8p3se")],
)
@pytest.mark.parametrize("sat", SATS)
@pytest.mark.parametrize("mode", MODES)
def test_block_conversion_by_definition(element: str, scale: str, sat: str, mode: str) -> None:
    rng = np.random.default_rng(2)
    x = np.ldexp(rng.normal(size=(40, 4)).astype(np.float32), rng.integers(-20, 20, (40, 1))).astype(np.float64)
    x[30], x[31], x[32], x[33] = 0, np.nan, [np.inf, -np.inf, np.inf, np.inf], [1e300, 3, -3, 0]
    x[34, 1], x[35, 2], x[36] = np.nan, -np.inf, [np.nan, np.inf, np.nan, np.nan]
    codes, scales = convert_to_block(x, element, scale, mode, sat, "toward_positive", sat)
    for row, got, s in zip(x.tolist(), codes.tolist(), scales.tolist(), strict=True):
        assert (got, s) == exact_block(row, element, scale, mode, sat, "toward_positive", sat), row


def test_the_quotient_is_rounded_once_in_effect() -> None:
    """x one float64 beside a tie times s: float64's division stays on x's side of the tie."""
    rng = np.random.default_rng(0)
    f, b = format("p3109_8p4se"), binary("p3109_8p4se")
    scales = format("p3109_20p12uf").decode(rng.integers(2**17, 3 * 2**18, 2000))
    ties = np.ldexp((2 * rng.integers(8, 16, scales.size) + 1) / 16.0, rng.integers(-5, 5, scales.size))
    for s, v in zip(scales.tolist(), (ties * scales).tolist(), strict=True):
        for x in (v, np.nextafter(v, 0), np.nextafter(v, np.inf)):
            codes, scale = convert_to_block(
                [x, s], f, "p3109_20p12uf", "nearest_away", scale_rounding="toward_negative"
            )
            if format("p3109_20p12uf").decode(scale) == s:
                assert codes[0] == b.project(Fraction(x) / Fraction(s), "nearest_away", "p3109_sat_finite")

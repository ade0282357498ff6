"""Where overflow begins, what each policy makes of it, and the modes of hardware."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.errors import FormatError
from lpref.ref.formats import format
from lpref.ref.rounding import Overflow

T = 2.0


@pytest.mark.parametrize(("name", "edge", "below"), [
    ("e4m3", np.nextafter(464, 999), 464.0), ("e5m2", 61440.0, np.nextafter(61440, 0)), ("e4m3fnuz", 248.0, 247.999),
    ("e4m3_ieee", 248.0, 247.999), ("e2m1", 7.0, 6.9999), ("e2m3", 7.75, 7.7499), ("e3m2", 30.0, 29.999),
    ("bfloat16", (2 - T**-8) * T**127, (2 - T**-7.99) * T**127), ("binary16", 65520.0, 65519.999),
])  # fmt: skip
def test_where_overflow_begins(name: str, edge: float, below: float) -> None:
    f = format(name)
    assert f.round(below, overflow="raise") == f.max
    assert f.round(-edge) == -f.max
    with pytest.raises(FormatError):
        f.round(edge, overflow="raise")


POLICIES = [  # format, policy, x, code
    ("e4m3", "ocp_sat", np.inf, 0x7E), ("e4m3", "ocp_sat", -1e9, 0xFE), ("e4m3", "ocp_sat", np.nan, 0x7F),
    ("e5m2", "ocp_sat", np.inf, 0x7B), ("e5m2", "ocp_sat", 1e9, 0x7B), ("e5m2", "ocp_sat", np.nan, 0x7E),
    ("e4m3", "ocp_nonsat", np.inf, 0x7F), ("e4m3", "ocp_nonsat", 465.0, 0x7F), ("e5m2", "ocp_nonsat", -1e9, 0xFC),
    ("e5m2", "ocp_nonsat", -np.inf, 0xFC), ("e4m3fnuz", "ocp_nonsat", 1e9, 0x80), ("e4m3fnuz", "saturate", -1e9, 0xFF),
    ("e4m3fnuz", "saturate", -0.0, 0x00), ("e4m3fnuz", "saturate", -1e-9, 0x00), ("e4m3fnuz", "saturate", np.nan, 0x80),
    ("e4m3fnuz", "onnx_sat", np.inf, 0x80), ("e4m3fnuz", "onnx_sat", 1e9, 0x7F), ("e4m3", "onnx_sat", np.inf, 0x7E),
    ("e4m3", "cuda_nosat", np.inf, 0x7F), ("e5m2", "cuda_nosat", -1e9, 0xFC), ("e8m0", "cuda_nosat", -1.0, 127),
    ("e4m3", "torch", np.inf, 0x7E), ("e5m2", "torch", 1e9, 0x7C), ("e5m2fnuz", "torch", 1e9, 0x80),
    ("e2m1", "ml_dtypes", np.nan, 0x8), ("e2m1", "ml_dtypes", -np.inf, 0xF), ("e2m3", "ml_dtypes", 1e9, 0x1F),
    ("e2m1", "cuda_satfinite", np.nan, 0x7), ("e3m2", "cuda_satfinite", np.nan, 0x1F), ("e4m3", "to_nan", 1e9, 0x7F),
    ("e2m1", Overflow(nan="nan_or_zero"), np.nan, 0x0), ("int8", Overflow(nan="nan_or_zero"), np.nan, 0x0),
    ("int8", "saturate", -np.inf, 0x80), ("int8", "saturate", 1e300, 0x7F), ("uint8", "saturate", -5.0, 0),
    ("uint8", "raise", -0.5, 0), ("nf4", "saturate", 9.0, 15), ("bnb_fp4", "saturate", -9.0, 11),
    ("e8m0", "saturate", np.inf, 0xFE), ("e8m0", "ocp_nonsat", np.inf, 0xFF), ("e8m0", "saturate", np.nan, 0xFF),
    ("e8m0", "saturate", 0.0, 0x00), ("e8m0", "ml_dtypes", 0.0, 0xFF), ("e8m0", "torch", 0.0, 0x00),
    ("e8m0", "torch", -1.0, 127), ("e8m0", "cuda_satfinite", -1.0, 127), ("e8m0", "saturate", -1.0, 0),
    ("e8m0", "ml_dtypes", -np.inf, 0xFF), ("ue4m3", "saturate", -1.0, 0), ("ue4m3", "ml_dtypes", -1.0, 0x7F),
    ("ue4m3", "ml_dtypes", -1e-9, 0), ("binary16", "to_infinity", -7e4, 0xFC00), ("tf32", "to_infinity", 1e300, 0xFF << 10),
]  # fmt: skip


@pytest.mark.parametrize(("name", "policy", "x", "code"), POLICIES)
def test_overflow_policies(name: str, policy: str | Overflow, x: float, code: int) -> None:
    assert format(name).encode(x, overflow=policy) == code


def test_directed_overflow_stops_at_max() -> None:
    f = format("e5m2")
    assert f.decode(f.encode([1e9, -1e9], "toward_zero", "ocp_nonsat")).tolist() == [57344.0, -57344.0]
    assert f.decode(f.encode([1e9, -1e9], "toward_negative", "ocp_nonsat")).tolist() == [57344.0, -np.inf]
    assert f.decode(f.encode([1e9, -1e9], "toward_positive", "ocp_nonsat")).tolist() == [np.inf, -57344.0]
    assert f.decode(f.encode([np.inf], "toward_zero", "ocp_nonsat")).tolist() == [np.inf]


E8M0_MODES = [(T**-127, 0, 0), (1.1 * T**-127, 1, 0), (T**-149, 0, 0), (1.5, 128, 127), (2.0, 128, 128),
              (1.5 * T**127, 254, 254), (T**127, 254, 254)]  # fmt: skip


@pytest.mark.parametrize(("x", "rp", "rz"), E8M0_MODES)
def test_e8m0_hardware_modes(x: float, rp: int, rz: int) -> None:
    f = format("e8m0")
    assert f.encode(x, "toward_positive", "cuda_satfinite") == rp
    assert f.encode(x, "toward_zero", "cuda_satfinite") == rz


def test_e8m0_powers_are_fixed_points_and_code_0_is_subnormal() -> None:
    f = format("e8m0")
    codes = np.arange(255)
    for rule in ("nearest_even", "toward_positive", "toward_zero"):
        assert np.array_equal(f.encode(f.decode(codes), rule), codes)
    assert np.float32(f.decode(0)).view(np.uint32) == 0x00400000
    assert np.float32(1) / np.float32(f.decode(254)) == np.float32(T**-127) != 0
    assert np.float32(1) / np.float32(f.decode(0)) == np.float32(T**127)
    assert np.isnan(f.decode(255))


@pytest.mark.parametrize("policy", ["ocp_sat", "ocp_nonsat"])
def test_fp8_conversion_at_its_edges(policy: str) -> None:
    """Rounding first, then the policy: 464 is a tie of 448 and what would follow, 61440 of 57344 and infinity."""
    e4m3, e5m2 = format("e4m3"), format("e5m2")
    above = np.nextafter(np.float32(464), np.float32(999))
    assert e4m3.encode([464.0, 2.0**-10, 1.5 * 2.0**-10, 449.0], overflow=policy).tolist() == [0x7E, 0, 1, 0x7E]
    assert e4m3.encode([above, -above], overflow=policy).tolist() == ([0x7E, 0xFE] if policy == "ocp_sat" else [0x7F, 0x7F])
    assert e5m2.round([61439.0, 61440.0], overflow=policy).tolist() == [57344.0, 57344.0 if policy == "ocp_sat" else np.inf]

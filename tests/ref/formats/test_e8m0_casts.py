"""Conversions to e8m0: the table of the page by enumeration, and the libraries themselves."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.formats import format
from lpref.ref.formats.e8m0_casts import E8M0_CASTS

T = 2.0
POINTS = [1.5, 3.0, 0.0, -1.0, -3.0, 1.1 * T**-127, 1.6 * T**-127, T**-127, T**-128, T**-149, 1.4 * T**127, 1.5 * T**127, 1.9 * T**127,
          np.inf, -np.inf, np.nan]  # fmt: skip
CODES = {  # measured: CUDA 13's header compiled for the host, ml_dtypes 0.6, torch 2.13, gfloat 0.5.2 (None: see the page)
    "ml_dtypes": [128, 129, 255, 255, 255, 1, 1, 0, 0, 0, 254, 255, 255, 255, 255, 255],
    "torch": [128, 129, 0, 127, 129, 1, 1, 0, 0, 0, 254, 255, 255, 255, 255, 255],
    "gfloat": [128, 128, 255, 255, 255, 0, 1, 0, None, None, 254, 254, 255, 255, 255, 255],
    "cuda_rz": [127, 128, 0, 127, 128, 0, 0, 0, 0, 0, 254, 254, 254, 255, 255, 255],
    "cuda_rp": [128, 129, 0, 127, 129, 1, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255],
    "cuda_rz_satfinite": [127, 128, 0, 127, 128, 0, 0, 0, 0, 0, 254, 254, 254, 254, 254, 255],
    "cuda_rp_satfinite": [128, 129, 0, 127, 129, 1, 1, 0, 0, 0, 254, 254, 254, 254, 254, 255],
}


@pytest.mark.parametrize("name", E8M0_CASTS)
def test_measured_codes(name: str) -> None:
    got = E8M0_CASTS[name].encode(np.array(POINTS).astype(np.float32)).tolist()
    assert all(g == w for g, w in zip(got, CODES[name], strict=True) if w is not None), got


@pytest.mark.parametrize("name", E8M0_CASTS)
def test_powers_of_two_are_fixed_points_of_all(name: str) -> None:
    codes = np.arange(255)
    assert np.array_equal(E8M0_CASTS[name].encode(format("e8m0").decode(codes)), codes)


def test_seven_names_seven_results() -> None:
    x = np.array(POINTS).astype(np.float32)
    assert len({tuple(c.encode(x).tolist()) for c in E8M0_CASTS.values()}) == len(E8M0_CASTS)


def samples() -> np.ndarray:
    """Bit patterns 2^13 apart with their neighbours, every 5th subnormal, specials."""
    u = np.arange(0, 2**32, 2**13, dtype=np.int64)
    u = np.concatenate([u - 1, u, u + 1, np.arange(0, 2**24, 31), [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001]])
    return (u & 0xFFFFFFFF).astype(np.uint32).view(np.float32)


@pytest.mark.peer
def test_ml_dtypes_on_float32() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = samples()
    with np.errstate(invalid="ignore"):
        want = x.astype(ml_dtypes.float8_e8m0fnu).view(np.uint8)
    assert np.array_equal(E8M0_CASTS["ml_dtypes"].encode(x), want)


@pytest.mark.peer
def test_torch_on_float32() -> None:
    torch = pytest.importorskip("torch")
    x = samples()
    assert np.array_equal(
        E8M0_CASTS["torch"].encode(x), torch.from_numpy(x).to(torch.float8_e8m0fnu).view(torch.uint8).numpy()
    )


@pytest.mark.peer
@pytest.mark.parametrize("name", ["gfloat", "gfloat_sat"])
def test_gfloat_on_float32(name: str) -> None:
    gfloat = pytest.importorskip("gfloat")
    from gfloat.formats import format_info_ocp_e8m0

    x = samples()[::9].astype(np.float64)
    x = x[~(np.isfinite(x) & (x < 2.0**-127))]  # it leaves the format there
    with np.errstate(all="ignore"):
        want = gfloat.round_ndarray(format_info_ocp_e8m0, x, gfloat.RoundMode.TiesToEven, name.endswith("sat"))
    want = np.where(x == -np.inf, np.nan, want)
    cast = E8M0_CASTS["gfloat"]
    codes = cast.encode(x)
    if name.endswith("sat"):
        codes = np.where((codes == 255) & (x > 0), np.uint8(254), codes)
    assert np.array_equal(format("e8m0").decode(codes), want, equal_nan=True)

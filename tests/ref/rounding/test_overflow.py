"""Every overflow preset on formats with and without infinity, NaN and sign, as the tables of its sources have it: typed in, not computed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lpref.conformance.proves import proves
from lpref.ref.errors import FormatError, NonFiniteError
from lpref.ref.formats import format
from lpref.ref.rounding import OVERFLOW

HUGE = 1e30
SOURCES = (HUGE, -HUGE, math.inf, -math.inf, math.nan)
# preset -> format -> what becomes of HUGE, -HUGE, +infinity, -infinity, NaN.
# M max, m min (of unsigned formats 0), I and i the infinities, N NaN, z -0, ! an error
TABLE = """
saturate             e4m3 MmMmN        e5m2 MmMmN         e4m3fnuz MmMmN     e2m1 MmMm!        ue4m3 MmMmN
ocp_sat              e4m3 MmMmN        e5m2 MmMmN         e4m3fnuz MmMmN     e2m1 MmMm!
ocp_nonsat           e4m3 NNNNN        e5m2 IiIiN         e4m3fnuz NNNNN     e2m1 !!!!!
to_infinity          e4m3 !!!!N        e5m2 IiIiN         e4m3fnuz !!!!N     e2m1 !!!!!
to_nan               e4m3 NNNNN        e5m2 NNNNN         e4m3fnuz NNNNN     e2m1 !!!!!
raise                e4m3 !!!!!        e5m2 !!!!!         e4m3fnuz !!!!!     e2m1 !!!!!
ml_dtypes            e4m3 NNNNN        e5m2 IiIiN         e4m3fnuz NNNNN     e2m1 MmMmz
torch                e4m3 MmMmN        e5m2 IiIiN         e4m3fnuz NNNNN
cuda_satfinite       e4m3 MmMmN        e5m2 MmMmN         e2m1 MmMmM         e3m2 MmMmM
cuda_nosat           e4m3 NNNNN        e5m2 IiIiN
onnx_sat             e4m3 MmMmN        e5m2 MmMmN         e4m3fnuz MmNNN     e5m2fnuz MmNNN
p3109_sat_finite     p3109_8p3se MmMmN p3109_8p3sf MmMmN  p3109_8p4ue MmMmN
p3109_sat_propagate  p3109_8p3se MmIiN p3109_8p3sf MmMmN  p3109_8p4ue MmImN
p3109_sat_none       p3109_8p3se IiIiN p3109_8p3sf MmMmN  p3109_8p4ue ININN
posit                posit8_2 MmNNN    posit16_1 MmNNN
"""
ROWS = [
    (preset, name, wants)
    for preset, *cells in (line.split() for line in TABLE.strip().splitlines())
    for name, wants in zip(cells[::2], cells[1::2], strict=True)
]


def is_what(value: float, want: str, name: str) -> bool:
    f = format(name)
    if want == "N":
        return math.isnan(value)
    exact = {"M": f.max, "m": f.min, "I": math.inf, "i": -math.inf, "z": -0.0}[want]
    return value == exact and math.copysign(1, value) == math.copysign(1, exact)


@proves("overflow:{preset}", "oracle")
@pytest.mark.parametrize(("preset", "name", "wants"), ROWS)
def test_presets(preset: str, name: str, wants: str) -> None:
    f = format(name)
    for x, want in zip(SOURCES, wants, strict=False):
        if want == "!":
            with pytest.raises((FormatError, NonFiniteError)):
                f.encode(np.float64(x), overflow=preset)
        else:
            value = float(f.decode(f.encode(np.float64(x), overflow=preset)))
            assert is_what(value, want, name), (x, value)


@pytest.mark.parametrize(("preset", "name", "wants"), ROWS)
def test_the_largest_value_is_no_overflow(preset: str, name: str, wants: str) -> None:
    f = format(name)
    assert f.round(np.float64([f.max, f.min]), overflow=preset).tolist() == [f.max, f.min]


def test_every_preset_has_a_row() -> None:
    assert {preset for preset, _, _ in ROWS} == set(OVERFLOW)

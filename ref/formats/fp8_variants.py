r"""e4m3_ieee, e3m4, e4m3fnuz, e5m2fnuz, e4m3b11fnuz: the other 8-bit floats.

    e4m3_ieee, e3m4: IEEE rules (infinity, NaN with e all ones), max 240 and 15.5
    *fnuz (Graphcore, AMD MI300): one zero, 80 is the only NaN, no infinity, bias one larger than IEEE's: 8 and 16
    e4m3b11fnuz: the same with bias 11 (TPU), max 30
Gradient: straight through, clipped or not, as on the page `floats`.

Source: ml_dtypes README ("float8_e4m3", "float8_e3m4", "float8_*fnuz", read), enumerated; ONNX docs/technical/float8 (FNUZ).
Pitfalls: one bit pattern is twice as large in e4m3 as in e4m3fnuz; -0 must become 00, never 80 (NaN). Without
saturation overflow and infinity are NaN in FNUZ; ONNX's saturating table sends infinity to NaN, finite overflow to
max (`onnx_sat`), though onnx 1.23 saturate_cast itself gives 240 for infinity in e4m3fnuz (onnx issue 6220, PR 7085).

>>> E4M3FNUZ.encode([-0.0, 240.0, -1.0]).tolist(), float(E4M3FNUZ.decode(0x48))
([0, 127, 192], 2.0)
"""

from __future__ import annotations

from lpref.ref.formats.floats import FloatFormat, exmy


def _variant(name: str, e: int, m: int, specials: str, bias: int, title: str) -> FloatFormat:
    return exmy(
        name, e, m, specials=specials, bias=bias, title=title, standard="ml_dtypes README; ONNX docs/technical/float8",
        source_level="read", module=__name__,
    )  # fmt: skip


E4M3_IEEE = _variant("e4m3_ieee", 4, 3, "ieee", 7, "E4M3 with IEEE specials")
E3M4 = _variant("e3m4", 3, 4, "ieee", 3, "E3M4 with IEEE specials")
E4M3FNUZ = _variant("e4m3fnuz", 4, 3, "fnuz", 8, "E4M3 FNUZ (bias 8)")
E5M2FNUZ = _variant("e5m2fnuz", 5, 2, "fnuz", 16, "E5M2 FNUZ (bias 16)")
E4M3B11FNUZ = _variant("e4m3b11fnuz", 4, 3, "fnuz", 11, "E4M3 FNUZ with bias 11")

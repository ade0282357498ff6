"""Rows say where they come from, and their status comes from the evidence."""

from __future__ import annotations

import json

import pytest

import lpref
from lpref.conformance.proves import LEVELS
from lpref.ref.errors import LprefError
from lpref.trainer import catalog, pages, status

KINDS = ["formats", "roundings", "overflow", "scale-rules", "accumulators", "quantizers", "optimizers", "attention"]


@pytest.mark.parametrize("kind", [*KINDS, "schedules"])
def test_every_row_has_a_title_a_source_and_its_level(kind: str) -> None:
    for row in catalog.rows(kind):
        assert row["title"], row
        assert row["standard"], row
        assert row["source_level"] in ("read", "secondary", "memory"), row
        assert row["module"].startswith("lpref.ref."), row


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_every_row_says_what_it_is_and_after_what(kind: str) -> None:
    for row in catalog.rows(kind):
        assert row["title"], row
        assert row["standard"], row
        assert row["module"], row


def test_methods_hold_all_kinds() -> None:
    methods = {(row["kind"], row["name"]) for row in catalog.rows("methods")}
    assert {(row["kind"], row["name"]) for kind in KINDS for row in catalog.rows(kind)} <= methods


def test_a_page_says_its_source() -> None:
    assert pages.page("lpref.ref.scaling.mx").source.startswith("OCP Microscaling Formats (MX) v1.0 sec. 5.1, 5.4 and 6.3; ")
    assert "Source level" not in pages.page("lpref.ref.scaling.mx").source
    assert pages.page("lpref.ref.scaling.mx").source_level == "read"
    assert pages.page("") == pages.Page()


def test_status_is_what_passed(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    entries = [
        ("e4m3", "oracle", "passed"), ("e4m3", "cpu", "passed"), ("e4m3", "cpu", "failed"), ("e4m3", "cuda", "skipped"),
        ("nf4", "oracle", "passed"), ("quantizer:nf4", "cpu", "passed"),
    ]  # fmt: skip
    text = json.dumps([dict(name=n, level=l, test=f"t::{i}", device="", commit="", result=r) for i, (n, l, r) in enumerate(entries)])
    (tmp_path / "evidence.json").write_text(text)
    monkeypatch.setattr(status.importlib.resources, "files", lambda package: tmp_path)
    status.evidence.cache_clear()
    try:
        assert status.status("format", "e4m3") == ["oracle"]
        assert status.status("format", "nf4") == ["oracle"]
        assert status.status("quantizer", "nf4") == ["cpu"]
        assert status.status("format", "e5m2") == []
    finally:
        status.evidence.cache_clear()


def test_every_claim_is_about_a_registered_name() -> None:
    rows = {(row["kind"], row["name"]) for row in catalog.rows("methods")}
    for name, levels in status.evidence().items():
        kind, colon, rest = name.partition(":")
        assert levels <= set(LEVELS)
        if colon and kind in status.NAMES:
            assert (kind, rest.partition(":")[0]) in rows, name  # parameters may follow: mxfp4:scale=rceil
        elif not status.owner(name):
            lookups = (lpref.format, lpref.quantizer)  # members of families, quantizers with parameters
            assert any(found(lookup, name) for lookup in lookups), f"{name}: not a registered name"


def found(lookup, name: str) -> bool:
    try:
        lookup(name)
    except LprefError:
        return False
    return True


FAMILIES = {  # what the specification covers, family by family, and the names that stand for it
    "ExMy and the wide formats": "float32 float64 binary16 bfloat16 tf32",
    "OCP FP8": "e4m3 e5m2",
    "other 8-bit floats": "e4m3fnuz e5m2fnuz e4m3b11fnuz e3m4 e4m3_ieee",
    "FP6 and FP4": "e2m3 e3m2 e2m1",
    "scale formats": "e8m0 ue4m3 ue5m3",
    "P3109": "p3109_8p3se p3109_8p4se p3109_8p1se p3109_8p3sf p3109_8p4ue p3109_8p1uf",
    "HiFloat8": "hif8",
    "posits, takums": "posit8_0 posit8_1 posit8_2 posit16_1 posit16_2 posit4_1 takum8_linear takum16_linear",
    "logarithms and powers of two": "lns8_g8 pot4 apot4_k2",
    "FloatSD and radix 4": "floatsd8 radix4_fp4",
    "code books": "nf4 bnb_fp4 af4 dynamic8 dynamic8_unsigned quantizer:nf4 quantizer:nf4_double",
    "integers": "int8 int4 uint8 int16 quantizer:int8_row quantizer:uint8_affine quantizer:int8_affine_row quantizer:uint4_affine_group",
    "fixed point": "fixed16.8 quantizer:dfp16",
    "Flexpoint": "quantizer:flexpoint16",
    "S2FP8": "quantizer:s2fp8",
    "block floating point": "quantizer:bfp8_b16 quantizer:hbfp8 quantizer:msfp12",
    "binary and ternary": "binary ternary quantizer:binary_absmean quantizer:ternary_twn quantizer:ternary_absmean quantizer:trit_planes",
    "complex": "complex_quartic scale-rule:quartic",
    "roundings": "nearest_even nearest_away nearest_toward_zero toward_zero toward_positive toward_negative to_odd",
    "stochastic roundings": "stochastic stochastic_b stochastic_c stochastic_odd stochastic_uniform",
    "overflow": "saturate ocp_sat ocp_nonsat ml_dtypes torch cuda_satfinite onnx_sat p3109_sat_none",
    "amax scales": "scale-rule:amax scale-rule:te quantizer:fp8_tensor quantizer:fp8_row",
    "DeepSeek tiles": "quantizer:fp8_tile1x128 quantizer:fp8_block128 quantizer:fp8_deepgemm",
    "MX": "scale-rule:mx quantizer:mxfp8_e4m3 quantizer:mxfp8_e5m2 quantizer:mxfp6_e2m3 quantizer:mxfp6_e3m2 quantizer:mxfp4 quantizer:mxint8",
    "MX scales for stochastic rounding": "quantizer:mxfp4_three_quarters quantizer:mxfp4_tetrajet",
    "NVFP4": "quantizer:nvfp4 quantizer:nvfp4_2d quantizer:nvfp4_4over6_mae quantizer:nvfp4_4over6_mse quantizer:nvfp4_torchao",
    "sums": "sequential fused pairwise blocked_64 kahan ibm_chunk64 bf16_chunk64",
    "matrix units": "hopper_fp8_fast hopper_fp8_promote128 hopper_bf16 hopper_fp16 ampere_fp16 volta_fp16 blackwell_mxf4nvf4",
    "exact and integer sums": "exact int32_wrap int32_saturate int16_saturate",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_proved_against_the_oracle_and_on_the_cpu(family: str) -> None:
    """`python3 dev.py evidence` records what the tests marked `proves` prove."""
    for name in FAMILIES[family].split():
        kind, colon, rest = name.partition(":")
        levels = status.status(kind, rest) if colon else status.status(status.owner(name), name)
        assert {"oracle", "cpu"} <= set(levels), f"{name}: {levels}"

"""`lpref list` and `lpref show`: pages, values in a format, error profiles."""

from __future__ import annotations

import json

import pytest

from lpref.ref.quantize import QUANTIZERS
from lpref.ref.scaling import PAGES

from .conftest import run

KINDS = """formats roundings overflow scale-rules accumulators quantizers recipes optimizers schedules attention models datasets experiments targets
backends kernels methods"""


@pytest.mark.parametrize("kind", KINDS.split())
def test_list(kind: str) -> None:
    from lpref.trainer.catalog import COLUMNS

    rows = json.loads(run("list", kind, "--json").stdout)
    assert all(set(COLUMNS) <= set(row) for row in rows)
    assert len({row["name"] for row in rows}) == len(rows) or kind == "methods"
    assert run("list", kind).exit_code == 0


@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantizer_pages_state_their_special_cases(name: str) -> None:
    """Zero blocks, NaN, infinity and tails stand on every page (casts have no blocks)."""
    page = run("show", f"quantizer:{name}").output
    words = (
        ("Zero", "NaN", "nfini", f"tail {QUANTIZERS[name].tail}")
        if QUANTIZERS[name].scale.rule != "none"
        else ("No scale", "infinity=", "nan=", "tail error")
    )
    assert [word for word in words if word not in page] == []


def test_scale_rules_have_titles_and_pages() -> None:
    rows = json.loads(run("list", "scale-rules", "--json").stdout)
    assert {row["name"] for row in rows} == {"none", *PAGES}
    assert all(row["title"] and row["module"] for row in rows)


def test_show_pages() -> None:
    e2m1 = json.loads(run("show", "e2m1", "--json").stdout)
    assert [v["value"] for v in e2m1["values"][:8]] == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert e2m1["layout"] == "s ee m"
    page = run("show", "e4m3").output
    assert "448" in page
    assert "s eeee mmm" in page
    paths = json.loads(run("show", "nvfp4", "--paths", "--json").stdout)["paths"]
    assert any(row["path"] == "linear.wgrad.a.quantizer.rounding" and row["value"] == "stochastic" for row in paths)
    differences = json.loads(run("show", "nvfp4", "--diff", "mxfp4", "--json").stdout)["differences"]
    assert any(row["path"] == "name" for row in differences)
    assert run("show", "quantizer:nvfp4").output.startswith("quantizer") or "blocks 1 x 16" in run("show", "quantizer:nvfp4").output
    assert "betas" in run("show", "adamw").output
    assert run("show", "nvfp4", "--diff", "nvfp4").output == "no difference\n"


def test_show_a_value_in_a_format() -> None:
    found = json.loads(run("show", "e2m1", "--value", "5/2", "--json").stdout)["value"]
    assert found["lower"] == {"value": 2.0, "code": 4}
    assert found["nu"] == 0.5
    assert found["roundings"]["nearest_even"]["value"] == 2.0
    assert found["roundings"]["nearest_away"]["relative_error"] == 0.2
    text = run("show", "e4m3", "--value", "0x1.dp+8").output
    assert "none: x is outside the range" in text
    assert "toward_zero" in text
    for no_number in ("much", "abc"):  # float.fromhex alone would take the second for 2748
        assert run("show", "e4m3", "--value", no_number).exit_code == 2
    assert "none: x is no number" in run("show", "e4m3", "--value", "nan").output
    assert run("show", "nvfp4", "--value", "1").exit_code == 2
    assert "no code" in run("show", "e2m1", "--value", "nan").output


def test_show_an_error_profile() -> None:
    assert "4 values a binade       11.1 %" in run("show", "e5m2").output
    profile = json.loads(run("show", "bfloat16", "--json").stdout)["error_profile"]
    assert {b["values"] for b in profile if b["exponent"] >= -126} == {128}
    assert json.loads(run("show", "float32", "--json").stdout)["error_profile"] == []

"""Rows say where they come from, and their status comes from the evidence."""

from __future__ import annotations

import json

import pytest

import lpref
from lpref.conformance.proves import LEVELS
from lpref.ref.errors import LprefError
from lpref.trainer import catalog, pages, status

KINDS = ["formats", "roundings", "overflow", "scale-rules", "accumulators", "quantizers"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_has_a_title_a_source_and_its_level(kind: str) -> None:
    for row in catalog.rows(kind):
        assert row["title"], row
        assert row["standard"], row
        assert row["source_level"] in ("read", "secondary", "memory"), row
        assert row["module"].startswith("lpref.ref."), row


def test_methods_hold_all_kinds() -> None:
    methods = {(row["kind"], row["name"]) for row in catalog.rows("methods")}
    assert {(row["kind"], row["name"]) for kind in KINDS for row in catalog.rows(kind)} <= methods


def test_a_page_says_its_source() -> None:
    assert pages.page("lpref.ref.scaling.mx").source.startswith("OCP Microscaling Formats (MX) v1.0 sec. 6.3; ")
    assert "Source level" not in pages.page("lpref.ref.scaling.mx").source
    assert pages.page("lpref.ref.scaling.mx").source_level == "secondary"
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

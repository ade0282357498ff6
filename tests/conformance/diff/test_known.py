from __future__ import annotations

import pytest

from lpref.conformance.diff import blocks, classes, others
from lpref.conformance.diff.known import known, read, version_in
from lpref.conformance.diff.models import MODELS
from lpref.conformance.targets import TARGETS, builtin
from lpref.ref.errors import SpecError

ENTRY = """
- {id: a, package: torch, versions: "*", op: cast, becomes: {via: float32}, reason: r, source: s, source_level: read}
"""


def test_every_entry_says_what_is_needed() -> None:
    rows = {"cast": classes.CLASSES, "quantize": blocks.CLASSES}
    results = {"cast": classes.RESULTS, "quantize": blocks.RESULTS, "optimizer": others.RESULTS}
    for k in known():
        assert k.package in TARGETS, k.id
        assert k.reason.endswith("."), k.id
        assert k.source, k.id
        assert k.versions, k.id
        assert k.id.startswith(k.package), k.id
        assert set(k.classes) <= set(rows.get(k.op, k.classes)), k.id
        assert set(k.becomes.get("result", ())) <= set(results[k.op]), k.id
        assert k.becomes.get("model", "torchao_nvfp4") in MODELS, k.id
        assert any(k.covers(k.package, version(k.versions), case) for case in matrix_cases(k.package)), f"{k.id} covers no case"


def version(wanted: str) -> str:
    """A version that satisfies the comparisons: the lowest."""
    return wanted.split(",")[0].lstrip(">=")


def matrix_cases(name: str):  # type: ignore[no-untyped-def]
    from lpref.conformance.matrix import cases

    assert builtin(name).name == name
    return cases(name)


def test_versions() -> None:
    assert version_in("0.6.0", ">=0.4,<0.7")
    assert not version_in("0.7.1", ">=0.4,<0.7")
    assert version_in("2.13.0+cpu", ">=2.13")
    assert version_in("7bc4195", "==7bc4195")
    assert not version_in("source 00ff", "==7bc4195")
    with pytest.raises(SpecError, match="cannot read '~=1'"):
        version_in("1.0", "~=1")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ENTRY.replace("reason: r, ", ""), "a: no reason"),
        (ENTRY.replace("reason", "because"), "unknown field 'because'"),
        (ENTRY.replace("level: read", "level: sure"), "source_level: 'sure'"),
        (ENTRY + ENTRY, "a: twice"),
    ],
)
def test_wrong_files_are_refused(text: str, problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        read(text)

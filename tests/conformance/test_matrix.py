from __future__ import annotations

import pytest

from lpref.conformance import matrix
from lpref.conformance.diff.known import known
from lpref.conformance.targets import TARGETS


def test_the_page_is_what_the_kept_results_say() -> None:
    assert matrix.PAGE.read_text(encoding="utf-8") == matrix.render(matrix.load())


def test_nothing_kept_is_unexplained_and_no_entry_is_idle() -> None:
    results = matrix.load()
    assert set(results) == set(TARGETS)
    used = set()
    for name, result in results.items():
        assert result["version"], name
        for report in result["cases"]:
            assert report["status"] in ("same", "explained"), (name, report["case"], report["error"])
            used |= {c["known"] for c in report["cells"]}
        assert {str(c.fields()) for c in matrix.cases(name)} == {str(r["case"]) for r in result["cases"]}, name
    idle = {k.id for k in known()} - used - {"torch-e4m3-overflow-nan-before-2.13"}  # about versions older than the measured one
    assert not idle


@pytest.mark.peer
@pytest.mark.parametrize("name", ["ml_dtypes", "onnx", "cuda_headers", "mmaemu"])
def test_the_kept_results_are_what_is_measured(name: str) -> None:
    from lpref.conformance.targets import builtin

    kept = matrix.load()[name]
    if builtin(name).available or builtin(name).version != kept["version"]:
        pytest.skip(f"{name} {kept['version']} is not installed")
    measured = matrix.plain(matrix.measure(name))
    for mine, theirs in zip(measured["cases"], kept["cases"], strict=True):
        assert {k: v for k, v in mine.items() if k != "examples"} == {k: v for k, v in theirs.items() if k != "examples"}

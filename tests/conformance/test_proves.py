"""The mark, the recording, and the evidence that stands in the tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lpref.conformance import plugin, proves
from lpref.conformance.proves import Entry, merge, read, write

ROOT = Path(__file__).resolve().parents[2]
EVIDENCE = ROOT / "conformance/evidence.json"
pytest_plugins = ["pytester"]

SUITE = """
    import pytest
    from lpref.conformance.proves import proves

    @proves("{name}", "oracle")
    @proves("{name}", "cpu")
    @pytest.mark.parametrize("name", ["e4m3", "e5m2"])
    def test_both(name):
        assert name != "e5m2"

    @proves("e2m1", "cpu")
    def test_skipped():
        pytest.skip("not here")

    @proves("e2m3", "cpu")
    def test_broken_by_its_fixture(tmp_path_factory, broken):
        pass

    @pytest.fixture
    def broken():
        yield
        raise RuntimeError("after the call")
"""


def record(pytester: pytest.Pytester, *options: str) -> list[dict]:
    pytester.makepyfile(test_them=SUITE)
    pytester.runpytest("-p", "lpref.conformance.plugin", "--lpref-evidence", "e.json", "--lpref-device", "here", *options)
    return json.loads((pytester.path / "e.json").read_text())


def test_recording(pytester: pytest.Pytester) -> None:
    rows = record(pytester)
    found = {(r["name"], r["level"]): r["result"] for r in rows}
    assert found == {
        ("e4m3", "oracle"): "passed", ("e4m3", "cpu"): "passed", ("e5m2", "oracle"): "failed", ("e5m2", "cpu"): "failed",
        ("e2m1", "cpu"): "skipped", ("e2m3", "cpu"): "failed",
    }  # fmt: skip
    assert rows[0] == {
        "name": "e2m1", "level": "cpu", "test": "test_them.py::test_skipped", "device": "here", "commit": "", "result": "skipped", "cases": 0,
    }  # fmt: skip
    text = (pytester.path / "e.json").read_text()
    assert [json.dumps(r, sort_keys=True) for r in rows] == [line.rstrip(",") for line in text.splitlines()[1:-1]]
    assert record(pytester) == rows
    assert (pytester.path / "e.json").read_text() == text


def test_cases_of_one_test_are_one_entry() -> None:
    outcomes = [("x", "cpu", "t.py::f[a-b]", "passed"), ("x", "cpu", "t.py::f[b-c]", "passed"), ("x", "cpu", "t.py::f[c]", "skipped")]
    assert proves.summary(outcomes, {"": "here"}, "1") == [Entry("x", "cpu", "t.py::f", "here", "1", "passed", 2)]
    (entry,) = proves.summary([*outcomes, ("x", "cpu", "t.py::f[d]", "failed")], {"": "here"}, "1")
    assert entry.result == "failed"
    (entry,) = proves.summary(outcomes[2:], {"": "here"}, "1")
    assert (entry.result, entry.cases) == ("skipped", 0)


def test_recording_of_a_distributed_run(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    assert record(pytester, "-n1") == record(pytester, "-n0")


def test_a_level_must_be_known() -> None:
    with pytest.raises(ValueError, match="level 'gpu'; known: oracle, vectors"):
        proves.proves("e4m3", "gpu")


def test_merge_keeps_what_the_run_says_nothing_about(tmp_path: Path) -> None:
    for name in ("test_a.py", "test_b.py"):
        (tmp_path / name).touch()
    old = [
        Entry("x", "cpu", "test_a.py::gone", "here", "1", "passed", 3),
        Entry("x", "cuda", "test_a.py::gpu", "there", "1", "passed"),
        Entry("y", "cpu", "test_b.py::stays", "here", "1", "passed"),
        Entry("z", "cpu", "test_c.py::file_gone", "here", "1", "passed"),
    ]
    new = [Entry("x", "cpu", "test_a.py::new", "here", "2", "passed")]
    merged = merge(old, new, {"test_a.py"}, tmp_path)
    assert [e.test for e in merged] == ["test_a.py::new", "test_a.py::gpu", "test_b.py::stays"]
    write(tmp_path / "e.json", merged)
    assert read(tmp_path / "e.json") == merged


def test_every_recorded_claim_has_its_test(request: pytest.FixtureRequest) -> None:
    """Fails where evidence.json claims what no collected test is marked with; `python3 dev.py evidence` records anew."""
    claimed = request.config.stash[plugin.CLAIMED]
    marked = {(*claim, proves.function(test)) for test, found in claimed.items() for claim in found}
    in_part = {argument.partition("::")[0] for argument in request.config.args if "::" in argument}
    collected = {item.nodeid.partition("::")[0] for item in request.session.items} | {test.partition("::")[0] for test in claimed}
    collected -= {str(Path(file).resolve().relative_to(ROOT)) for file in in_part}
    for entry in read(EVIDENCE):
        assert (ROOT / entry.file).is_file(), f"{entry.name} {entry.level}: {entry.file} is gone"
        assert entry.result in ("passed", "skipped"), f"{entry.name} {entry.level}: {entry.test} {entry.result}"
        if entry.file in collected:
            assert (entry.name, entry.level, entry.test) in marked, (
                f"{entry.name} {entry.level}: {entry.test} is not marked with it any more"
            )

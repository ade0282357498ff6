"""Order-2 model, charts, overrides, run folders, doctor: one test each where one is enough."""

from __future__ import annotations

import math
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from lpref.ref.errors import CheckpointError, OutputError, SpecError
from lpref.trainer import doctor, runfolder
from lpref.trainer.ngram import order2_bits_per_byte
from lpref.trainer.overrides import apply_overrides
from lpref.trainer.svg import Series, bar_chart, line_chart, ticks


def test_order2_model_is_a_distribution_and_a_bar() -> None:
    train = np.frombuffer(b"abracadabra " * 20, np.uint8)
    p = [
        2 ** -(2 * order2_bits_per_byte(train, np.array([97, 98, c, 0], np.uint8)) - _last(train, 98, c))
        for c in range(256)
    ]
    assert math.isclose(sum(p), 1.0, rel_tol=1e-9)
    noise = np.frombuffer(np.random.default_rng(0).bytes(40000), np.uint8) & 3
    assert math.isclose(order2_bits_per_byte(noise[:30000], noise[30000:]), 2.0, abs_tol=0.02)


def _last(train: np.ndarray, y: int, z: int) -> float:
    """Bits of the byte 0 after (y, z): the second of the two predictions above."""
    return order2_bits_per_byte(train, np.array([y, z, 0], np.uint8))


def test_charts_are_wellformed_and_escape() -> None:
    chart = line_chart(
        [Series("a<b", [0, 1, 2], [1.0, math.nan, 3.0]), Series("band", [0, 2], [2, 2], [1, 1], [3, 3])],
        title="t & u",
        x_label="x",
        y_label="y",
    )
    root = ElementTree.fromstring(chart)
    text = "".join(root.itertext())
    assert "a<b" in text
    assert "t & u" in text
    assert chart.count("<circle") == 2  # the broken line's two single points
    ElementTree.fromstring(line_chart([], title="empty", x_label="x", y_label="y"))
    ElementTree.fromstring(bar_chart(["-6", "6"], [0.0, 0.0], title="zero", x_label="", y_label=""))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.9), (1e-6, 2e-6), (5, 5), (1e9, 3e9)])
def test_ticks_cover_without_crowding(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 1 <= len(found) <= 12
    assert all(low - 1e-9 * abs(low) <= t <= max(high, low + 1) * (1 + 1e-9) for t in found)


def test_overrides_collect_every_problem() -> None:
    with pytest.raises(SpecError) as caught:
        apply_overrides({"train": {"steps": 1}}, ["nonsense", "=1", "train.steps.x=2"], lambda t: t)
    assert len(caught.value.problems) == 3


def test_recipe_paths_become_a_changed_recipe() -> None:
    out = apply_overrides(
        {"recipe": "nvfp4"}, ["recipe.linear.wgrad.output=bfloat16", "recipe.linear.fprop.output=e4m3"], lambda t: t
    )
    assert out == {
        "recipe": {"base": "nvfp4", "set": {"linear.wgrad.output": "bfloat16", "linear.fprop.output": "e4m3"}}
    }


def test_a_folder_with_something_in_it_is_refused_and_foreign_files_survive(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds thesis\.txt"):
        runfolder.create(tmp_path)
    folder = runfolder.create(tmp_path, overwrite=True)
    folder.spec.write_text("x")
    runfolder.create(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert not folder.spec.exists()


def test_a_folder_that_a_run_left_before_its_first_file_is_free(tmp_path: Path) -> None:
    """Killed between `create` and the rename of spec.yaml: nothing of it can be resumed, nothing is lost."""
    run = tmp_path / "run"
    runfolder.create(run)
    (run / ".tmp-17-spec.yaml").write_text("half")
    (run / ".lock").touch()
    folder = runfolder.create(run)
    assert sorted(entry.name for entry in run.iterdir() if entry.name != ".lock") == ["checkpoints"]
    (folder.checkpoints / "step-1").mkdir()
    with pytest.raises(OutputError, match="holds"):
        runfolder.check_free(run)
    runfolder.check_free(run, overwrite=True)


def test_two_writers_are_refused(tmp_path: Path) -> None:
    folder = runfolder.create(tmp_path / "run")
    with folder.lock(), pytest.raises(OutputError, match="another process"):
        folder.lock()
    folder.lock().close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_parent_is_typed(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        runfolder.create(tmp_path / "run")


def test_resuming_what_is_no_run(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(CheckpointError):
            runfolder.reopen(path)


def test_canaries_sing_here_and_a_bad_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [c["ok"] for c in doctor.canaries()] == [True] * 3
    monkeypatch.setattr(doctor.np, "full", lambda n, v, d: np.zeros(n, d) if v == 2.0**-126 else np.ones(n, d) * d(v))
    assert [c["ok"] for c in doctor.canaries()] == [False, True, True]

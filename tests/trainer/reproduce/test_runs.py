"""Figures are found once: the ledger, equal runs of several experiments, and what a kept file spares."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from lpref.ref.errors import OutputError, SpecError, UnknownNameError
from lpref.trainer.reproduce import figures, runs
from lpref.trainer.reproduce.experiment import Expectation, Experiment, experiment
from lpref.trainer.reproduce.ledger import Found, Ledger
from lpref.trainer.reproduce.results import reproduce, text

from .planted import PLANTED

OTHER = {**PLANTED, "name": "other", "arms": {"same": {"quantizer": "mxfp4"}, "third": {"quantizer": "mxfp6_e2m3"}},
         "expect": (Expectation(less="same", more="third"),), "control": ()}  # fmt: skip


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(arm, seed) of every figure that is found."""
    seen: list[tuple[str, int]] = []
    found = figures.figure

    def figure(one: Any, arm: str, seed: int, *rest: Any) -> Found:
        seen.append((arm, seed))
        return found(one, arm, seed, *rest)

    monkeypatch.setattr(runs.figures, "figure", figure)
    return seen


def test_a_ledger_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "figures.jsonl"
    Ledger(path).put("a", Found(math.inf, 1.5, "cpu", "a", "1"), "T1", "arm", 1)
    Ledger(path).put("b", Found(0.1, 2.5, "cuda", "b", "2"), "T1", "arm", 2)
    assert Ledger(path).found == {"a": Found(math.inf, 1.5, "cpu", "a", "1"), "b": Found(0.1, 2.5, "cuda", "b", "2")}


def test_a_torn_line_is_cut_off_and_any_other_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "figures.jsonl"
    Ledger(path).put("a", Found(1.0, 1.0, "cpu", "a", "1"), "T1", "arm", 1)
    whole = path.read_text()
    path.write_text(whole + '{"key": "b", "val')
    assert list(Ledger(path).found) == ["a"]
    assert path.read_text() == whole
    path.write_text('{"key": "b"}\n')
    with pytest.raises(OutputError, match="line 1 is not a figure"):
        Ledger(path)


def test_equal_runs_of_two_experiments_happen_once(tmp_path: Path, counted: list[tuple[str, int]]) -> None:
    first, second = reproduce([Experiment(**PLANTED), Experiment(**OTHER)], seeds=2, out=tmp_path)
    assert counted == [("coarse", 1), ("coarse", 2), ("fine", 1), ("fine", 2), ("third", 1), ("third", 2)]
    assert first["figures"]["coarse"] == second["figures"]["same"]


def test_figures_of_a_call_that_was_killed_are_not_found_again(tmp_path: Path, counted: list[tuple[str, int]]) -> None:
    (whole,) = reproduce([Experiment(**PLANTED)], seeds=2, out=tmp_path)
    ledger = tmp_path / "figures.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:3]))
    counted.clear()
    (again,) = reproduce([Experiment(**PLANTED)], seeds=2, out=tmp_path)
    assert counted == [("fine", 2)]
    assert again["figures"] == whole["figures"]


def test_a_kept_result_stands_until_the_experiment_changes(tmp_path: Path, counted: list[tuple[str, int]]) -> None:
    keep = tmp_path / "kept.json"
    reproduce([Experiment(**PLANTED)], seeds=2, out=tmp_path / "1", keep=keep)
    counted.clear()
    (kept,) = reproduce([Experiment(**PLANTED)], seeds=2, out=tmp_path / "2", keep=keep)
    assert counted == []
    assert kept == json.loads(keep.read_text())["planted"]
    reproduce([Experiment(**PLANTED)], seeds=2, out=tmp_path / "3", keep=keep, again=True)
    reproduce([Experiment(**PLANTED | {"expect": (Expectation(less="coarse", more="fine", by=0.1),)})], seeds=2, out=tmp_path / "4", keep=keep)
    reproduce([Experiment(**PLANTED)], seeds=3, out=tmp_path / "5", keep=keep)
    assert len(counted) == 4 + 4 + 6


def test_a_kept_result_of_the_same_settings_stands_in_for_what_another_machine_would_find(tmp_path: Path, counted: list[tuple[str, int]]) -> None:
    keep = tmp_path / "kept.json"
    reproduce([Experiment(**PLANTED)], seeds=2, out=tmp_path / "1", keep=keep)
    elsewhere = json.loads(keep.read_text())
    elsewhere["planted"] |= {"sha256": "other numerics", "where": {**elsewhere["planted"]["where"], "commit": "elsewhere"}}
    keep.write_text(json.dumps(elsewhere))
    counted.clear()
    (found,) = reproduce([Experiment(**PLANTED)], seeds=2, out=tmp_path / "2", keep=keep, reuse="settings")
    assert (counted, found["where"]["commit"]) == ([], "elsewhere")
    for name, change in {"arm": {"arms": {**PLANTED["arms"], "coarse": {"quantizer": "nvfp4"}}}, "seeds": {"first_seed": 2},
                         "sign": {"expect": (Expectation(less="coarse", more="fine", by=0.1),)}}.items():  # fmt: skip
        keep.write_text(json.dumps(elsewhere))
        (other,) = reproduce([Experiment(**PLANTED | change)], seeds=2, out=tmp_path / name, keep=keep, reuse="settings")
        assert (len(counted), other["where"]["commit"] != "elsewhere") == (4, True), name
        counted.clear()
    keep.write_text(json.dumps(elsewhere))
    reproduce([Experiment(**PLANTED)], seeds=2, out=tmp_path / "3", keep=keep)
    assert len(counted) == 4


def test_reuse_needs_a_file_of_kept_results(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--reuse settings: it takes the results of --keep's file"):
        reproduce([Experiment(**PLANTED)], out=tmp_path, reuse="settings")


def test_seeds_begin_where_the_experiment_says(tmp_path: Path, counted: list[tuple[str, int]]) -> None:
    (found,) = reproduce([Experiment(**PLANTED, first_seed=1001)], seeds=2, out=tmp_path)
    assert counted == [("coarse", 1001), ("coarse", 1002), ("fine", 1001), ("fine", 1002)]
    assert (found["first_seed"], "2 seeds from 1001 on, " in text(found)) == (1001, True)
    with pytest.raises(SpecError, match="first_seed: 0; the first is 1"):
        Experiment(**PLANTED, first_seed=0)


def test_processes_find_the_same_figures(tmp_path: Path) -> None:
    one, two = (reproduce([Experiment(**PLANTED), Experiment(**OTHER)], seeds=2, out=tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    assert [r["figures"] for r in one] == [r["figures"] for r in two]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_cannot_run_loses_no_other_figure(tmp_path: Path, jobs: int) -> None:
    bad = {**PLANTED, "name": "bad", "arms": {**OTHER["arms"], "none": {"quantizer": "mxfp4", "distribution": "luck"}},
           "expect": (Expectation(less="same", more="third"),), "control": ()}  # fmt: skip
    keep = tmp_path / "kept.json"
    with pytest.raises(UnknownNameError, match="luck"):
        reproduce([Experiment(**bad), Experiment(**PLANTED)], seeds=2, out=tmp_path, jobs=jobs, keep=keep)
    assert list(json.loads(keep.read_text())) == ["planted"]
    assert len(Ledger(tmp_path / "figures.jsonl").found) == 6


def test_the_text_has_claim_interval_verdict_time_device_and_data(tmp_path: Path) -> None:
    train = {"measure": "", "train": "train/ci_gpt", "common": {"train.steps": 2, "train.stats_every": 0, "data.valid_windows": 2},
             "arms": {"coarse": {"recipe": "mxfp4"}, "fine": {"recipe": "fp32"}}}  # fmt: skip
    (found,) = reproduce([Experiment(**PLANTED | train)], seeds=2, backend="cpu", out=tmp_path)
    printed = text(found)
    for part in ("claim: shrinks (none)", "fine - coarse > 0: ", "[", f"-> {found['verdict']}; 2 seeds, ", " s of one process, cpu on ",
                 f"data {found['where']['data_sha256'][:12]}", f"commit {found['where']['commit']}"):  # fmt: skip
        assert part in printed, part


def test_arms_that_share_their_runs_go_to_one_process() -> None:
    """Those of a seed; runs of their own go alone."""
    whole = experiment("T15-full")
    jobs = [runs.Job(f"{arm}{seed}", whole, arm, seed) for arm in whole.arms for seed in (1, 2)]
    alone = runs.Job("coarse", Experiment(**PLANTED), "coarse", 1)
    groups = [[(job.arm, job.seed) for job in group] for group in runs._grouped([alone, *jobs])]
    assert groups == [[("coarse", 1)], *([(arm, seed) for arm in whole.arms] for seed in (1, 2))]


def test_a_measurement_trains_where_it_is_told_to() -> None:
    """The experiment's backend, or the one that is asked for; a measurement that says none has none."""
    whole = experiment("T15-full")
    assert whole.common["backend"] == "auto"
    assert [figures.fields_of(whole, "size", backend)["backend"] for backend in ("cpu", "cuda")] == ["cpu", "cuda"]
    assert figures.fields_of(whole, "size", None)["backend"] in ("cpu", "cuda")
    assert "backend" not in figures.fields_of(Experiment(**PLANTED), "coarse", "cuda")


def test_an_interrupt_takes_the_runs_that_wait_with_it() -> None:
    waiting: list[Future[None]] = []
    with pytest.raises(KeyboardInterrupt):
        _interrupted(waiting)
    assert sum(one.cancelled() for one in waiting) >= 30


def _interrupted(waiting: list[Future[None]]) -> None:
    with runs.pool(2) as executor:
        assert executor is not None
        waiting += [executor.submit(time.sleep, 0.5) for _ in range(40)]
        raise KeyboardInterrupt


KILLED = """
import os, time
from lpref.trainer.reproduce.runs import pool
if __name__ == "__main__":
    with pool(2) as executor:
        print(executor.submit(os.getpid).result(), flush=True)
        executor.submit(time.sleep, 600).result()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says which processes run")
def test_a_process_of_the_pool_ends_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()
    for _ in range(200):
        if not _runs(child):
            break
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False

"""The experiments that come with the package, and the command that runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lpref.cli.main import main
from lpref.ref.errors import SpecError, UnknownNameError
from lpref.trainer.reproduce import figures
from lpref.trainer.reproduce.experiment import Expectation, Experiment, experiment, experiment_names
from lpref.trainer.reproduce.results import reproduce

from .planted import PLANTED


@pytest.mark.parametrize("name", experiment_names())
def test_an_experiment_is_ready_to_run(name: str) -> None:
    one = experiment(name)
    assert one.name == name
    assert one.control, "an experiment has a control"
    assert all(sign.says for sign in (*one.expect, *one.control))
    figures.check(one)


def test_a_result_says_what_was_found(tmp_path: Path) -> None:
    lines: list[str] = []
    (found,) = reproduce([Experiment(**PLANTED)], seeds=3, out=tmp_path, echo=lines.append)
    assert found["verdict"] == "agrees"
    assert not found["control_holds"]
    assert list(found["figures"]) == ["coarse", "fine"]
    assert all(len(values) == 3 for values in found["figures"].values())
    assert found["expect"][0]["low"] <= found["expect"][0]["mean"] <= found["expect"][0]["high"]
    assert "-> agrees" in "\n".join(lines)


def test_equal_seeds_give_equal_figures(tmp_path: Path) -> None:
    one = Experiment(**PLANTED)
    first, again, other = (figures.figure(one, "coarse", seed, tmp_path).value for seed in (1, 1, 2))
    assert first == again != other


def test_runs_are_figures(tmp_path: Path) -> None:
    fields = {"measure": "", "common": {"train.steps": 3, "train.stats_every": 0, "data.valid_windows": 2}, "train": "train/ci_gpt",
              "arms": {"fp32": {"recipe": "fp32"}, "hot": {"recipe": "fp32", "optimizer.lr": 1.0}},
              "expect": (Expectation(less="fp32", more="hot"),), "control": ()}  # fmt: skip
    (found,) = reproduce([Experiment(**PLANTED | fields)], seeds=3, backend="cpu", out=tmp_path)
    assert found["verdict"] == "agrees"
    assert len(found["where"]["data_sha256"]) == 64
    assert found["where"]["backend"] == "cpu"
    folders = sorted(p.name.rpartition("-")[0] for p in (tmp_path / "planted").iterdir())
    assert folders == ["fp32-1", "fp32-2", "fp32-3", "hot-1", "hot-2", "hot-3"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"train": "train/ci_gpt"}, "not both"),
        ({"expect": (Expectation(less="coarse", more="finer"),)}, "expect.0: there is no arm 'finer'"),
        ({"seeds": 1}, "needs at least 2"),
        ({"expect": ()}, "expects something"),
    ],
)
def test_bad_experiments(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        Experiment(**PLANTED | changes)


def test_an_unknown_measurement_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="'luck' is none of"):
        reproduce([Experiment(**PLANTED | {"measure": "luck"})], out=tmp_path)


def test_the_command(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    done = CliRunner().invoke(main, ["reproduce", "t20", "--seeds", "2", "--json", "--keep", str(kept), "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["name"] == "T20"
    assert json.loads(kept.read_text())["T20"]["seeds"] == 2
    assert CliRunner().invoke(main, ["reproduce", "T99"]).exit_code == 2
    with pytest.raises(UnknownNameError):
        experiment("T99")

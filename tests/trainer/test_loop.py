"""The loop asks for as many steps as there are to the next thing that is due, and writes the same records however many it gets at once."""

from __future__ import annotations

import json

import pytest

from lpref.trainer import loop
from lpref.trainer.api import train
from lpref.trainer.passes import step_of

SMALL = {
    "model__layers": 1, "model__d_model": 32, "model__ffn": 48, "model__context": 16, "train__batch": 2, "data__valid_windows": 2, "train__sample": 0,
    "backend": "cpu", "recipe": "mxfp8",
}  # fmt: skip


class Many:
    """Stands for a device: makes all the steps that it is asked for."""

    asked: list[tuple[int, bool]]

    def __init__(self, prepared) -> None:
        self.p, self.notes = prepared, ["made in one go"]

    def steps(self, state, count, batches_of, *, collect=False):
        self.asked.append((count, collect))
        done = []
        for _ in range(count):
            state, result = step_of(self.p, state, batches_of(state.step), collect)
            done.append((state, result))
            if result.skipped:
                break
        return done

    def facts(self) -> dict:
        return {}


def records(path) -> list[dict]:
    times = ("tokens_per_s", "seconds")
    return [{k: v for k, v in json.loads(line).items() if k not in times} for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "every",
    [
        {"train__log_every": 4, "train__eval_every": 6, "train__checkpoint_every": 8, "train__stats_every": 5},
        {"train__log_every": 100, "train__eval_every": 0, "train__checkpoint_every": 0, "train__stats_every": 0},
        {"train__log_every": 1, "train__eval_every": 0, "train__checkpoint_every": 0, "train__stats_every": 3},
    ],
)
def test_records_do_not_depend_on_how_many_steps_are_made_at_once(every, tmp_path, monkeypatch, capsys) -> None:
    train("train/ci_gpt", out=tmp_path / "one", quiet=True, train__steps=13, **SMALL, **every)
    Many.asked = []
    monkeypatch.setattr(loop, "stepper", Many)
    train("train/ci_gpt", out=tmp_path / "many", quiet=True, train__steps=13, **SMALL, **every)
    assert records(tmp_path / "one") == records(tmp_path / "many")
    assert sum(count for count, _ in Many.asked) == 13
    assert Many.asked[0] == (1, False)
    assert all(count == 1 for count, collect in Many.asked if collect)
    assert (max(count for count, _ in Many.asked) > 2) == (every["train__log_every"] > 1)
    assert "made in one go" in capsys.readouterr().err

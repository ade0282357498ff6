"""What a spec of a run gets that is wrong in several ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpref.ref.errors import SpecError
from lpref.trainer.spec import load_spec


def test_a_missing_version_hides_no_other_problem_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "model: {kind: gptt}\ntrain: {steps: -4, bach: 3}\nrecipe: nope\n", encoding="utf-8"
    )
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "bad.yaml")
    assert {text.partition(":")[0] for text in caught.value.problems} == {
        "lpref",
        "model",
        "recipe",
        "train.bach",
        "train.steps",
    }

"""metrics.jsonl: whole lines, cut back on resume, columns."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from lpref.ref.errors import CheckpointError
from lpref.trainer import metrics


def test_write_read_truncate(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = metrics.MetricsWriter(path)
    for step in range(1, 6):
        writer.write({"step": step, "loss": np.float32(1 / step), "grad_norm": math.nan, "valid": {"bpb": math.inf}})
    writer.sync()
    writer.close()
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    path.write_text(path.read_text() + '{"step": 6, "lo')  # a killed process's last line
    assert [r["step"] for r in metrics.read_records(path)] == [1, 2, 3, 4, 5]
    assert metrics.truncate(path, 3) == 2
    assert [r["step"] for r in metrics.read_records(path)] == [1, 2, 3]
    assert path.read_text().endswith("}\n")


def test_an_end_record_does_not_survive_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2, "loss": 1.0}\n{"step": 2, "end": "interrupted"}\n')
    metrics.truncate(path, 2)
    assert metrics.read_records(path) == [{"step": 2, "loss": 1.0}]


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(CheckpointError, match="line 2"):
        metrics.read_records(path)


def test_columns_align_and_read_special_numbers() -> None:
    table = metrics.columns(
        [{"step": 1, "loss": "nan", "note": "text"}, {"step": 2, "loss": 2.0, "valid": {"bpb": "-inf"}}]
    )
    assert sorted(table) == ["loss", "step", "valid.bpb"]
    assert math.isnan(table["loss"][0])
    assert table["valid.bpb"][1] == -math.inf

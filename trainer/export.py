"""A report's curves in other forms: svg and csv by ourselves, png and pdf through matplotlib where it is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lpref.ref.errors import BackendError, DataError
from lpref.trainer.files import write_atomic
from lpref.trainer.report import VALID_KEYS, check_same_data, curve, groups, metric_chart, write_report
from lpref.trainer.run import Run

FORMATS = ("html", "svg", "png", "pdf", "csv")


def main_metric(runs: Sequence[Run]) -> tuple[str, str]:
    """(key, title) of what one figure shows: the validation metric, else the training loss."""
    for key, title in VALID_KEYS.items():
        if any(key in run.metrics for run in runs):
            return key, title
    return "loss", "training loss"


def csv_text(runs: Sequence[Run]) -> str:
    """Every scalar of every record: run, recipe, seed, step, key, value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "recipe", "seed", "step", "key", "value"])
    for run in runs:
        steps = run.metrics.get("step", np.array([]))
        for key, values in run.metrics.items():
            if key != "step":
                writer.writerows(
                    [str(run.path), run.recipe, run.seed, int(s), key, repr(float(v))]
                    for s, v in zip(steps, values, strict=True)
                    if v == v
                )
    return out.getvalue()


def export(runs: Sequence[Run], path: Path, form: str, *, force: bool = False) -> Path:
    """Writes `path` in one of `FORMATS`."""
    check_same_data(runs, force=force)
    if not any(run.records for run in runs):
        raise DataError(
            "no metrics recorded yet",
            where=", ".join(str(run.path) for run in runs),
            remedy="let the run take a step first",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "html":
        return write_report(runs, path, force=force)
    if form == "csv":
        write_atomic(path, csv_text(runs))
    elif form == "svg":
        write_atomic(path, metric_chart(runs, *main_metric(runs)) + "\n")
    else:
        _matplotlib(runs, path, form)
    return path


def _matplotlib(runs: Sequence[Run], path: Path, form: str) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendError(
            f"{form} needs matplotlib, which is not installed",
            where="report",
            remedy="pip install 'lpref[report]', or use --format svg",
        ) from None
    key, title = main_metric(runs)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for recipe, members in groups(runs).items():
        if line := curve(members, key, recipe):
            (drawn,) = axes.plot(line.x, line.y, label=line.label)
            if line.low is not None and line.high is not None:
                axes.fill_between(line.x, line.low, line.high, alpha=0.2, color=drawn.get_color())
    axes.set(xlabel="step", ylabel=title)
    axes.legend()
    drawn_bytes = io.BytesIO()
    figure.savefig(drawn_bytes, format=form, metadata={"CreationDate": None} if form == "pdf" else None)  # same runs, same bytes
    write_atomic(path, drawn_bytes.getvalue())

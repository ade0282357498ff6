"""``lpref compare``: one spec, several recipes, several seeds."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lpref.ref.errors import DivergedError, SpecError
from lpref.trainer.advice.columns import advice, columns, layers_html
from lpref.trainer.api import continued_run
from lpref.trainer.data import load_data
from lpref.trainer.report import VALID_KEYS, groups, write_report
from lpref.trainer.run import Run
from lpref.trainer.runfolder import check_free, default_path
from lpref.trainer.setup import check_spec
from lpref.trainer.spec import TrainSpec, load_spec, recipe_label


@dataclass(frozen=True)
class Comparison:
    """`rows`: one per recipe. `code` is 1 when a run diverged."""

    rows: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    report: Path
    code: int


def compare(
    spec: str | Path, recipes: Sequence[str], seeds: int, *, overrides: Sequence[str] = (), out: Path | None = None, backend: str | None = None,
    resume: bool = False, overwrite: bool = False, force: bool = False, quiet: bool = False,
) -> Comparison:  # fmt: skip
    """Trains every recipe with every seed, one after the other, and compares what they reached."""
    base = load_spec(spec, list(overrides) + ([f"backend={backend}"] if backend else []))
    wanted = [name.strip() for name in recipes if name.strip()]
    if not wanted or len(set(map(recipe_label, wanted))) != len(wanted):
        raise SpecError(
            [f"--recipes: {','.join(recipes)!r} must name at least one recipe, and none twice"], where="compare"
        )
    variants = [
        replace(base, recipe=recipe, train=replace(base.train, seed=base.train.seed + i))
        for recipe in wanted
        for i in range(seeds)
    ]
    data = load_data(base.data.name)
    for variant in variants[::seeds]:
        check_spec(variant, data)  # every recipe is known to be good before the first hour is spent
    root = out or default_path(f"compare-{base.name}")
    if not resume:
        check_free(root, overwrite=overwrite)
    runs = [
        _one(variant, root / f"{variant.recipe_name}-{variant.train.seed}", resume, overwrite, quiet, data)
        for variant in variants
    ]
    members = groups(runs)
    advices = {recipe: advice(of[0], data) for recipe, of in members.items()}
    rows = with_gaps([summary_row(recipe, of) for recipe, of in members.items()])
    rows = [{**row, **columns(members[row["recipe"]], advices[row["recipe"]])} for row in rows]
    report = write_report(
        runs,
        root / "report.html",
        title=f"{base.name}: {', '.join(map(recipe_label, wanted))}",
        notes=table_html(rows) + layers_html(advices),
        force=force,
    )
    return Comparison(
        rows, [run.summary() for run in runs], report, 1 if any(run.status == "diverged" for run in runs) else 0
    )


def _one(spec: TrainSpec, path: Path, resume: bool, overwrite: bool, quiet: bool, data: Any) -> Run:
    try:
        return continued_run(spec, path, resume=resume, overwrite=overwrite, quiet=quiet, data=data)
    except DivergedError as error:
        if not quiet:
            print(f"{error}", flush=True)
        return Run(path)  # a diverged run is a result of a comparison, not its end


def summary_row(recipe: str, members: Sequence[Run]) -> dict[str, Any]:
    """Mean and spread over the seeds of one recipe."""
    row: dict[str, Any] = {
        "recipe": recipe,
        "seeds": len(members),
        "diverged": sum(run.status == "diverged" for run in members),
    }
    for key in (*VALID_KEYS, "valid.loss", "loss"):
        values = np.array([run.last(key) for run in members if key in run.metrics])
        if values.size:
            row[key] = float(np.mean(values))
            row[f"{key} min..max"] = f"{np.min(values):.4f}..{np.max(values):.4f}"
    return row


def with_gaps(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the distance of each validation mean from the first recipe's, after its spread."""
    out = []
    for row in rows:
        cells: dict[str, Any] = {}
        for key, value in row.items():
            cells[key] = value
            name = key.removesuffix(" min..max")
            if name != key and name.startswith("valid.") and name in rows[0]:
                cells[f"{name} gap"] = row[name] - rows[0][name]
        out.append(cells)
    return out


def table_html(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as an HTML table."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th>{html.escape(key)}</th>" for key in keys)
    body = "".join(f"<tr>{''.join(_html_cell(row.get(key)) for key in keys)}</tr>" for row in rows)
    return f"<h2>Comparison</h2><table><tr>{head}</tr>{body}</table>"


def _html_cell(value: Any) -> str:
    return (
        f"<td>{value:.4f}</td>"
        if isinstance(value, float)
        else f"<td>{html.escape('' if value is None else str(value))}</td>"
    )

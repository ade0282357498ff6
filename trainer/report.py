"""One self-contained HTML page about one run or several: no script, no network, charts as inline SVG."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lpref.ref.errors import DataError
from lpref.trainer.files import write_atomic
from lpref.trainer.run import Run
from lpref.trainer.svg import Series, bar_chart, line_chart

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1180px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em} h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #ddd}
table{border-collapse:collapse;margin:.5em 0} th,td{padding:.2em .8em;text-align:left;border-bottom:1px solid #eee}
td.n{text-align:right;font-variant-numeric:tabular-nums} pre{background:#f6f6f6;padding:.8em;overflow:auto;font-size:13px}
.grid{display:flex;flex-wrap:wrap;gap:12px} .bad{color:#b00;font-weight:bold} summary{cursor:pointer}
"""
VALID_KEYS = {
    "valid.bits_per_byte": "validation bits per byte",
    "valid.bits_per_token": "validation bits per token",
    "valid.accuracy": "validation accuracy",
}


def check_same_data(runs: Sequence[Run], *, force: bool = False) -> None:
    """Figures on different data do not compare: a DataError, unless forced."""
    hashes = {run.data_hash for run in runs}
    if len(hashes) > 1 and not force:
        listed = ", ".join(f"{run.path}: {run.data_hash[:12]}" for run in runs)
        raise DataError(
            f"runs on {len(hashes)} different data sets ({listed})",
            where="report",
            remedy="compare runs on the same data, or pass --force",
        )


def groups(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by recipe: the members of a group are its seeds."""
    out: dict[str, list[Run]] = {}
    for run in runs:
        out.setdefault(run.recipe, []).append(run)
    return out


def curve(members: Sequence[Run], key: str, label: str) -> Series | None:
    """A group's mean over its seeds, with the band from the lowest to the highest, at the steps that all of them have."""
    curves = []
    for run in members:
        values = run.metrics.get(key)
        if values is None:
            continue
        there = ~np.isnan(values)
        curves.append(dict(zip(run.metrics["step"][there].tolist(), values[there].tolist(), strict=True)))
    if not curves:
        return None
    steps = sorted(set(curves[0]).intersection(*curves[1:]))
    table = np.array([[c[s] for s in steps] for c in curves])
    band = {} if len(curves) == 1 else {"low": np.min(table, 0).tolist(), "high": np.max(table, 0).tolist()}
    return Series(
        label if len(curves) == 1 else f"{label} ({len(curves)} seeds)", steps, np.mean(table, 0).tolist(), **band
    )


def metric_chart(runs: Sequence[Run], key: str, title: str) -> str:
    """One line per recipe; empty when no run recorded `key`."""
    lines = [line for recipe, members in groups(runs).items() if (line := curve(members, key, recipe))]
    return line_chart(lines, title=title, x_label="step", y_label=title.split(" (")[0]) if lines else ""


def loss_chart(runs: Sequence[Run]) -> str:
    """Training loss over steps."""
    return metric_chart(runs, "loss", "training loss")


def layer_series(run: Run, field: str) -> dict[str, list[Series]]:
    """{gemm/slot: one series per layer} of one field of the per-layer records."""
    table: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for record in run.records:
        for place, figures in record.get("layers", {}).items():
            site, _, operand = place.partition("/")
            if isinstance(figures.get(field), (int, float)):
                table.setdefault(operand, {}).setdefault(site, []).append((record["step"], figures[field]))
    return {
        operand: [Series(site, [x for x, _ in points], [y for _, y in points]) for site, points in sites.items()]
        for operand, sites in table.items()
    }


def layer_charts(run: Run) -> str:
    """Quantization error, overflow and underflow of every layer over time, one chart per GEMM operand."""
    out = []
    for field, title in (
        ("sqnr_db", "quantization error, SQNR in dB"),
        ("overflowed", "overflowed share"),
        ("underflowed", "underflowed share"),
    ):
        charts = [
            line_chart(lines, title=f"{operand}: {title}", x_label="step", y_label=title.split(", ")[-1])
            for operand, lines in layer_series(run, field).items()
        ]
        if charts:
            out.append(
                f'<h2>{html.escape(title.capitalize())}, per layer: {html.escape(run.path.name)}</h2><div class="grid">{"".join(charts)}</div>'
            )
    return "".join(out)


def histogram_charts(run: Run) -> str:
    """Share of the elements of inputs, weights and gradients on each point of the format's grid, at the end of the run."""
    last: dict[str, Any] = next(
        (record["histograms"] for record in reversed(run.records) if record.get("histograms")), {}
    )
    charts = [
        bar_chart(
            [f"{v:g}" for v in h["grid"]],
            h["share"],
            title=f"{place}: {h['format']}",
            x_label="element value before scaling",
            y_label="share",
        )
        for place, h in last.items()
    ]
    return (
        f'<h2>Codes on the format\'s grid: {html.escape(run.path.name)}</h2><div class="grid">{"".join(charts)}</div>'
        if charts
        else ""
    )


def summary_table(runs: Sequence[Run]) -> str:
    """One row per run."""
    keys = list(dict.fromkeys(key for run in runs for key in run.summary()))
    head = "".join(f"<th>{html.escape(key)}</th>" for key in keys)
    rows = []
    for run in runs:
        summary = run.summary()
        rows.append("<tr>" + "".join(_cell(summary.get(key, "")) for key in keys) + "</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f'<td class="n">{value:.4g}</td>'
    text = str(value)
    shown = text if len(text) < 60 else f"{text[:12]}…"
    return f'<td title="{html.escape(text, quote=True)}"{" class=bad" if value == "diverged" else ""}>{html.escape(shown)}</td>'


def page(runs: Sequence[Run], *, title: str = "", notes: str = "") -> str:
    """The whole HTML text. `notes` is HTML placed under the summary."""
    title = title or f"lpref: {', '.join(dict.fromkeys(run.spec['name'] for run in runs))}"
    charts = [
        loss_chart(runs),
        *(metric_chart(runs, key, name) for key, name in VALID_KEYS.items()),
        metric_chart(runs, "grad_norm", "gradient norm"),
    ]
    diverged = [end for run in runs for end in run.records[-1:] if end.get("end") == "diverged"]
    warnings = "".join(
        f'<p class="bad">Diverged at step {end["step"]}: {html.escape(str(end.get("reason", "")))}</p>'
        for end in diverged
    )
    first = next(iter(groups(runs).values()))[0]
    details = "".join(layer_charts(members[0]) + histogram_charts(members[0]) for members in groups(runs).values())
    sample = next((end.get("sample") for run in runs for end in reversed(run.records) if end.get("sample")), None)
    texts = [f"<h2>Sample</h2><pre>{html.escape(sample)}</pre>"] if sample else []
    for run in runs:
        spec = html.escape(run.folder.spec.read_text(encoding="utf-8"))
        texts.append(
            f"<details{' open' if run is first else ''}><summary>Resolved spec of {html.escape(str(run.path))}</summary><pre>{spec}</pre></details>"
        )
    env = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>" for key, value in first.env.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style></head><body>'
        f'<h1>{html.escape(title)}</h1>{warnings}{summary_table(runs)}{notes}<h2>Curves</h2><div class="grid">{"".join(charts)}</div>'
        f"{details}{''.join(texts)}<h2>Environment</h2><table>{env}</table></body></html>\n"
    )


def write_report(runs: Sequence[Run], path: Path, *, title: str = "", notes: str = "", force: bool = False) -> Path:
    """Writes the page; returns `path`."""
    check_same_data(runs, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page(runs, title=title, notes=notes))
    return path

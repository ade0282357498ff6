"""``lpref train`` without an argument: the default spec in its low-precision recipe and in bf16, from the same seed, for real."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path
from typing import Any

from lpref.trainer.api import continued_run
from lpref.trainer.commands import CommandResult
from lpref.trainer.data import load_data
from lpref.trainer.files import typed_os_errors
from lpref.trainer.ngram import order2_bits_per_byte
from lpref.trainer.report import write_report
from lpref.trainer.run import Run
from lpref.trainer.runfolder import check_free, default_path
from lpref.trainer.setup import load_backend, load_recipe
from lpref.trainer.spec import TrainSpec, load_spec

BASELINE = "bf16"


def begun_pair(root: Path) -> TrainSpec | None:
    """The low-precision spec of the pair in the folder `root`; None where no pair was begun there."""
    found = [path for path in sorted(root.glob("*/spec.yaml")) if path.parent.name != BASELINE]
    return load_spec(found[0]) if len(found) == 1 and not (root / "spec.yaml").exists() else None


def train_pair(
    spec: TrainSpec, out: Path | None, *, resume: bool = False, overwrite: bool = False, quiet: bool = False
) -> CommandResult:
    """Both runs under one folder, their figures, and a report on the two; its path is the last line."""
    root = out or default_path(f"{spec.name}-{spec.recipe_name}-{spec.train.seed}")
    if not resume:
        check_free(root, overwrite=overwrite)
    data = load_data(spec.data.name)
    if not quiet:
        print(f"data: {data.title} ({data.name}, sha256 {data.sha256[:12]})", flush=True)
    with typed_os_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    low, high = (
        continued_run(one, root / one.recipe_name, resume=resume, overwrite=overwrite, quiet=quiet, data=data)
        for one in (spec, replace(spec, recipe=BASELINE))
    )
    figures = pair_figures(low, high, spec, data)
    report = write_report(
        [low, high], root / "report.html", title=f"{spec.name}: {low.recipe} and {high.recipe}", notes=_notes(figures)
    )
    if not quiet:
        print_figures(figures, low, high)
        print(report)
    return CommandResult(0, {"runs": [low.summary(), high.summary()], **figures, "report": str(report)})


def pair_figures(low: Run, high: Run, spec: TrainSpec, data: Any) -> dict[str, Any]:
    """Validation figures, their gap, the share of the GEMM work in the low-precision format, the order-2 model."""
    key = next(k for k in ("valid.bits_per_byte", "valid.bits_per_token", "valid.accuracy") if k in low.metrics)
    a, b = low.last(key), high.last(key)
    figures: dict[str, Any] = {
        "metric": key,
        low.recipe: a,
        high.recipe: b,
        "gap": a - b,
        "gap_percent": 100 * (a - b) / b,
    }
    figures["fp4_share"] = fp4_share(spec)
    if data.kind == "tokens" and data.byte_level:
        figures["order2_bits_per_byte"] = order2_bits_per_byte(data.train, data.valid)
    return figures


def fp4_share(spec: TrainSpec) -> dict[str, float]:
    """{fprop, dgrad, wgrad, all}: share of the GEMM FLOPs of all linear layers whose two operands have at most four bits."""
    from lpref.models import build
    from lpref.ref.recipes import gemm_flop_share

    sites = build(spec.model, None, spec.train.seed, load_backend(spec)).linear_sites()
    return gemm_flop_share(load_recipe(spec), sites)


def print_figures(figures: dict[str, Any], low: Run, high: Run) -> None:
    """For a person, the sample included."""
    unit = {"valid.bits_per_byte": "bits per byte", "valid.bits_per_token": "bits per token"}.get(
        figures["metric"], "accuracy"
    )
    print(f"validation, {unit}:")
    for run in (low, high):
        print(f"  {run.recipe:12} {figures[run.recipe]:.4f}")
    print(f"  {'gap':12} {figures['gap']:+.4f} ({figures['gap_percent']:+.2f} %)")
    if "order2_bits_per_byte" in figures:
        print(
            f"  {'order-2':12} {figures['order2_bits_per_byte']:.4f} (a table of the two preceding bytes, same split)"
        )
    shares = "  ".join(f"{kind} {share:.1%}" for kind, share in figures["fp4_share"].items())
    print(f"share of GEMM FLOPs in FP4: {shares}")
    sample = next((record["sample"] for record in reversed(low.records) if "sample" in record), "")
    if sample:
        print(f"a sample of {low.recipe}:\n{sample}")


def _notes(figures: dict[str, Any]) -> str:
    rows = []
    for key, value in figures.items():
        shown = (
            "  ".join(f"{k} {v:.1%}" for k, v in value.items())
            if isinstance(value, dict)
            else f"{value:.4f}"
            if isinstance(value, float)
            else str(value)
        )
        rows.append(f"<tr><th>{html.escape(key)}</th><td>{html.escape(shown)}</td></tr>")
    return f"<h2>Figures</h2><table>{''.join(rows)}</table>"

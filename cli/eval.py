"""``lpref eval``."""

from __future__ import annotations

from pathlib import Path

import click

from lpref.cli.common import Command, backend_option, echo_json, json_option


@click.command(
    "eval",
    cls=Command,
    examples=("lpref eval runs/default-nvfp4-1-1", "lpref eval runs/mine --data text:notes.txt --json"),
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data", metavar="NAME|PATH", help="Another data set (a path to a text file will do); default: the run's own."
)
@click.option("--windows", type=click.IntRange(min=1), help="Validation windows; default: the spec's.")
@backend_option
@json_option
def command(run: Path, data: str | None, windows: int | None, backend: str | None, as_json: bool) -> None:
    """Evaluate RUN's newest checkpoint on held-out data, in RUN's recipe."""
    from lpref.trainer.evaluate import evaluate_run

    figures = evaluate_run(run, data=data, windows=windows, backend=backend)
    if as_json:
        echo_json(figures)
    else:
        click.echo(
            "  ".join(
                f"{key} {value:.4f}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()
            )
        )

"""``lpref report``."""

from __future__ import annotations

from pathlib import Path

import click

from lpref.cli.common import Command


@click.command(
    "report",
    cls=Command,
    examples=("lpref report runs/default-nvfp4-1-1", "lpref report runs/pair/* -o figure.svg --format svg"),
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN…", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Output file; default: report.<format> in the run folder (one run) or here.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "svg", "png", "pdf", "csv"]),
    help="Default: by the output's suffix, else html.",
)
@click.option("--force", is_flag=True, help="Mix runs on different data.")
@click.option("--overwrite", is_flag=True, help="Replace the output file.")
def command(runs: tuple[Path, ...], out: Path | None, form: str | None, force: bool, overwrite: bool) -> None:
    """One page (or figure, or table) about one RUN or several: curves with a band over seeds, errors and overflow per layer, histograms."""
    from lpref.trainer.commands import report_command

    click.echo(str(report_command(runs, out=out, form=form, force=force, overwrite=overwrite)))

"""``lpref compare``."""

from __future__ import annotations

from pathlib import Path

import click

from lpref.cli.common import Command, backend_option, echo_json, json_option, set_option, table


@click.command(
    "compare", cls=Command,
    examples=(
        "lpref compare train/digits_cnn --recipes fp32,int8_switchback,mxfp8 --seeds 3",
        "lpref compare train/ci_gpt --recipes bf16,nvfp4 --seeds 2 -s train.steps=20 -o runs/pair",
    ),
)  # fmt: skip
@click.argument("spec")
@click.option("--recipes", required=True, metavar="A,B,C", help="Recipe names or paths, separated by commas.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Runs per recipe: the spec's seed and those after it.",
)
@set_option
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the runs and the report; default runs/compare-<spec>-<n>.",
)
@backend_option
@click.option("--resume", is_flag=True, help="Keep finished runs of the output folder and continue the others.")
@click.option("--overwrite", is_flag=True, help="Replace the runs in the output folder.")
@click.option("--force", is_flag=True, help="Put runs on different data into one report.")
@json_option
def command(
    spec: str, recipes: str, seeds: int, overrides: tuple[str, ...], out: Path | None, backend: str | None, resume: bool, overwrite: bool,
    force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Train SPEC with several recipes and seeds, and put the results side by side: a table and one HTML page."""
    from lpref.trainer.compare import compare

    result = compare(
        spec,
        recipes.split(","),
        seeds,
        overrides=overrides,
        out=out,
        backend=backend,
        resume=resume,
        overwrite=overwrite,
        force=force,
        quiet=as_json,
    )
    if as_json:
        echo_json({"rows": result.rows, "runs": result.runs, "report": str(result.report)})
    else:
        click.echo(table(result.rows))
        click.echo(str(result.report))
    click.get_current_context().exit(result.code)

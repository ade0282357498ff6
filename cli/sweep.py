"""``lpref sweep``."""

from __future__ import annotations

from pathlib import Path

import click

from lpref.cli.common import Command, echo_json, json_option, table


@click.command("sweep", cls=Command, examples=("lpref sweep sweep.yaml -o runs/lr", "lpref sweep sweep.yaml --dry-run"))
@click.argument("spec")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder of the runs; default runs/sweep-<name>.")
@click.option("--dry-run", is_flag=True, help="List the runs, start none.")
@json_option
def command(spec: str, out: Path | None, dry_run: bool, as_json: bool) -> None:
    """Run every point of a grid, each in a process of its own; finished points are skipped, interrupted ones are resumed.

    SPEC is a YAML file `{lpref: 1, base: train/ci_gpt, grid: {recipe: [bf16, nvfp4], optimizer.lr: [1e-3, 2e-3], train.seed: [1, 2]}}`.
    """
    from lpref.trainer.sweep import sweep

    rows, code = sweep(spec, out=out, dry_run=dry_run, echo=None if as_json else click.echo)
    if as_json:
        echo_json(rows)
    else:
        click.echo(table(rows))
    click.get_current_context().exit(code)

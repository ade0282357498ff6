"""``lpref reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from lpref.cli.common import Command, backend_option, echo_json, json_option, table

WHOLE = "lpref reproduce --all --json --keep bench/results/experiments.json --reuse settings"


@click.command("reproduce", cls=Command, examples=("lpref reproduce T9", "lpref reproduce T3 T20 --seeds 5 --json", WHOLE))
@click.argument("names", nargs=-1, metavar="[ID]…")
@click.option("--all", "everything", is_flag=True, help="Every experiment but the long ones, which run where they are named.")
@click.option("--seeds", type=click.IntRange(min=2), help="Seeds of every arm; default: what the experiment says.")
@backend_option
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True, help="Folder of the training runs.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs side by side, of all experiments.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="FILE", help="Put results into this JSON file too; what it holds is not run.")
@click.option("--again", is_flag=True, help="Run what --keep's file holds, too.")
@click.option(
    "--reuse", type=click.Choice(["same", "settings"]), default="same", show_default=True,
    help="Which kept results are not run again: of the same numerics, data and backend, or of the same settings wherever they ran.",
)  # fmt: skip
@json_option
def command(
    names: tuple[str, ...], everything: bool, seeds: int | None, backend: str | None, out: Path, jobs: int, keep: Path | None, again: bool,
    reuse: Literal["same", "settings"], as_json: bool,
) -> None:  # fmt: skip
    """Test claims of the literature at a small size: the figures with a 95 % interval, and whether they agree with the claim.

    `lpref list experiments` names them. Without an ID and without --all: the ones of at most a minute.
    """
    from lpref.trainer.reproduce.experiment import experiment, experiment_names
    from lpref.trainer.reproduce.results import reproduce

    wanted = [experiment(name) for name in (names or experiment_names())]
    if not names:
        wanted = [one for one in wanted if not one.long and (everything or one.minutes <= 1)]
    echo = (lambda _: None) if as_json else click.echo
    results = reproduce(wanted, seeds=seeds, backend=backend, out=out, jobs=jobs, keep=keep, again=again, reuse=reuse, echo=echo)
    if as_json:
        echo_json(results)
    else:
        click.echo(table(results, ("name", "verdict", "control_holds", "seeds", "seconds", "title")))

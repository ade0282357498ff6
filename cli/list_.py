"""``lpref list``."""

from __future__ import annotations

import click

from lpref.cli.common import Command, echo_json, json_option, table


@click.command("list", cls=Command, examples=("lpref list formats", "lpref list recipes --json"))
@click.argument("kind")
@json_option
def command(kind: str, as_json: bool) -> None:
    """List everything of one KIND.

    Kinds: formats roundings overflow scale-rules accumulators quantizers recipes optimizers schedules attention models datasets
    experiments targets backends kernels methods.
    """
    from lpref.trainer.catalog import rows

    found = rows(kind)
    if as_json:
        echo_json(found)
    else:
        click.echo(table(found, ("name", "title", "standard", "status")) if found else f"no {kind} in this version")

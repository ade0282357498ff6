"""``lpref cite``."""

from __future__ import annotations

import click

from lpref.cli.common import Command


@click.command("cite", cls=Command, examples=("lpref cite nvfp4", "lpref cite lpref"))
@click.argument("name", default="lpref")
def command(name: str) -> None:
    """The source of a format, quantizer, recipe or optimizer; `lpref` is this software."""
    from lpref.trainer.cite import cite

    click.echo(cite(name))

"""``lpref doctor``."""

from __future__ import annotations

import click

from lpref.cli.common import Command, echo_json, json_option


@click.command("doctor", cls=Command, examples=("lpref doctor", "lpref doctor --json"))
@json_option
def command(as_json: bool) -> None:
    """Which backends are here and why not, and whether this machine's arithmetic is what the definitions need. Exit code 1 if it is not."""
    from lpref.trainer.doctor import diagnose, text

    found = diagnose()
    if as_json:
        echo_json(found)
    else:
        click.echo(text(found))
    click.get_current_context().exit(0 if found["ok"] else 1)

"""``lpref completion``."""

from __future__ import annotations

import click

from lpref.cli.common import Command


@click.command(
    "completion", cls=Command, examples=('eval "$(lpref completion bash)"', "lpref completion zsh > ~/.zfunc/_lpref")
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for a SHELL."""
    from click.shell_completion import get_completion_class

    from lpref.cli.main import main

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "lpref", "_LPREF_COMPLETE").source())

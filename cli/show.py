"""``lpref show``."""

from __future__ import annotations

import click

from lpref.cli.common import Command, echo_json, json_option


@click.command(
    "show", cls=Command,
    examples=("lpref show e4m3", "lpref show e4m3 --value 464", "lpref show nvfp4 --paths", "lpref show nvfp4 --diff mxfp4"),
)  # fmt: skip
@click.argument("name")
@click.option("--paths", is_flag=True, help="Every settable path of a recipe, with its value and type.")
@click.option("--diff", "other", metavar="OTHER", help="Where two recipes, quantizers or formats differ.")
@click.option("--value", metavar="X", help="Where X lies in a format: its neighbours, and what each rounding makes of it.")
@json_option
def command(name: str, paths: bool, other: str | None, value: str | None, as_json: bool) -> None:
    """The page of a format, quantizer, recipe or optimizer. `recipe:nvfp4` picks a kind where a name has several."""
    from lpref.trainer.show import show

    page = show(name, paths=paths, other=other, value=value)
    if as_json:
        echo_json(page.data)
    else:
        click.echo(page.text)

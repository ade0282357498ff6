"""``lpref schema``."""

from __future__ import annotations

import click

from lpref.cli.common import Command, echo_json


@click.command("schema", cls=Command, examples=("lpref schema > spec.schema.json", "lpref schema recipe"))
@click.argument("kind", default="train", type=click.Choice(["train", "recipe", "quantizer"]))
def command(kind: str) -> None:
    """The JSON Schema of a YAML file, for editors: train (default), recipe or quantizer."""
    from lpref.trainer.schema import json_schema

    echo_json(json_schema(kind))

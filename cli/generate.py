"""``lpref generate``."""

from __future__ import annotations

from pathlib import Path

import click

from lpref.cli.common import Command, backend_option


@click.command(
    "generate",
    cls=Command,
    examples=(
        "lpref generate runs/default-nvfp4-1-1",
        'lpref generate runs/mine --prompt "def " -n 300 --temperature 0.7',
    ),
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--prompt", default="def ", show_default=True, help="Text to continue.")
@click.option("-n", "count", type=click.IntRange(min=1), default=200, show_default=True, help="Bytes to generate.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0.0),
    default=0.8,
    show_default=True,
    help="0 takes the most likely byte.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the random words.")
@backend_option
def command(run: Path, prompt: str, count: int, temperature: float, seed: int, backend: str | None) -> None:
    """Continue a text with the model of RUN, in RUN's recipe."""
    from lpref.trainer.generate import generate_from_run

    click.echo(generate_from_run(run, prompt=prompt, count=count, temperature=temperature, seed=seed, backend=backend))

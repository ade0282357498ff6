"""``lpref inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from lpref.cli.common import Command, echo_json, json_option, table


@click.command(
    "inspect",
    cls=Command,
    examples=("lpref inspect model.safetensors --quantizer nvfp4,mxfp4", "lpref inspect weights.npz --json"),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--quantizer", "quantizers", default="mxfp8_e4m3,nvfp4", show_default=True, metavar="A,B", help="Quantizers to try."
)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated output.")
def command(file: Path, quantizers: str, as_json: bool, as_csv: bool) -> None:
    """What quantizers would do to the tensors of FILE (safetensors, npz, npy): amax, SQNR, overflowed and underflowed share, bits."""
    from lpref.trainer.inspection import csv_text, inspect_file

    rows = inspect_file(file, quantizers.split(","))
    if as_json:
        echo_json(rows)
    else:
        click.echo(csv_text(rows).rstrip("\n") if as_csv else table(rows))

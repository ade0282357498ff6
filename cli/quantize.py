"""``lpref quantize``."""

from __future__ import annotations

from pathlib import Path

import click

from lpref.cli.common import Command


@click.command(
    "quantize", cls=Command,
    examples=(
        "lpref quantize model.safetensors -o codes.safetensors --quantizer nvfp4",
        "lpref quantize w.npy -o w.npz --quantizer mxfp4 --layout cublas_128x4",
    ),
)  # fmt: skip
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Output file.")
@click.option("--quantizer", required=True, metavar="Q", help="A registered quantizer.")
@click.option("--layout", default="linear", show_default=True, help="Layout of the stored scales.")
@click.option("--overwrite", is_flag=True, help="Replace the output file.")
def command(source: Path, out: Path, quantizer: str, layout: str, overwrite: bool) -> None:
    """Write the codes and scales of every two-dimensional tensor of IN."""
    from lpref.trainer.inspection import quantize_to_file

    click.echo(quantize_to_file(source, out, quantizer, layout=layout, overwrite=overwrite))

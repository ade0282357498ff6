"""``lpref bench``."""

from __future__ import annotations

import click

from lpref.cli.common import Command, backend_option, echo_json, json_option, set_option, table

PEERS = ("eager", "compile", "compile_graphs", "whole_step", "jax", "jax_xla")
"""Ways of `lpref.trainer.bench.torch_steps` and of `lpref.trainer.bench.jax_gpt`, which need torch and jax to be imported."""


@click.command(
    "bench", cls=Command,
    examples=("lpref bench 'quantize nvfp4' 'gemm nvfp4' --backend cpu", "lpref bench bench/micro -s recipe=bf16 --peer whole_step"),
)  # fmt: skip
@click.argument("names", nargs=-1, metavar="[NAME]…")
@backend_option
@click.option("--numerics", type=click.Choice(["exact", "fast"]), default="fast", show_default=True, help="Grade of the kernels.")
@click.option("-n", "--size", type=click.IntRange(min=64), default=2048, show_default=True, help="Rows and columns of the kernels' inputs.")
@click.option("--steps", type=click.IntRange(min=1), default=10, show_default=True, help="Timed training steps of a spec.")
@click.option("--peer", "peers", type=click.Choice(PEERS), multiple=True, help="Train each spec in torch or jax too, on this GPU in this process.")
@set_option
@json_option
def command(
    names: tuple[str, ...], backend: str | None, numerics: str, size: int, steps: int, peers: tuple[str, ...], overrides: tuple[str, ...],
    as_json: bool,
) -> None:  # fmt: skip
    """Time kernels and training steps.

    NAME is a kernel (without one: all of them) or a training spec (bench/micro, bench/nano, a path). A kernel that breaks its contract on a
    small input is not timed. The share of copy is that of the bandwidth of a copy in the same run.
    """
    from lpref.trainer.bench.run import bench

    found = bench(names, backend=backend, numerics=numerics, size=size, steps=steps, overrides=overrides, peers=peers)
    if as_json:
        echo_json(found)
    else:
        for rows in (found["kernels"], found["models"]):
            if rows:
                click.echo(table(rows, list(dict.fromkeys(key for row in rows for key in row))))

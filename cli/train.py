"""``lpref train``."""

from __future__ import annotations

from pathlib import Path

import click

from lpref.cli.common import Command, backend_option, echo_json, json_option, set_option


@click.command(
    "train", cls=Command,
    examples=("lpref train", "lpref train train/ci_gpt -s train.steps=20 -s recipe=mxfp8 -o runs/try"),
)  # fmt: skip
@click.argument("spec", required=False)
@set_option
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Run folder; default runs/<spec>-<recipe>-<seed>-<n>."
)
@backend_option
@click.option("--ranks", type=int, default=1, show_default=True, help="Processes of a data-parallel run.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Continue this run from its newest whole checkpoint.",
)
@click.option("--overwrite", is_flag=True, help="Replace a run that is in the output folder.")
@json_option
def command(
    spec: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
    backend: str | None,
    ranks: int,
    resume: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train SPEC (a file, or a name such as train/gpt_tiny).

    Without SPEC: the default byte-level GPT on Python's standard library, in nvfp4 and in bf16 from the same seed, and the gap between
    the two. Exit code 1 when the run diverged, 130 after Ctrl-C (a checkpoint is saved first).
    """
    from lpref.trainer.commands import train_command

    result = train_command(
        spec,
        overrides=overrides,
        out=out,
        backend=backend,
        ranks=ranks,
        resume=resume,
        overwrite=overwrite,
        quiet=as_json,
    )
    if as_json:
        echo_json(result.summary)
    click.get_current_context().exit(result.code)

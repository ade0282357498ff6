"""``lpref``: the root command. Subcommands live in one module each and are imported when they are used."""

from __future__ import annotations

import click

from lpref.cli.common import Cli

COMMANDS: dict[str, str] = {
    name: f"lpref.cli.{name if name != 'list' else 'list_'}"
    for name in (
        "train", "compare", "sweep", "generate", "eval", "list", "show", "inspect", "quantize", "report", "diff", "vectors",
        "bench", "reproduce", "schema", "doctor", "cite", "completion",
    )
}  # fmt: skip


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    import lpref
    from lpref.conformance.numerics import numerics_hash

    click.echo(f"lpref {lpref.__version__} numerics {numerics_hash()}")
    ctx.exit()


@click.group(
    cls=Cli,
    commands_by_name=COMMANDS,
    examples=("lpref train", "lpref show e4m3"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Version and numerics hash."
)
def main() -> None:
    """Low-precision reference: formats, quantizers, recipes and optimizers as an executable specification, and a trainer for them."""


if __name__ == "__main__":
    main(prog_name="lpref")

"""``lpref vectors``."""

from __future__ import annotations

from pathlib import Path

import click

from lpref.cli.common import Command, echo_json, json_option, write_examples
from lpref.ref.errors import SpecError

EXAMPLES = (
    "lpref vectors export vectors --format e4m3",
    "lpref vectors export vectors --accumulate hopper_bf16",
    "lpref vectors export vectors --as c-header --format e4m3 --format e2m1",
    "lpref vectors run vectors --target cpu",
)


class _Group(click.Group):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, EXAMPLES)


@click.group("vectors", cls=_Group)
def command() -> None:
    """Conformance vectors: inputs and expected outputs as files, for any language (docs/vectors.md)."""


@command.command("export", cls=Command, examples=EXAMPLES[:3])
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--op", "ops", multiple=True, metavar="OP", help="cast, quantize or gemm; repeatable. Default: all.")
@click.option("--format", "formats", multiple=True, metavar="NAME", help="Casts of this format; repeatable. Default: all.")
@click.option("--quantizer", "quantizers", multiple=True, metavar="NAME", help="This quantizer; repeatable. Default: all.")
@click.option("--accumulate", "models", multiple=True, metavar="NAME", help="Products under this accumulation model; repeatable. Default: all.")
@click.option("--max-cases", default=2048, show_default=True, metavar="N", help="At most so many cases in a file.")
@click.option("--as", "form", default="jsonl", show_default=True, metavar="FORM", help="jsonl, npz, c-header or digests.")
@click.option("--overwrite", is_flag=True, help="Write into a folder that is not empty.")
def export_command(
    folder: Path, ops: tuple[str, ...], formats: tuple[str, ...], quantizers: tuple[str, ...], models: tuple[str, ...], max_cases: int,
    form: str, overwrite: bool,
) -> None:  # fmt: skip
    """Write vectors to DIR, generated from the definitions, with checksums."""
    from lpref.conformance.vectors import export

    if not overwrite and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError([f"{folder}: exists and is not empty"], where="vectors export", remedy="name another folder, or use --overwrite")
    written = export(
        folder, ops=ops, formats=formats, quantizers=quantizers, models=models, max_cases=max_cases, form=form, progress=click.echo
    )
    click.echo(f"{len(written)} files in {folder}; SHA256SUMS has their checksums")


@command.command("run", cls=Command, examples=(EXAMPLES[3], "lpref vectors run vectors --target ml_dtypes --json"))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--target", required=True, metavar="TARGET", help="cpu, reference, or any target of lpref diff.")
@json_option
@click.pass_context
def run_command(ctx: click.Context, folder: Path, target: str, as_json: bool) -> None:
    """Run the vectors of DIR; exit code 1 where a case failed or was not answered."""
    from dataclasses import asdict

    from lpref.conformance.vectors import answering, run
    from lpref.conformance.vectors.run import OWN

    if target in OWN:
        results = run(folder, answering(target))
    else:
        from lpref.conformance.targets.client import Session

        with Session(target) as session:
            results = run(folder, session.ask)
    if as_json:
        echo_json([{**asdict(r), "passed": r.passed} for r in results])
    else:
        for r in results:
            word = "refused" if r.refused else "passed" if r.passed else "FAILED"
            differ = f", {r.failures} differ\n         {r.first}" if r.failures else ""
            click.echo(f"{word:7}  {r.file}: {r.refused or f'{r.cases} cases'}{differ}")
    ctx.exit(0 if all(r.passed for r in results) else 1)

"""``lpref diff``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lpref.cli.common import Command, echo_json, json_option


class Diff(Command):
    """`lpref diff TARGET`, and `lpref diff step SPEC`, which is a command of its own."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        if args[:1] == ["step"]:
            from lpref.cli.diff_step import step

            return step.make_context(f"{info_name} step", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("diff", cls=Diff, examples=("lpref diff ml_dtypes --format e4m3", "lpref diff mine.py:cast --op cast --format e4m3 --trace"))
@click.argument("target")
@click.option("--op", metavar="OP", help="cast, quantize, gemm, optimizer or attention.")
@click.option("--format", "format_", metavar="NAME", help="Format of a cast (of a product's operands).")
@click.option("--quantizer", metavar="NAME", help="Quantizer, parameters included: mxfp4:scale=rceil.")
@click.option("--rounding", metavar="NAME", help="Rounding of a cast.")
@click.option("--overflow", metavar="NAME", help="Overflow preset of a cast; default: the one that the target follows.")
@click.option("--layout", metavar="NAME", help="Layout of a quantizer's arrays: linear, column, cublas_128x4.")
@click.option("--input", "input_", type=click.Choice(["float32", "float64", "bfloat16", "float16"]), help="Type of the input.")
@click.option("--word-bits", type=int, metavar="R", help="Random bits an element, for stochastic roundings.")
@click.option("--array", type=click.Choice(["numpy", "torch", "cupy", "jax"]), default="numpy", show_default=True, help="What a callable gets.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where they lie.")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=60.0, show_default=True, metavar="S", help="Seconds for one answer.")
@click.option("--exhaustive", is_flag=True, help="Also every float32 input of casts, every amax of MX and NVFP4 quantizers.")
@click.option("--budget", type=click.FloatRange(min=0.01), metavar="MIN", help="Minutes for --exhaustive, each case.")
@click.option("--trace", is_flag=True, help="Intermediates of every counter-example, and a reproducer in Python and C.")
@click.option("--identify", is_flag=True, help="Rank every rule that could explain the answers.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also write JUnit XML.")
@json_option
def command(
    target: str, op: str | None, format_: str | None, quantizer: str | None, rounding: str | None, overflow: str | None, layout: str | None,
    input_: str | None, word_bits: int | None, array: str, device: str, timeout: float, exhaustive: bool, budget: float | None, trace: bool,
    identify: bool, junit: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Compare TARGET with the definition.

    TARGET is a built-in name (lpref list targets), module:callable or FILE.py:callable, lib:PATH.so:SYMBOL, or exec:COMMAND. It runs in a
    process of its own. Exit code 0: no unexplained difference; 1: some, or the target failed; 2: it is not there. `lpref diff step SPEC`
    compares the ops of a training step of our own backends.
    """
    from lpref.conformance.diff import run as runs
    from lpref.conformance.diff.report import text

    options = runs.Options(op, format_, quantizer, rounding, overflow, layout, input_, word_bits, array, device, timeout, trace)
    if exhaustive or identify:
        from lpref.conformance.diff import whole

        reports = list(whole.run(target, options, exhaustive, budget, identify, None if as_json else click.echo))
    else:
        reports = []
        for report in runs.run(target, options):
            reports.append(report)
            if not as_json:
                click.echo(text(report))
    if junit is not None:
        junit.write_text(runs.junit(reports), encoding="utf-8")
    if as_json:
        echo_json([r.as_dict() for r in reports])
    elif len(reports) > 1:
        counts = {s: sum(r.status == s for r in reports) for s in dict.fromkeys(r.status for r in reports)}
        click.echo(f"{len(reports)} cases: " + ", ".join(f"{n} {s}" for s, n in counts.items()))
    sys.exit(runs.exit_code(reports))

"""What every command shares: ``--debug``, errors on one line, examples at the end of ``--help``, JSON output.

Exit codes: 0 done; 1 a check failed or a run diverged; 2 bad input; 130 interrupted (Ctrl-C, after saving).
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from lpref.ref.errors import DivergedError, LprefError

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class Command(click.Command):
    """A command with ``--debug`` and, at the end of its help, runnable `examples`."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        if len(examples) < 2:
            raise TypeError(f"command {kwargs.get('name')!r} needs two examples")
        self.examples = tuple(examples)
        super().__init__(*args, **kwargs)
        self.params.append(_debug_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    """The last section of a help page."""
    with formatter.section("Examples"):
        for example in examples:
            formatter.write(f"  {example}\n")


def _debug_option() -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            ctx.find_root().meta["lpref.debug"] = True

    return click.Option(["--debug"], is_flag=True, expose_value=False, callback=remember, help="Show tracebacks.")


class Cli(click.Group):
    """The root group: commands are imported when they are run, and every LprefError becomes one line and an exit code."""

    def __init__(self, *args: Any, commands_by_name: dict[str, str], examples: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.modules = commands_by_name
        self.examples = tuple(examples)
        self.params.append(_debug_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = self.modules.get(cmd_name)
        return None if module is None else importlib.import_module(module).command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from lpref.ref.errors import UnknownNameError

        if args and args[0] not in self.modules and not args[0].startswith("-"):
            raise_or_exit(ctx, UnknownNameError("command", args[0], self.modules))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LprefError as error:
            raise_or_exit(ctx, error)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)


def raise_or_exit(ctx: click.Context, error: LprefError) -> NoReturn:
    """``error: …`` on stderr and the exit code; with ``--debug`` the traceback."""
    if ctx.find_root().meta.get("lpref.debug"):
        raise error
    interrupted = isinstance(error, KeyboardInterrupt)
    click.echo(str(error) if interrupted else f"error: {error}", err=True)
    ctx.exit(INTERRUPTED if interrupted else 1 if isinstance(error, DivergedError) else 2)


def echo_json(value: Any) -> None:
    """Machine output: JSON on stdout, non-finite numbers as text."""
    from lpref.trainer.metrics import to_json

    click.echo(json.dumps(to_json(value), indent=1, allow_nan=False))


def set_option(function: Any) -> Any:
    """``-s key.path=value``, repeatable."""
    return click.option(
        "-s",
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY.PATH=VALUE",
        help="Override a field of the spec; the value is YAML.",
    )(function)


def backend_option(function: Any) -> Any:
    """``--backend``."""
    choice = click.Choice(["auto", "reference", "cpu", "cuda"])
    return click.option("--backend", type=choice, help="Where it runs; default: the spec's (auto: the GPU if there is one).")(function)


def json_option(function: Any) -> Any:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")(function)


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> str:
    """Left-aligned plain-text columns; columns that are empty in every row are left out."""
    shown = [
        c
        for c in (columns or list(rows[0] if rows else ()))
        if any(row.get(c) not in (None, "", [], ()) for row in rows)
    ]
    cells = [[text_cell(row.get(c)) for c in shown] for row in rows]
    widths = [max(len(line[i]) for line in [shown, *cells]) for i in range(len(shown))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [shown, *cells]
    ]
    return "\n".join(lines)


def text_cell(value: Any) -> str:
    """One cell: four significant digits, lists joined by commas."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def is_terminal() -> bool:
    """Whether progress may be drawn in place."""
    return sys.stdout.isatty()

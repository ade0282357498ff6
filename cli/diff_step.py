"""``lpref diff step``."""

from __future__ import annotations

import sys
from typing import Any

import click

from lpref.cli.common import Command, backend_option, echo_json, json_option, set_option, table


@click.command(
    "step", cls=Command,
    examples=("lpref diff step train/ci_gpt --backend cuda", "lpref diff step train/ci_gpt -s recipe=mxfp8 --backend cpu --against reference --json"),
)  # fmt: skip
@click.argument("spec")
@set_option
@backend_option
@click.option(
    "--against", type=click.Choice(["reference", "cpu"]), help="Who makes every op again, in grade exact. [default: cpu for cuda, else reference]"
)
@click.option("--steps", type=click.IntRange(min=1), default=1, show_default=True, help="Training steps to judge.")
@json_option
def step(spec: str, overrides: tuple[str, ...], backend: str | None, against: str | None, steps: int, as_json: bool) -> None:
    """Replay every op of a training step of SPEC in lockstep.

    Each op of the step gets the inputs that it had there, from another backend as well, and is judged under the contract of its kernel: bits, or
    a proved bound. On a GPU the captured step must have the bits of the steps that were judged. Exit code 0: every contract holds; 1: one is
    broken, and where is shown; 2: bad input.
    """
    from lpref.trainer.lockstep import lockstep
    from lpref.trainer.setup import load_backend
    from lpref.trainer.spec import load_spec

    resolved = load_spec(spec, [*overrides, *([f"backend={backend}"] if backend else [])])
    against = against or ("cpu" if load_backend(resolved).name == "cuda" else "reference")
    found = lockstep(resolved, against, steps)
    if as_json:
        echo_json(found.as_dict())
    else:
        click.echo(text(found))
    sys.exit(0 if found.good else 1)


def text(found: Any) -> str:
    """One line for each op, the first difference of each, and what broke."""
    rows, by_op = found.rows, {}  # type: ignore[var-annotated]
    for row in rows:
        by_op.setdefault(row.op, []).append(row)
    lines = [f"{found.spec} {found.recipe}: {found.steps} step{'s' if found.steps > 1 else ''} of the {found.backend} backend, numerics "
             f"{found.numerics}, against {found.against}"]  # fmt: skip
    lines.append(table([_line(op, members) for op, members in by_op.items()]))
    contracts = dict.fromkeys(row.contract for row in rows if row.contract != "bits")
    lines += [f"{name.partition(':')[0]} of {', '.join(sorted({r.op for r in rows if r.contract == name}))}:{name.partition(':')[2]}"
              for name in contracts]  # fmt: skip
    for members in by_op.values():
        lines += [_first(row) for row in members if row.first][:1]
    lines += [f"BROKEN: {row.op} at {_place(row)}, {row.broken_calls} of {row.calls} calls: {row.broken}" for row in rows if row.broken]
    lines += [f"graph: {found.graph}" + ("" if found.graph_differs or found.graph.startswith("none") else ": the same bits")]
    lines += [f"BROKEN: {line}" for line in found.graph_differs]
    lines.append("every contract holds" if found.good else "a contract is broken")
    return "\n".join(lines)


def _line(op: str, rows: list[Any]) -> dict[str, Any]:
    return {
        "op": op, "sites": len({row.site for row in rows}), "calls": sum(row.calls for row in rows), "elements": sum(row.elements for row in rows),
        "contract": rows[0].contract.partition(":")[0], "differ": sum(row.differ for row in rows), "ulps": max(row.ulps for row in rows),
        "broken": sum(row.broken_calls for row in rows),
    }  # fmt: skip


def _place(row: Any) -> str:
    return " ".join(filter(None, (row.phase, row.site)))


def _first(row: Any) -> str:
    first = row.first
    apart = "NaN" if first.ulps is None else f"{first.ulps} ulps"
    return f"{row.op} differs first at {_place(row)}, call {first.call}, {first.where}: {first.expected}, got {first.found} ({apart})"

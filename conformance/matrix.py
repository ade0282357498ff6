"""The difference matrix: every built-in target, every case, measured and published.

    python3 -m lpref.conformance.matrix [TARGET …]     measure here and now, keep the results, write docs/differences.md
    python3 -m lpref.conformance.matrix --render       write the page from the kept results

Results are kept in conformance/differences.json; targets that are not named, or not installed, keep theirs.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lpref.conformance.diff import blocks, classes
from lpref.conformance.diff.known import Known, known
from lpref.conformance.diff.run import compare
from lpref.conformance.targets import TARGETS, builtin
from lpref.conformance.targets.base import Case, CastCase, case_from
from lpref.conformance.targets.client import Session

KEPT = Path(__file__).with_name("differences.json")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "differences.md"
WITHOUT_SATURATION = ("ml_dtypes", "torch", "onnx", "apytypes")
"""Targets with one overflow policy: they are also compared with `saturate`, the default of OCP's formats."""
SHORT = {"rounding": "", "input": "from "}


def cases(name: str) -> list[Case]:
    """What a target is asked: its own cases, and those under `saturate`."""
    mine = list(builtin(name).cases())
    if name in WITHOUT_SATURATION:
        plain = [c for c in mine if isinstance(c, CastCase) and c.input == "float32" and c.rounding == "nearest_even"]
        mine += [replace(c, overflow="saturate") for c in plain if c.overflow != "saturate"]
    return list(dict.fromkeys(mine))


def measure(name: str) -> dict[str, Any] | None:
    """{version, notes, cases} of one target; None where it is not installed."""
    target = builtin(name)
    if target.available:
        print(f"{name}: {target.available}", file=sys.stderr)
        return None
    reports = []
    with Session(name) as session:
        for case in cases(name):
            report = compare(session, target.version, case)
            print(f"{name} {case}: {report.status}", file=sys.stderr)
            reports.append(slim(report.as_dict()))
    return {"version": target.version, "title": target.title, "notes": target.notes, "cases": reports}


def slim(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what the page does not show."""
    kept = ("op", "case", "status", "total", "different", "unexplained", "refused", "same", "cells", "error")
    shown = ("known", "x", "x_hex", "got", "expected", "place", "amax", "got_scale", "expected_scale", "word")
    examples = [{k: e[k] for k in shown if k in e} for e in report["examples"]]
    return {**{k: report[k] for k in kept}, "examples": examples}


def load() -> dict[str, Any]:
    """The kept results by target."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}


def save(results: dict[str, Any]) -> None:
    """Keep them, in the order of the registry."""
    ordered = {name: results[name] for name in TARGETS if name in results}
    lines = json.dumps(plain(ordered), indent=1, allow_nan=False, ensure_ascii=False)
    KEPT.write_text(lines + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """JSON values: numbers that JSON has not become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def render(results: dict[str, Any]) -> str:
    """The page."""
    parts = [
        "# How other implementations differ\n",
        "Written by `python3 -m lpref.conformance.matrix`; do not edit. Every built-in target of `lpref diff` was asked its cases: all values of\n"
        "the format, all midpoints and their neighbours, the edges of the range, specials, random numbers. A cell says what came where the\n"
        "definition says otherwise: `=` nothing differs; `NaN 12/40` 12 of 40 inputs of the class gave NaN. Nothing below is unexplained\n"
        "unless it says so.\n",
        versions(results),
        "## Casts\n\n" + legend(classes.CLASSES) + "\n" + legend(classes.RESULTS) + "\n",
        *(section(name, r, "cast", classes.CLASSES) for name, r in results.items()),
        "## Block quantizers\n\nCounted are blocks.\n\n" + legend(blocks.CLASSES) + "\n" + legend(blocks.RESULTS) + "\n",
        *(section(name, r, "quantize", blocks.CLASSES) for name, r in results.items()),
        "## Matrix products and optimizers\n",
        *(section(name, r, op, ()) for name, r in results.items() for op in ("gemm", "optimizer", "attention")),
        "## Known differences\n",
        *(entry(k, results) for k in known()),
    ]
    return "\n".join(p for p in parts if p)


def versions(results: dict[str, Any]) -> str:
    """The table of targets."""
    lines = ["| target | version | what | cases | same | explained | unexplained |", "|---|---|---|---|---|---|---|"]
    for name in TARGETS:
        if name not in results:
            lines.append(f"| {name} | not installed | {builtin(name).title} | | | | |")
            continue
        r = results[name]
        count = {s: sum(c["status"] == s for c in r["cases"]) for s in ("same", "explained")}
        rest = len(r["cases"]) - sum(count.values())
        lines.append(f"| {name} | {r['version']} | {r['title']} | {len(r['cases'])} | {count['same']} | {count['explained']} | {rest} |")
    return "\n".join([*lines, ""])


def legend(words: dict[str, str]) -> str:
    """Names and what they mean, in one line."""
    return "; ".join(f"**{k}** {v}" for k, v in words.items()) + ".\n"


def section(name: str, result: dict[str, Any], op: str, columns: Iterable[str]) -> str:
    """One target's table: a row for each case, a column for each class that has a difference."""
    mine = [c for c in result["cases"] if c["op"] == op]
    if not mine:
        return ""
    differ = {cell["class"] for c in mine for cell in c["cells"]}
    shown = [c for c in columns if c in differ] if columns else list(dict.fromkeys(cell["class"] for c in mine for cell in c["cells"]))
    lines = [f"### {name} {result['version']}\n", f"{result['notes']}.\n" if result["notes"] else ""]
    same = [label(c) for c in mine if c["status"] == "same"]
    if same:
        lines.append(f"No difference: {'; '.join(same)}.\n")
    rows = [c for c in mine if c["status"] != "same"]
    if rows:
        lines += [f"| case | {' | '.join(shown)} | why |", "|---|" + "---|" * (len(shown) + 1)]
        lines += [f"| {label(c)} | {' | '.join(cell_text(c, column) for column in shown)} | {why(c)} |" for c in rows]
    return "\n".join([*lines, ""])


def label(report: dict[str, Any]) -> str:
    """`e4m3 toward_zero from float64`: the fields of a case that are not the default's."""
    case = case_from(report["op"], report["case"])
    default, (subject, *rest) = type(case)(), case.fields().items()
    return " ".join([subject[1], *(f"{SHORT.get(k, k + ' ')}{v}" for k, v in rest if getattr(default, k) != getattr(case, k))])


def cell_text(report: dict[str, Any], column: str) -> str:
    """What came in one class."""
    if report["error"]:
        return report["error"]["kind"]
    cells = [c for c in report["cells"] if c["class"] == column]
    total = report["same"].get(column, 0) + sum(c["count"] for c in cells)
    if not total:
        return ""
    counts: dict[str, int] = {}
    for c in cells:
        counts[c["result"]] = counts.get(c["result"], 0) + c["count"]
    return ", ".join(f"{result} {n}/{total}" if n < total else f"{result}" for result, n in counts.items()) or "="


def why(report: dict[str, Any]) -> str:
    """Links to the entries."""
    if report["error"]:
        return report["error"]["message"]
    ids = dict.fromkeys(c["known"] or "**unexplained**" for c in report["cells"])
    entries = {k.id for k in known()}
    return ", ".join(f"[{i}](#{i.replace('.', '').lower()})" if i in entries else i for i in ids)


def entry(k: Known, results: dict[str, Any]) -> str:
    """One known difference, with an example that was measured."""
    lines = [f"### {k.id}\n", f"{k.package} {k.versions}: {k.reason}", f"Source: {k.source} ({k.source_level}).\n"]
    for report in results.get(k.package, {}).get("cases", ()):
        example = next((e for e in report["examples"] if e["known"] == k.id), None)
        if example is None:
            continue
        scale = f", scale {example['got_scale']}, not {example['expected_scale']}" if example.get("got_scale") is not None else ""
        amax = f", amax {example['amax']}" if "amax" in example else ""
        if "x" in example:
            told = f"`x = {example['x']}` ({example['x_hex']}){amax} gave `{example['got']}`, the definition says `{example['expected']}`{scale}"
        else:
            told = f"gave `{example['got']}`, the definition says `{example['expected']}`"
        lines.append(f"For example {label(report)}: {told}.\n")
        break
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, keep, write."""
    parser = argparse.ArgumentParser(prog="python3 -m lpref.conformance.matrix")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--render", action="store_true", help="only write the page from the kept results")
    args = parser.parse_args(arguments)
    results = load()
    if not args.render:
        for name in args.targets or TARGETS:
            found = measure(name)
            if found is not None:
                results[name] = found
        save(results)
    PAGE.write_text(render(load()), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The table of all experiments, from their files and bench/results/experiments.json: for docs/results.md and the index of the experiments' pages.

`python3 docs/experiments_table.py` puts it into results.md between the two marks; a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
BEGIN, END = "<!-- experiments: python3 docs/experiments_table.py -->", "<!-- end of experiments -->"


def kept_results(root: Path) -> dict[str, Any]:
    """Name -> the newest result that is kept."""
    kept = root / "bench" / "results" / "experiments.json"
    return dict(json.loads(kept.read_text(encoding="utf-8"))) if kept.exists() else {}


def counted(results: Mapping[str, Any]) -> str:
    """How many of them came out in which way."""
    from lpref.trainer.reproduce.verdict import AGREES, DIFFERS, INCONCLUSIVE

    words = {"agree": AGREES, "differ": DIFFERS, "are inconclusive": INCONCLUSIVE}
    return ", ".join(f"{sum(r['verdict'] == verdict for r in results.values())} {word}" for word, verdict in words.items())


def verdict_of(result: Mapping[str, Any] | None) -> str:
    """The verdict, and whether a control failed."""
    if result is None:
        return "not run yet"
    return str(result["verdict"]) + ("" if result["control_holds"] else ", control does not hold")


def table(results: Mapping[str, Any], link: str = "") -> str:
    """A row an experiment: the claim, the verdict, every sign with its interval, seeds, seconds, device, data and commit.

    link: what stands before and after a name, with `{}` for it.
    """
    from lpref.trainer.reproduce.experiment import experiment, experiment_names

    rows = ["| | claim | verdict | expected: found [95 % interval] | seeds | seconds | device, data, commit |", "|---|---|---|---|---|---|---|"]
    for name in experiment_names():
        result = results.get(name)
        cells = [link.format(name) if link else name, experiment(name).title, verdict_of(result)]
        rows.append("| " + " | ".join(cells + (_found(result) if result else [""] * 4)) + " |")
    return "\n".join(rows) + "\n"


def _found(result: Mapping[str, Any]) -> list[str]:
    signs = [str(row["sign"]).replace("|", "/") for row in result["expect"]]
    signs += [f"control: {row['sign']}" for row in result["control"]]
    where = result["where"]
    data = f"data {where['data_sha256'][:8]}" if "data_sha256" in where else "no data"
    device = where["device"].split(", ")[0].replace("(R)", "")
    first, count = result["first_seed"], result["seeds"]
    seeds = str(count) if first == 1 else f"{first} … {first + count - 1}"
    return ["<br>".join(signs), seeds, f"{result['seconds']:.0f}", f"{where['backend']}: {device}; {data}; {where['commit']}"]


def inserted(page: str, root: Path) -> str:
    """results.md with the table of what is kept now."""
    before, rest = page.split(BEGIN)
    results = kept_results(root)
    return f"{before}{BEGIN}\n\n{len(results)} have been run: {counted(results)}.\n\n{table(results)}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    path = DOCS / "results.md"
    path.write_text(inserted(path.read_text(encoding="utf-8"), DOCS.parent), encoding="utf-8")

"""Takes what a run has measured into `results/`: rows of the files in a folder in place of those that measure the same, the others stay.

Run: python bench/take.py FOLDER; then bench/bars.py. Each row says its own commit and date afterwards.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
SAME = ("name", "spec", "recipe", "source", "shape")
"""What tells a row from the others of its file."""
STEPS = 3
"""Rows that stay of a training step, each of another commit, the newest last: a ratio needs both of its sides at one."""


def taken(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the rows of `new`, last."""
    part = "figures" if "figures" in new else "rows"

    def stamped(file: Mapping[str, Any]) -> dict[str, Any]:
        stamp = {key: value for key in ("commit", "date") if (value := file.get("about", file).get(key))}
        rows = [{**stamp, **one} for one in file.get(part, [])]
        return {json.dumps([one.get(key) for key in (*SAME, *(["commit"] if "recipe" in one else []))]): one for one in rows}

    before, after = stamped(old), stamped(new)
    rows = [one for key, one in before.items() if key not in after] + list(after.values())
    return {"about": dict(new.get("about", {})), part: [one for i, one in enumerate(rows) if _newer(one, rows[i + 1 :]) < STEPS]}


def _newer(row: Mapping[str, Any], later: Sequence[Mapping[str, Any]]) -> int:
    """How many of the later rows are of the same thing."""
    return sum(all(row.get(key) == one.get(key) for key in SAME) for one in later)


def main() -> int:
    for path in sorted(Path(sys.argv[1]).glob("*_h200.json")):
        place = RESULTS / path.name
        old = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
        found = taken(old, json.loads(path.read_text(encoding="utf-8")))
        place.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path.name}: {len(found.get('rows', found.get('figures', [])))} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a training step of every recipe costs on the CPU: its time over that of the float32 step of the default model, in turns with it.

A step is a whole one: passes, controllers and loss hooks included (probes are not: they come once in many steps). Where a schedule changes the
recipe, the dearer of the first steps and of those after three quarters of the run counts. Recipes whose accumulation only grade exact has are
timed in that grade, over the float32 step of grade fast. `python3 bench/bench_recipes.py [NAME…]` times some and puts them into
`bench/results/recipes_cpu.json`, each with the commit that it was timed at; without names all recipes are.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench_step import SPEC

RESULTS = Path(__file__).resolve().parent / "results" / "recipes_cpu.json"
STEPS = 4
BAR = 4.0


class WholeStep:
    """A step as a run makes it: passes and probes included."""

    def __init__(self, recipe: str, data: Any = None) -> None:
        from lpref.ref.errors import SpecError

        self.numerics = "fast"
        try:
            self.begin(recipe, data, "fast")
            self()
        except SpecError as error:
            if "numerics: exact" not in str(error):
                raise
            self.numerics = "exact"
            self.begin(recipe, data, "exact")

    def begin(self, recipe: str, data: Any, numerics: str) -> None:
        from lpref.trainer.loop import start_state
        from lpref.trainer.setup import prepare
        from lpref.trainer.spec import load_spec

        self.prepared = prepare(load_spec(SPEC, [f"recipe={recipe}", "backend=cpu", f"numerics={numerics}"]), data=data)
        self.state = start_state(self.prepared)

    def __call__(self) -> None:
        from lpref.trainer.data.batches import train_batch
        from lpref.trainer.passes import step_of

        p, s = self.prepared, self.prepared.spec.train
        self.state, _ = step_of(p, self.state, [train_batch(p.data, p.length, s.batch, s.seed, self.state.step, 0, s.batch)], False)


def products(recipe: Any, value: float) -> str:
    """What of a recipe multiplies the work of a step: passes or a gate's candidates, with the share of `value` that each has, and sums of GEMMs."""
    gemms = [linear.gemm(name) for linear in (recipe.linear, *recipe.variants.values()) for name in ("fprop", "dgrad", "wgrad")]
    found = [f"{len(recipe.passes)} passes of {value / len(recipe.passes):.1f} x"] if len(recipe.passes) > 1 else []
    found += [f"{recipe.gate.candidates} candidates of {value / recipe.gate.candidates:.1f} x"] if recipe.gate is not None else []
    split = [g for g in gemms if g.terms or g.a.split or g.b.split or g.sampling]
    return ", ".join(found + (["sums of GEMMs"] if split else []))


def timed(step: WholeStep, fp32: WholeStep) -> float:
    """Least time of some steps over the least of float32 steps beside them; one step goes before."""
    step()
    ours, theirs = [], []
    for _ in range(STEPS):
        for side, kept in ((fp32, theirs), (step, ours)):
            started = time.perf_counter()
            side()
            kept.append(time.perf_counter() - started)
    return min(ours) / min(theirs)


def row(name: str, fp32: WholeStep) -> dict[str, Any]:
    """The figure of a recipe."""
    step = WholeStep(name, fp32.prepared.data)
    value, late = timed(step, fp32), step.prepared.spec.train.steps * 3 // 4
    if step.prepared.recipe.schedule:
        step.state = replace(step.state, step=late, update=late)
        value = max(value, timed(step, fp32))
    more = products(step.prepared.recipe, value)
    why = ", ".join((["grade exact: every addition rounded"] if step.numerics == "exact" else []) + ([more] if more else []))
    found: dict[str, Any] = {"name": f"{name} step, time / fp32", "recipe": name, "value": value, "unit": "x"}
    found |= {"numerics": step.numerics, "note": why} if why else {}
    return found if more else {**found, "bar": BAR, "direction": "at most"}


def rows() -> list[dict[str, Any]]:
    from lpref.specs import RECIPE

    return list(each(RECIPE.names()))


def each(names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The rows one by one."""
    import numpy as np

    fp32 = WholeStep("fp32")
    with np.errstate(all="ignore"):
        for name in names:
            yield row(name, fp32)


def main(names: list[str]) -> None:
    from run import environment, line

    from lpref.specs import RECIPE

    where = environment()
    commit = where.pop("commit")
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"rows": []}
    by_name = {one["recipe"]: one for one in kept["rows"]}
    for one in each(names or RECIPE.names()):
        print(line(one), flush=True)
        by_name[one["recipe"]] = {**one, "value": round(one["value"], 2), "commit": commit}
        text = json.dumps({"environment": where, "rows": [by_name[name] for name in sorted(by_name)]}, indent=1) + "\n"
        part = RESULTS.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, RESULTS)


if __name__ == "__main__":
    main(sys.argv[1:])

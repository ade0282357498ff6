"""Running experiments: every arm with every seed, the verdicts, and the file that keeps them."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lpref.ref.errors import SpecError
from lpref.trainer.files import write_json
from lpref.trainer.metrics import to_json
from lpref.trainer.reproduce import figures
from lpref.trainer.reproduce.experiment import Experiment
from lpref.trainer.reproduce.verdict import AGREES, Judged, judge, overall


def reproduce(
    experiments: Sequence[Experiment], *, seeds: int | None = None, backend: str | None = None, out: Path, jobs: int = 1,
    echo: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """One result an experiment: verdict, every sign with its interval, figures, seconds, device, versions.

    Everything is checked before the first arm runs. Arms and seeds run in `jobs` processes side by side; training runs lie under `out`
    and are continued where they stopped.
    Raises: SpecError for fewer than two seeds, and what a spec raises.
    """
    if seeds is not None and seeds < 2:
        raise SpecError([f"--seeds: {seeds}; an interval needs at least 2"], where="reproduce")
    for one in experiments:
        figures.check(one)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) if jobs > 1 else nullcontext() as pool:
        begun = [_begin(one, seeds or one.seeds, backend, out, pool) for one in experiments]
        return [_result(one, seeds or one.seeds, backend, found, echo) for one, found in zip(experiments, begun, strict=True)]


@dataclass(frozen=True)
class Timed:
    """A figure and the seconds that it took."""

    value: float
    seconds: float


def _timed(one: Experiment, arm: str, seed: int, folder: Path, backend: str | None) -> Timed:
    started = time.perf_counter()
    return Timed(figures.figure(one, arm, seed, folder, backend), time.perf_counter() - started)


def _begin(one: Experiment, seeds: int, backend: str | None, out: Path, pool: Executor | None) -> dict[str, list[Callable[[], Timed]]]:
    """arm -> one function a seed that waits for the figure, or makes it where there is no pool."""

    def begun(*args: Any) -> Callable[[], Timed]:
        return partial(_timed, *args) if pool is None else pool.submit(_timed, *args).result

    return {arm: [begun(one, arm, seed, out / one.name, backend) for seed in range(1, seeds + 1)] for arm in one.arms}


def _result(
    one: Experiment, seeds: int, backend: str | None, begun: dict[str, list[Callable[[], Timed]]], echo: Callable[[str], None]
) -> dict[str, Any]:
    echo(f"{one.name}: {one.title}")
    found, seconds = {}, 0.0
    for arm, waiting in begun.items():
        timed = [wait() for wait in waiting]
        found[arm], seconds = [t.value for t in timed], seconds + sum(t.seconds for t in timed)
        echo(f"  {arm:24} {'  '.join(f'{value:.5g}' for value in found[arm])}")
    expected, control = ([judge(sign, found) for sign in signs] for signs in (one.expect, one.control))
    verdict = overall(expected)
    for label, judged in [*(("", j) for j in expected), *(("control: ", j) for j in control)]:
        echo(f"  {label}{judged.text} ({judged.expectation.says})")
    echo(f"  {one.claim}\n  -> {verdict}\n")
    return {
        "name": one.name, "title": one.title, "claim": one.claim, "source": one.source, "verdict": verdict,
        "control_holds": all(judged.verdict == AGREES for judged in control), "seeds": seeds, "figures": found,
        "expect": [_row(judged) for judged in expected], "control": [_row(judged) for judged in control],
        "seconds": round(seconds, 1), "where": _where(one, backend), "notes": one.notes,
    }  # fmt: skip


def _row(judged: Judged) -> dict[str, Any]:
    i = judged.interval
    return {"says": judged.expectation.says, "sign": judged.text, "mean": i.mean, "low": i.low, "high": i.high, "verdict": judged.verdict}


def _where(one: Experiment, backend: str | None) -> dict[str, Any]:
    """Device, versions, numerics, and the hash of the data that training runs read."""
    from lpref.trainer.environment import commit, environment
    from lpref.trainer.spec import load_spec

    where = {"backend": backend or "auto", "commit": commit(), "environment": environment()}
    if one.train:
        from lpref.trainer.data import load_data

        where["data_sha256"] = load_data(load_spec(one.train, one.common).data.name).sha256
    return where


def keep(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Put the results into a JSON file: experiment -> its newest result; others that are there stay."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(path, {**before, **{one["name"]: to_json(one) for one in results}})

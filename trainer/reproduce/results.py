"""Running experiments: every arm with every seed, the verdicts, and the file that keeps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lpref.ref.errors import SpecError
from lpref.trainer.files import write_json
from lpref.trainer.metrics import to_json
from lpref.trainer.reproduce.experiment import Experiment
from lpref.trainer.reproduce.ledger import Found, Ledger
from lpref.trainer.reproduce.runs import Job, checked, completed, pool
from lpref.trainer.reproduce.verdict import AGREES, Judged, judge, overall


def reproduce(
    experiments: Sequence[Experiment], *, seeds: int | None = None, backend: str | None = None, out: Path, jobs: int = 1,
    keep: Path | None = None, again: bool = False, reuse: Literal["same", "settings"] = "same", echo: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """One result an experiment: verdict, every sign with its interval, figures, seconds, device, versions.

    Everything is checked before the first arm runs. The runs of all experiments share `jobs` processes; figures are written under `out` as
    they come and are not found twice. `keep`: a JSON file that gets every result as soon as it is there; what it holds of the same
    experiment is not run, unless `again`: with `reuse` "same" a result of the same numerics, data and backend; with "settings" one of the same
    arms, seeds and signs wherever it ran, so that one call gives the table of what several machines found (each result says its own commit,
    device, data and numerics).
    Raises: SpecError for fewer than two seeds and for `reuse` without `keep`, and what a spec raises.
    """
    if reuse == "settings" and (keep is None or again):
        raise SpecError(["--reuse settings: it takes the results of --keep's file, without --again"], where="reproduce")
    if seeds is not None and seeds < 2:
        raise SpecError([f"--seeds: {seeds}; an interval needs at least 2"], where="reproduce")
    with pool(jobs) as executor:
        digests = checked(experiments, backend, executor)
        plans = [Plan(one, seeds or one.seeds, digest) for one, digest in zip(experiments, digests, strict=True)]
        before = {} if again or keep is None else kept(keep)
        results = {plan.one.name: before[plan.one.name] for plan in plans if plan.stands(before.get(plan.one.name, {}), reuse)}
        for result in results.values():
            echo(text(result))
        left = [plan for plan in plans if plan.one.name not in results]
        ledger = Ledger(out / "figures.jsonl")
        for key in completed([job for plan in left for job in plan.jobs()], ledger, out, backend, executor):
            for plan in [plan for plan in left if plan.takes(key)]:
                results[plan.one.name] = result = plan.result(ledger.found)
                echo(text(result))
                if keep is not None:
                    put([result], keep)
    return [results[one.name] for one in experiments]


class Plan:
    """An experiment on its way: which runs it needs, and which of them it waits for."""

    def __init__(self, one: Experiment, seeds: int, digests: Mapping[str, str]) -> None:
        self.one, self.seeds = one, range(one.first_seed, one.first_seed + seeds)
        signs = [[repr(sign) for sign in (*one.expect, *one.control)], [one.first_seed, seeds]]
        self.sha256 = _hash(signs, dict(digests))
        self.settings = _hash(signs, one.measure, one.train, one.figure, dict(one.common), {arm: dict(fields) for arm, fields in one.arms.items()})
        self.keys = {arm: [_hash(digest, seed) for seed in self.seeds] for arm, digest in digests.items()}
        self.waits = {key for keys in self.keys.values() for key in keys}

    def stands(self, before: Mapping[str, Any], reuse: str) -> bool:
        """Whether a kept result is one of this plan: of the same settings and, unless that is enough, of the same numerics, data and backend."""
        return before.get("sha256") == self.sha256 or (reuse == "settings" and before.get("settings") == self.settings)

    def jobs(self) -> list[Job]:
        """One a seed and arm."""
        return [Job(key, self.one, arm, seed) for arm, keys in self.keys.items() for seed, key in zip(self.seeds, keys, strict=True)]

    def takes(self, key: str) -> bool:
        """Whether the run of this key was the last that was missing."""
        waited = key in self.waits
        self.waits.discard(key)
        return waited and not self.waits

    def result(self, ledger: Mapping[str, Found]) -> dict[str, Any]:
        """What is printed and kept."""
        one, found = self.one, {arm: [ledger[key] for key in keys] for arm, keys in self.keys.items()}
        values = {arm: [each.value for each in several] for arm, several in found.items()}
        runs = list({key: ledger[key] for keys in self.keys.values() for key in keys}.values())
        expected, control = ([judge(sign, values) for sign in signs] for signs in (one.expect, one.control))
        return {
            "name": one.name, "title": one.title, "claim": one.claim, "source": one.source, "verdict": overall(expected),
            "control_holds": all(judged.verdict == AGREES for judged in control), "seeds": len(self.seeds), "first_seed": self.seeds[0],
            "figures": values,
            "expect": [_row(judged) for judged in expected], "control": [_row(judged) for judged in control],
            "seconds": round(sum(run.seconds for run in runs), 1), "where": _where(one, runs),
            "notes": one.notes, "sha256": self.sha256, "settings": self.settings,
        }  # fmt: skip


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _row(judged: Judged) -> dict[str, Any]:
    i = judged.interval
    return {"says": judged.expectation.says, "sign": judged.text, "mean": i.mean, "low": i.low, "high": i.high, "verdict": judged.verdict}


def _where(one: Experiment, runs: Sequence[Found]) -> dict[str, Any]:
    """Backend, device and commit of the runs (several joined by +), versions and numerics, and the hash of the data that training runs read."""
    from lpref.trainer.environment import environment
    from lpref.trainer.spec import load_spec

    where: dict[str, Any] = {name: " + ".join(sorted({getattr(run, name) for run in runs})) for name in ("backend", "device", "commit")}
    where["environment"] = environment()
    train = one.train or one.common.get("train")
    if train:
        from lpref.trainer.data import load_data

        spec = load_spec(train, {key: value for key, value in one.common.items() if key.startswith("data.")})
        where["data_sha256"] = load_data(spec.data.name).sha256
    return where


def text(result: Mapping[str, Any]) -> str:
    """A result for readers: the claim and its source, figures, signs with their intervals, verdict, time, device, data."""
    lines = [f"{result['name']}: {result['title']}", f"  claim: {result['claim']} ({result['source']})"]
    lines += [f"  {arm:24} {'  '.join(f'{float(value):.5g}' for value in values)}" for arm, values in result["figures"].items()]
    lines += [f"  {row['sign']} ({row['says']})" for row in result["expect"]]
    lines += [f"  control: {row['sign']} ({row['says']})" for row in result["control"]]
    return "\n".join([*lines, f"  -> {result['verdict']}; {circumstances(result)}", ""])


def circumstances(result: Mapping[str, Any]) -> str:
    """Seeds, time, device, data and commit of a result in a line."""
    where = result["where"]
    data = f"data {where['data_sha256'][:12]}, " if "data_sha256" in where else ""
    first = "" if result["first_seed"] == 1 else f" from {result['first_seed']} on"
    seeds, took = f"{result['seeds']} seeds{first}", f"{result['seconds']:g} s of one process"
    return f"{seeds}, {took}, {where['backend']} on {where['device']}, {data}commit {where['commit']}"


def kept(path: Path) -> dict[str, Any]:
    """name -> its newest result."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def put(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Put the results into a JSON file; others that are there stay."""
    write_json(path, {**kept(path), **{one["name"]: to_json(one) for one in results}})

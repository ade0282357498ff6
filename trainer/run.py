"""A finished or running run, read back: ``Run(path).metrics``, ``runs("runs/*")``."""

from __future__ import annotations

import glob
import html
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lpref.ref.errors import CheckpointError, SpecError
from lpref.trainer import metrics
from lpref.trainer.runfolder import RunFolder, other_folder

ENERGY = ("joules", "joules_per_token", "watts")
"""Of a run whose device counts its energy: in all, for each prediction of the training steps, the mean power."""


class Run:
    """A run folder, read only. Everything is read on first use; `refresh()` forgets it.

    `status` is done, running (or interrupted: nobody can tell from outside), or diverged.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = RunFolder(Path(path))
        self.path = self.folder.path
        if not self.folder.spec.exists():
            raise CheckpointError(
                "not a run folder: spec.yaml is missing",
                where=str(path),
                remedy=other_folder(self.path) or "name a folder that `lpref train` wrote",
            )

    def refresh(self) -> Run:
        """Forgets what was read, for a run that is still going on."""
        for name in ("records", "metrics", "spec", "env"):
            self.__dict__.pop(name, None)
        return self

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The resolved spec as a mapping; SpecError where spec.yaml is not one."""
        from lpref.specs.reading import parse, read_text

        path = str(self.folder.spec)
        spec = parse(read_text(path), path)
        missing = [key for key in ("name", "recipe", "train") if key not in spec]
        if missing or "seed" not in (spec["train"] or {}):
            raise SpecError([f"{key}: missing" for key in missing] or ["train.seed: missing"], where=path, remedy="start the run anew")
        return spec

    @cached_property
    def env(self) -> dict[str, Any]:
        """Versions, device, numerics hash, data hash."""
        try:
            env = json.loads(self.folder.env.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"env.json cannot be read: {error}", where=str(self.path), remedy="start the run anew"
            ) from None
        if not isinstance(env, dict) or "sha256" not in (env.get("data") or {}):
            raise CheckpointError("env.json has no data.sha256", where=str(self.path), remedy="start the run anew")
        return env

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return metrics.read_records(self.folder.metrics)

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """One array per scalar quantity, one entry a logged step, NaN where that step lacks it."""
        return metrics.columns([record for record in self.records if "end" not in record])

    @property
    def recipe(self) -> str:
        from lpref.trainer.spec import recipe_label

        return recipe_label(self.spec["recipe"])

    @property
    def seed(self) -> int:
        return int(self.spec["train"]["seed"])

    @property
    def data_hash(self) -> str:
        return str(self.env["data"]["sha256"])

    @property
    def status(self) -> str:
        last = self.records[-1] if self.records else {}
        return str(last.get("end", "running"))

    def last(self, key: str) -> float:
        """The newest value of a metric; NaN when it was never recorded."""
        values = self.metrics.get(key, np.array([]))
        values = values[~np.isnan(values)]
        return float(values[-1]) if values.size else float("nan")

    def summary(self) -> dict[str, Any]:
        """The figures of the exit summary."""
        keys = ("loss", "valid.loss", "valid.bits_per_byte", "valid.bits_per_token", "valid.accuracy", "tokens_per_s")
        figures = {key: self.last(key) for key in keys if key in self.metrics}
        newest: dict[str, Any] = next((record for record in reversed(self.records) if "joules" in record), {})
        figures |= {key: float(newest[key]) for key in ENERGY if key in newest}
        step = int(self.records[-1]["step"]) if self.records else 0
        return {"run": str(self.path), "name": self.spec["name"], "recipe": self.recipe, "seed": self.seed, "status": self.status,
                "step": step, "data_sha256": self.data_hash, **figures}  # fmt: skip

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status} at step {self.records[-1]['step'] if self.records else 0})"

    def _repr_html_(self) -> str:
        from lpref.trainer.report import loss_chart

        rows = "".join(
            f"<tr><th>{html.escape(str(key))}</th><td>{html.escape(str(value))}</td></tr>"
            for key, value in self.summary().items()
        )
        return f"<table>{rows}</table>{loss_chart([self])}"


def runs(pattern: str = "runs/*") -> list[Run]:
    """Every run folder that matches the glob, sorted by path; other folders are passed over."""
    return [Run(path) for path in sorted(glob.glob(str(pattern))) if (Path(path) / "spec.yaml").exists()]

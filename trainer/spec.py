"""What a training run is: frozen dataclasses that load from YAML and print back to YAML.

The four mappings (model, optimizer, schedule, recipe) belong to the packages that define them and are validated by those packages'
own dataclasses when the spec is loaded: every problem of a file is reported at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

_FORBID = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The data set and how much of its held-out part an evaluation reads."""

    __pydantic_config__ = _FORBID

    name: str = "stdlib"  # stdlib | digits | text:PATH | bin:PATH | idx:DIR
    valid_windows: int = 64  # evenly spaced validation windows (text) of the model's length; images always use all


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The loop. `steps` counts global batches; an update that was skipped (overflow, policy ``skip``) still counts as a step."""

    __pydantic_config__ = _FORBID

    steps: int = 100
    batch: int = 8  # samples (windows, images) of one global batch
    seed: int = 1
    micro_batches: int = (
        1  # the global batch is split into so many equal, consecutive parts, whose gradients are added in order
    )
    clip: float | None = 1.0  # global gradient norm; null: no clipping
    eval_every: int = 50  # 0: only after the last step
    checkpoint_every: int = 50  # 0: only after the last step
    keep: int = 2  # newest checkpoints that stay
    log_every: int = 1  # steps between lines of metrics.jsonl
    stats_every: int = 50  # steps between quantization-error records of every layer; 0: never
    on_nonfinite: Literal["stop", "skip"] = "stop"  # a non-finite loss or gradient outside loss scaling's own search
    max_skips: int = 20  # so many skipped updates in a row are a divergence under either policy
    sample: int = 160  # bytes generated after the last step (byte models)


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """One run: ``lpref train`` reads it, and the run folder's ``spec.yaml`` is it, resolved."""

    __pydantic_config__ = _FORBID

    name: str = "run"
    model: Mapping[str, Any] = field(default_factory=dict)  # kind: mlp | cnn | gpt | vit, and that kind's fields
    data: DataSpec = field(default_factory=DataSpec)
    recipe: str | Mapping[str, Any] = "nvfp4"  # a name, a path, or {base: NAME, set: {path: value}}
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"kind": "adamw", "lr": 1e-3})
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"kind": "constant"})
    train: TrainSettings = field(default_factory=TrainSettings)
    numerics: Literal["exact", "fast"] = "fast"
    backend: Literal["auto", "reference", "cpu", "cuda"] = "auto"

    @property
    def recipe_name(self) -> str:
        """A short name of the recipe: the file's stem for a path, ``BASE+set`` for a changed one."""
        return recipe_label(self.recipe)


def recipe_label(recipe: str | Mapping[str, Any]) -> str:
    """``nvfp4`` → ``nvfp4``, ``my/own.yaml`` → ``own``, ``{base: nvfp4, set: …}`` → ``nvfp4+set``."""
    if isinstance(recipe, str):
        stem = recipe.replace("\\", "/").rsplit("/", 1)[-1]
        return stem.removesuffix(".yaml").removesuffix(".yml")
    if "name" in recipe:
        return str(recipe["name"])
    base = recipe_label(recipe["base"]) if "base" in recipe else "recipe"
    return f"{base}+set" if recipe.get("set") else base

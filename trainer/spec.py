"""What a training run is: frozen dataclasses that load from YAML and print back to YAML.

The four mappings (model, optimizer, schedule, recipe) belong to the packages that define them and are validated by those packages'
own dataclasses when the spec is loaded: every problem of a file is reported at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

from lpref.ref.errors import LprefError, SpecError, UnknownNameError

_FORBID: dict[str, str] = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The data set and how much of its held-out part an evaluation reads."""

    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID

    name: str = "stdlib"  # stdlib | digits | text:PATH | bin:PATH | idx:DIR
    valid_windows: int = 64  # evenly spaced validation windows (text) of the model's length; images always use all

    def __post_init__(self) -> None:
        if self.valid_windows < 1:
            raise SpecError([f"valid_windows: {self.valid_windows} is below 1"])


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The loop. `steps` counts global batches; an update that was skipped (overflow, policy ``skip``) still counts as a step."""

    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID

    steps: int = 100
    batch: int = 8  # samples (windows, images) of one global batch
    seed: int = 1
    micro_batches: int = (
        1  # the global batch is split into so many equal, consecutive parts, whose gradients are added in order
    )
    start: str | None = None  # a finished run of the same model, whose newest weights are the first ones here; null: fresh weights
    clip: float | None = 1.0  # global gradient norm; null: no clipping
    eval_every: int = 50  # 0: only after the last step
    checkpoint_every: int = 50  # 0: only after the last step
    keep: int = 2  # newest checkpoints that stay
    log_every: int = 1  # steps between lines of metrics.jsonl
    stats_every: int = 50  # steps between quantization-error records of every layer; 0: never
    tensors_every: int = 0  # steps between records of amax, rms, kurtosis and outlier channels of every layer's x, w and dy; 0: never
    on_nonfinite: Literal["stop", "skip"] = "stop"  # a non-finite loss or gradient outside loss scaling's own search
    max_skips: int = 20  # so many skipped updates in a row are a divergence under either policy
    sample: int = 160  # bytes generated after the last step (byte models)

    def __post_init__(self) -> None:
        problems = [
            f"{name}: {getattr(self, name)} is below 1"
            for name in ("steps", "batch", "micro_batches", "keep")
            if getattr(self, name) < 1
        ]
        at_least_0 = ("eval_every", "checkpoint_every", "log_every", "stats_every", "tensors_every", "max_skips", "sample", "seed")
        problems += [f"{name}: {getattr(self, name)} is negative" for name in at_least_0 if getattr(self, name) < 0]
        if not problems and self.batch % self.micro_batches:
            problems.append(f"micro_batches: {self.micro_batches} equal parts do not divide a batch of {self.batch}")
        if self.steps >= 1 << 32 or self.seed >= 1 << 63:
            problems.append("steps: at most 2^32 - 1, seed: at most 2^63 - 1 (they address random words)")
        if self.batch >= 1 << 31:
            problems.append(f"batch: {self.batch} is above 2^31 - 1")
        if self.clip is not None and not (math.isfinite(self.clip) and self.clip > 0):
            problems.append(f"clip: {self.clip} is not a positive number; null switches clipping off")
        if problems:
            raise SpecError(problems)


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """One run: ``lpref train`` reads it, and the run folder's ``spec.yaml`` is it, resolved."""

    __pydantic_config__: ClassVar[dict[str, str]] = _FORBID

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


# ---- reading


def load_spec(
    source: str | Path | Mapping[str, Any] | TrainSpec, overrides: Sequence[str] | Mapping[str, Any] = ()
) -> TrainSpec:
    """The validated spec of a name (``train/default``), path, mapping or TrainSpec, with ``key.path=value`` texts or values put in.

    Model, optimizer and schedule come back with every field written out. Raises one SpecError with all problems.
    """
    from lpref.specs.building import build
    from lpref.specs.reading import parse_value
    from lpref.trainer.overrides import apply_overrides

    where = "" if isinstance(source, (Mapping, TrainSpec)) else str(source)
    problems: list[str] = []
    mapping = (
        plain(source)
        if isinstance(source, TrainSpec)
        else dict(source)
        if isinstance(source, Mapping)
        else read_mapping(str(source), problems)
    )
    mapping.pop("lpref", None)
    mapping = apply_overrides(mapping, overrides, parse_value)
    parts = {"model": _model, "optimizer": _optimizer, "schedule": _schedule}
    for key, resolve in parts.items():
        mapping[key] = _resolved(key, resolve, mapping.get(key), mapping, problems)
    spec = None
    try:
        spec = build(TrainSpec, {**mapping, **{key: {} for key in parts}}, where)
    except SpecError as error:
        problems = error.problems + problems
    if problems or spec is None:
        raise SpecError(problems + _recipe_problems(mapping.get("recipe")), where=where)
    return replace(spec, **{key: mapping[key] for key in parts})


def _recipe_problems(recipe: Any) -> list[str]:
    """What is wrong with the recipe, for the list of a spec that has other problems; alone it is `load_recipe`'s error."""
    from lpref.specs import recipe as load

    try:
        load(recipe if isinstance(recipe, (str, Mapping)) else "fp32")
    except SpecError as error:
        return [f"recipe.{text}" for text in error.problems]
    except LprefError as error:
        return [f"recipe: {error}"]
    return []


def read_mapping(source: str, problems: list[str], chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """A spec file with its ``extends`` merged in; `problems` gets what its version is wrong about.

    Names are those of the package (``train/default``); anything else is a path.
    """
    from lpref.specs.loader import merge, version_problems
    from lpref.specs.reading import parse, read_text

    named = resources.files("lpref.specs").joinpath(f"{source}.yaml")
    if not Path(source).exists() and named.is_file():
        where, text = source, named.read_text(encoding="utf-8")
    elif source.endswith((".yaml", ".yml")) or Path(source).exists():
        where, text = source, read_text(source)
    else:
        raise UnknownNameError("spec", source, spec_names())
    if where in chain or len(chain) > 8:
        raise SpecError([f"extends: {' -> '.join([*chain, where])} goes in a circle"], where=where)
    mapping = parse(text, where)
    problems += [f"extends: {where}: {text}" if chain else text for text in version_problems(mapping.pop("lpref", None))]
    parent = mapping.pop("extends", None)
    if parent is None:
        return mapping
    beside = Path(source).parent / str(parent)
    found = read_mapping(str(beside) if beside.is_file() else str(parent), problems, (*chain, where))
    return dict(merge(found, mapping))


def spec_names() -> list[str]:
    """The specs of the package that `lpref train` takes."""
    root = resources.files("lpref.specs")
    folders = [root.joinpath(name) for name in ("train", "bench")]
    return sorted(
        f"{d.name}/{f.name.removesuffix('.yaml')}"
        for d in folders
        if d.is_dir()
        for f in d.iterdir()
        if f.name.endswith(".yaml")
    )


def _resolved(
    key: str,
    resolve: Callable[[dict[str, Any], Mapping[str, Any]], Any],
    part: Any,
    spec: Mapping[str, Any],
    problems: list[str],
) -> Any:
    if part is None:
        part = {"model": {}, "optimizer": {"kind": "adamw"}, "schedule": {"kind": "constant"}}[key]
    if isinstance(part, str):
        part = {"kind": part}
    if not isinstance(part, Mapping):
        problems.append(f"{key}: expected a mapping, got {part!r}")
        return {}
    try:
        return resolve(dict(part), spec)
    except SpecError as error:
        problems.extend(f"{key}.{text}" for text in error.problems)
    except LprefError as error:
        problems.append(f"{key}: {error}")
    return {}


def _model(part: dict[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    from lpref.models import CONFIGS
    from lpref.specs.building import build

    kind = part.pop("kind", None)
    if kind not in CONFIGS:
        raise (
            SpecError([f"kind: missing; known: {', '.join(CONFIGS)}"])
            if kind is None
            else UnknownNameError("model kind", kind, CONFIGS)
        )
    return {"kind": kind, **plain(build(CONFIGS[kind], part))}


def _optimizer(part: dict[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    from lpref.ref.optim import RULES
    from lpref.ref.optim.optimizer import check_hyper
    from lpref.specs.building import build

    kind = part.pop("kind", "adamw")
    if kind not in RULES:
        raise UnknownNameError("optimizer", kind, RULES)
    own = {key: part.pop(key) for key in ("storage_of", "no_decay") if key in part}
    rule = build(RULES[kind], part)
    check_hyper(rule, kind)
    return {"kind": kind, **plain(rule), **own}


def _schedule(part: dict[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """`lr` and `steps` are left out unless given: `make_schedule` takes them from ``optimizer.lr`` and ``train.steps``."""
    from lpref.ref.optim import Schedule
    from lpref.specs.building import build

    given = {key for key in ("lr", "steps") if part.get(key) is not None}
    made = build(Schedule, {"steps": 1 << 30, **{k: v for k, v in part.items() if v is not None}})
    return {key: value for key, value in plain(made).items() if key not in ("lr", "steps") or key in given}


# ---- writing


def plain(value: Any) -> Any:
    """Dataclasses as mappings, tuples as lists: what YAML and JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


def to_yaml(spec: TrainSpec) -> str:
    """The spec as a file that `load_spec` reads back to an equal spec."""
    from lpref.ref.recipes.text import dump

    return "lpref: 1\n" + dump(plain(spec))


def leaves(spec: TrainSpec) -> dict[str, Any]:
    """{dotted path: value} of every field, for comparing two specs."""
    out: dict[str, Any] = {}

    def visit(value: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, part in value.items():
                visit(part, f"{path}.{key}" if path else key)
        else:
            out[path] = value

    visit(plain(spec), "")
    return out

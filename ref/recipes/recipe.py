"""`Recipe`: what is quantized where in a training step, as data. Loads from YAML and prints back to YAML.

    LinearRecipe   the three GEMMs of a linear layer, and what the forward pass saves for the backward pass
    Rule           which layers get another variant, or stay in high precision
    Recipe         LinearRecipe + rules + weights, loss scale, schedule, controllers, other operations, passes per step
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from lpref.ref.errors import SpecError, UnknownNameError
from lpref.ref.hashed import hashed_once
from lpref.ref.optim.loss_scale import LossScale
from lpref.ref.optim.weights import Weights
from lpref.ref.quantize import Quantizer
from lpref.ref.random import check_streams
from lpref.ref.recipes.gate import Gate
from lpref.ref.recipes.gemm import GEMMS, GemmSpec, PlannedQuantizer, Slot
from lpref.ref.recipes.groups import Group
from lpref.ref.recipes.operation import OpRecipe
from lpref.ref.recipes.phases import Controller, LossHook, Pass, Phase
from lpref.ref.rounding import is_stochastic

PLAIN, UNSCALED = GemmSpec(), LossScale()


@dataclass(frozen=True)
class Saved:
    """One thing that the forward pass keeps for the backward pass.

    hp          the tensor `of` (x or w) itself
    codes       the operand of the slot `of`, as that slot makes it (``wgrad.b``: X quantized along the tokens, at forward time);
                with an own `quantizer`, the tensor `of` quantized by it
    reference   the parameter itself, no copy
    mask        where the gradient rule of the slot `of` lets the gradient pass, in the basis of that slot
    projection  the tensor `of` times a random matrix of `ratio` times fewer columns, quantized by `quantizer` if there is one; the backward pass
                reads it times the transposed matrix, as if it were `hp` (see `lpref.ref.recipes.projection`)

    Random words are not kept: a pass draws them again. Recomputing X instead of keeping it is the tape's part, not the layer's.
    """

    what: Literal["hp", "codes", "reference", "mask", "projection"] = "hp"
    of: str = ""
    quantizer: Quantizer | PlannedQuantizer | None = None
    ratio: int = 1


def _save_high_precision() -> dict[str, Saved]:
    return {"x": Saved("hp"), "w": Saved("reference")}


@hashed_once
@dataclass(frozen=True)
class LinearRecipe:
    """A linear layer Y = X W^T: its three GEMMs and what is saved. Without arguments: float32 everywhere."""

    fprop: GemmSpec = PLAIN
    dgrad: GemmSpec = PLAIN
    wgrad: GemmSpec = PLAIN
    save: Mapping[str, Saved] = field(default_factory=_save_high_precision, hash=False)
    algebra: Literal["real", "complex"] = "real"
    """complex: the layer multiplies complex numbers, two of X, Y and dY by one of W."""

    @property
    def stored(self) -> int:
        """Inputs of the layer for each column of W."""
        return 2 if self.algebra == "complex" else 1

    def gemm(self, name: str) -> GemmSpec:
        """One of fprop, dgrad, wgrad."""
        if name not in GEMMS:
            raise UnknownNameError("GEMM", name, GEMMS)
        spec: GemmSpec = getattr(self, name)
        return spec

    def slot(self, path: str) -> Slot:
        """The slot at ``gemm.a`` or ``gemm.b``."""
        gemm, _, side = path.partition(".")
        slot: Slot = getattr(self.gemm(gemm), side)
        return slot


@dataclass(frozen=True)
class Rule:
    """Layers that match every condition given, and what they use: a variant of the recipe, or `exempt` (float32).

    role        one of these roles: qkv attn_out mlp_up mlp_down head classifier conv fc patch …
    name        a glob over the site's name: ``h.*.mlp.*``
    index       the layer's index; first, last: the first or last n indices of the stack
    optional    the rule may match no layer: for recipes that serve several kinds of models
    """

    use: str = "exempt"
    role: tuple[str, ...] = ()
    name: str | None = None
    index: int | None = None
    first: int | None = None
    last: int | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        if not self.role and all(v is None for v in (self.name, self.index, self.first, self.last)):
            raise SpecError(["a rule without a condition would match every layer; change `linear` instead"])

    def matches(self, name: str, role: str, index: int, count: int) -> bool:
        """Whether the layer fulfils every condition. Layers outside the stack have index -1."""
        return (
            (not self.role or role in self.role)
            and (self.name is None or fnmatchcase(name, self.name))
            and (self.index is None or index == self.index)
            and (self.first is None or 0 <= index < self.first)
            and (self.last is None or (index >= 0 and index >= count - self.last))
        )


@dataclass(frozen=True)
class Recipe:
    """A training recipe.

    linear        what linear layers do, where no rule says otherwise
    variants      other linear recipes, for rules; the YAML short form is the name of a recipe
    rules         in order, the first that matches a layer decides; one that matches no layer is an error when a model is bound
    groups        which parameters are trained, and at which multiple of the learning rate
    gate          a net that picks the precision of every block for each sample, see `lpref.ref.recipes.gate`
    evaluation    fields that differ where the model is evaluated, generates text or is exported: path -> value
    family        where the survey puts it: empty in a recipe of one's own
    trains        from_scratch, or fine_tunes a trained model only; diverges: its source says that it fails, and it is here to show that
    executable    whether this version can run it; else `missing` names every mechanism that it lacks
    """

    name: str
    title: str = ""
    source: str = ""
    source_level: Literal["read", "secondary", "memory"] = "memory"
    family: Literal["", "fixed_point", "integer", "binary", "floating_point", "customized", "qat"] = ""
    trains: Literal["from_scratch", "fine_tunes", "diverges"] = "from_scratch"
    revision: int = 1
    linear: LinearRecipe = LinearRecipe()
    variants: Mapping[str, LinearRecipe] = field(default_factory=dict, hash=False)
    rules: tuple[Rule, ...] = ()
    operations: Mapping[str, OpRecipe] = field(default_factory=dict, hash=False)
    weights: Weights = Weights()
    loss_scale: LossScale = UNSCALED
    schedule: tuple[Phase, ...] = ()
    controllers: tuple[Controller, ...] = ()
    loss_hooks: tuple[LossHook, ...] = ()
    groups: tuple[Group, ...] = ()
    gate: Gate | None = None
    passes: tuple[Pass, ...] = ()
    evaluation: Mapping[str, Any] = field(default_factory=dict, hash=False)
    executable: bool = True
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        from lpref.ref.recipes.validate import problems_of

        problems = problems_of(self)
        if problems:
            raise SpecError(problems)

    def for_layer(self, name: str, role: str, index: int = -1, count: int = 0) -> LinearRecipe:
        """The linear recipe of one layer. Raises SpecError where this version cannot run the recipe."""
        self.require_executable()
        for rule in self.rules:
            if rule.matches(name, role, index, count):
                return EXEMPT if rule.use == "exempt" else self.variants[rule.use]
        return self.linear

    def bind(self, layers: Iterable[Any]) -> dict[str, LinearRecipe]:
        """Layer name -> linear recipe. `layers` have name, role, index, count.

        Raises SpecError for a rule that matches no layer, WordsError where two uses of random words share a stream (N1).
        """
        layers = list(layers)
        found = {s.name: self.for_layer(s.name, s.role, s.index, s.count) for s in layers}
        idle = [i for i, r in enumerate(self.rules) if not r.optional and not any(r.matches(s.name, s.role, s.index, s.count) for s in layers)]
        if idle:
            roles = ", ".join(sorted({s.role for s in layers}))
            raise SpecError([f"rules.{i}: {_shown(self.rules[i])} matches no layer of the model" for i in idle],
                            where=f"recipe {self.name}", remedy=f"its roles are {roles}; its layers {', '.join(list(found)[:12])}")  # fmt: skip
        check_streams(path for name, linear in found.items() for path in random_sites(linear, name))
        return found

    def require_executable(self) -> None:
        """Raise SpecError, naming what is missing, where this version cannot run the recipe."""
        if not self.executable:
            raise SpecError([f"needs {mechanism}, which this version does not have" for mechanism in self.missing],
                            where=f"recipe {self.name}", remedy="it can be read, validated and printed, not run")  # fmt: skip

    def at(self, step: int, total: int, update: int | None = None) -> Recipe:
        """The recipe in force at a step of a run of `total` steps: phases in order, later ones over earlier ones. Pure."""
        from lpref.ref.recipes.change import in_force

        found: Recipe = in_force(self, self.changes(step, total, update))
        return found

    def changes(self, step: int, total: int, update: int | None = None) -> list[dict[str, Any]]:
        """What the schedule changes at a step, phase by phase in order: equal changes make equal recipes."""
        clock = {"step": step, "update": step if update is None else update, "fraction": step / max(total, 1)}
        return [phase.changes(step, total) for phase in self.schedule if phase.during(clock[phase.unit])]

    def to_yaml(self) -> str:
        """The resolved recipe as YAML; reads back to an equal recipe."""
        from lpref.ref.recipes.text import HEADER, dump

        return HEADER + dump(self)

    def _repr_html_(self) -> str:
        """The three GEMMs of `linear` as a table, for notebooks."""
        from lpref.ref.recipes.text import html

        return html(self)


EXEMPT = LinearRecipe()


def random_sites(linear: LinearRecipe, site: str) -> list[str]:
    """The site paths whose random words a layer draws: stochastic slots and saves, random signs.

    >>> from lpref.ref.recipes import Transform
    >>> random_sites(LinearRecipe(dgrad=GemmSpec(transform=Transform(signs="random"))), "head")
    ['head/dgrad/transform/signs']
    """
    slots = {f"{gemm}/{side}": getattr(linear.gemm(gemm), side) for gemm in GEMMS for side in "ab"}
    quantizers = {f"{path}/{part}" if part else path: q for path, slot in slots.items() for part, q in slot.quantizers().items()}
    quantizers |= {f"save/{name}": saved.quantizer for name, saved in linear.save.items()}
    quantizers |= {f"{gemm}/output": step.quantizer for gemm in GEMMS for step in linear.gemm(gemm).epilogue if step.kind == "quantize"}
    found = [f"{site}/{path}/rounding" for path, q in quantizers.items() if q is not None and is_stochastic(q.rounding)]
    found += [f"{site}/save/{name}/projection/signs" for name, saved in linear.save.items() if saved.what == "projection"]
    for gemm in GEMMS:
        spec = linear.gemm(gemm)
        if spec.sampling is not None and spec.sampling.kind == "leverage":
            found += [f"{site}/{gemm}/a/{part}/sampling" if part else f"{site}/{gemm}/a/sampling" for part in spec.a.quantizers()]
        transforms = [*spec.a.transforms, *spec.b.transforms, *([spec.transform] if spec.transform is not None else [])]
        found += [f"{site}/{t.stream or gemm}/transform/signs" for t in transforms if t.signs == "random"]
    return found


def _shown(rule: Rule) -> str:
    given = {k: v for k in ("role", "name", "index", "first", "last") if (v := getattr(rule, k)) not in (None, ())}
    return ", ".join(f"{k} {' or '.join(v) if isinstance(v, tuple) else v}" for k, v in given.items())

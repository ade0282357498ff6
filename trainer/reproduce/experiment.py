"""An experiment: the claim, its source, the arms, the figure, and the signs that are expected before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from lpref.ref.errors import SpecError, UnknownNameError


@dataclass(frozen=True)
class Expectation:
    """One sign, tested on the differences of two arms (or on one arm) seed by seed.

    less, more   figure(more) - figure(less) > by. Arms are paired by seed; ``a - b`` is the difference of two arms. Without `less`: figure(more) > by
    zero         the figure of this arm is 0 on average: its interval holds 0 and reaches no further than `within`
    ratio        compare figure(more) / figure(less) with `by` instead of the difference
    """

    less: str = ""
    more: str = ""
    by: float = 0.0
    ratio: bool = False
    zero: str = ""
    within: float = 0.0
    says: str = ""

    def __post_init__(self) -> None:
        if bool(self.zero) == bool(self.more) or (self.less and not self.more):
            raise SpecError(["expect: give more and, to compare, less; or zero"])
        if self.ratio and not self.less:
            raise SpecError(["ratio: it takes two arms, less and more"])
        if self.zero and self.within <= 0:
            raise SpecError(["within: how far from 0 an interval may reach, above 0"])

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that it needs."""
        return tuple(arm for side in (self.zero, self.less, self.more) for arm in side.split(" - ") if arm)


@dataclass(frozen=True)
class Experiment:
    """A claim of the literature and the runs that test it at a size that a laptop holds.

    measure   a function of `MEASURES`, whose parameters are the arms' fields over `common`; one that trains does so on the CPU unless `backend`,
              a field, says otherwise
    train     a training spec, whose fields (dotted paths) are the arms' over `common`; `figure` names the metric
              (``valid.loss``: its last value; ``sum:…``, ``max:…``, ``mean:…`` over the logged steps)
    expect    the signs the claim predicts
    control   signs that hold whatever the claim is worth, by which a broken experiment shows
    first_seed  the seeds are this one and the next ones: an experiment that runs again after its figures were looked at takes fresh ones
    minutes   on two cores of a CPU (`device` cpu) or on one GPU, all arms and seeds
    long      too long for `--all`: it runs where it is named
    """

    name: str
    title: str
    claim: str
    source: str
    arms: Mapping[str, Mapping[str, Any]] = field(hash=False)
    expect: tuple[Expectation, ...]
    control: tuple[Expectation, ...] = ()
    measure: str = ""
    train: str = ""
    figure: str = "valid.loss"
    common: Mapping[str, Any] = field(default_factory=dict, hash=False)
    seeds: int = 3
    first_seed: int = 1
    minutes: float = 1.0
    device: Literal["cpu", "cuda"] = "cpu"
    long: bool = False
    notes: str = ""

    def __post_init__(self) -> None:
        problems = []
        if bool(self.measure) == bool(self.train):
            problems.append("measure: give a measurement or a training spec, not both")
        for where, signs in (("expect", self.expect), ("control", self.control)):
            problems += [f"{where}.{i}: there is no arm {arm!r}" for i, sign in enumerate(signs) for arm in sign.arms if arm not in self.arms]
        if not self.expect:
            problems.append("expect: an experiment expects something")
        if self.seeds < 2:
            problems.append(f"seeds: {self.seeds}; an interval needs at least 2")
        if self.first_seed < 1:
            problems.append(f"first_seed: {self.first_seed}; the first is 1")
        if problems:
            raise SpecError(problems)


def experiment_names() -> list[str]:
    """The experiments that come with the package, T1 before T10."""
    folder = resources.files("lpref.specs") / "experiments"
    names = [f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")]
    return sorted(names, key=lambda name: (int("".join(c for c in name if c.isdigit()) or 0), name))


def experiment(name: str) -> Experiment:
    """The experiment of that name. Raises: UnknownNameError; SpecError with every problem of its file."""
    from lpref.specs.building import build
    from lpref.specs.reading import parse

    found = {known.lower(): known for known in experiment_names()}
    if name.lower() not in found:
        raise UnknownNameError("experiment", name, list(found.values()))
    file = resources.files("lpref.specs") / "experiments" / f"{found[name.lower()]}.yaml"
    data = parse(file.read_text(encoding="utf-8"), str(file))
    if data.pop("lpref", None) != 1:
        raise SpecError(["lpref: missing or not 1"], where=str(file))
    made: Experiment = build(Experiment, data, str(file))
    return made

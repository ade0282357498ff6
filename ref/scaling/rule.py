"""`Scale`: which scale a block gets, as data. The rules themselves are the pages beside this one (`amax`, `te`, `mx`, `nvfp4`, ...)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from lpref.ref.errors import SpecError, nearest

Rule = Literal[
    "none", "amax", "te", "mx", "nvfp4", "absmean", "twn", "affine", "bfp", "flexpoint", "s2fp8", "double", "trit_planes", "quartic",
    "learned", "constant", "fan_in", "coat", "minmax", "moments", "two_eps", "double_rounding", "deviation", "center",
    "overflow_rate", "clip", "shift",
]  # fmt: skip
Mode = Literal["floor", "ceil", "rceil", "even", "midmax", "tetrajet"]
Pow2 = Literal["none", "up", "down", "nearest"]
Apply = Literal["divide", "mul_inverse", "te_nvfp4", "torchao"]
NonFinite = Literal["propagate", "ignore", "raise", "saturate"]
Select = Literal["none", "mae", "mse"]
Criterion = Literal["mse", "weighted", "cosine", "percentile"]
Span = Literal["extremes", "symmetric", "rows"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "rule": (
        "none", "amax", "te", "mx", "nvfp4", "absmean", "twn", "affine", "bfp", "flexpoint", "s2fp8", "double", "trit_planes", "quartic",
        "learned", "constant", "fan_in", "coat", "minmax", "moments", "two_eps", "double_rounding", "deviation", "center",
        "overflow_rate", "clip", "shift",
    ),
    "mode": ("floor", "ceil", "rceil", "even", "midmax", "tetrajet"),
    "pow2": ("none", "up", "down", "nearest"),
    "apply": ("divide", "mul_inverse", "te_nvfp4", "torchao"),
    "history": ("current", "delayed", "hindsight"),
    "criterion": ("mse", "weighted", "cosine", "percentile"),
    "algo": ("max", "most_recent"),
    "nonfinite": ("propagate", "ignore", "raise", "saturate"),
    "select": ("none", "mae", "mse"),
    "span": ("extremes", "symmetric", "rows"),
    "zero": ("round", "widen"),
}  # fmt: skip

READS: dict[str, frozenset[str]] = {
    rule: frozenset(names.split())
    for rule, names in {
        "none": "",
        "amax": "pow2 target eps apply multiplier history momentum",
        "te": "pow2 target eps apply history window algo margin",
        "mx": "mode target multiplier",
        "nvfp4": "target apply select scale_max",
        "absmean": "eps apply center",
        "twn": "threshold",
        "affine": "eps apply zero history momentum",
        "bfp": "mode eps",
        "flexpoint": "history window alpha beta gamma",
        "s2fp8": "target",
        "double": "target eps apply group",
        "trit_planes": "ridge iterations",
        "quartic": "eps",
        "learned": "eps apply value",
        "constant": "eps apply value",
        "fan_in": "value",
        "coat": "target eps",
        "minmax": "eps span history momentum",
        "moments": "pow2 target eps apply rms mean",
        "two_eps": "target eps",
        "double_rounding": "eps value high",
        "deviation": "std eps",
        "center": "",
        "overflow_rate": "target history window limit",
        "clip": "target history window criterion steps share",
        "shift": "target group",
    }.items()
}
"""Rule -> the fields that it reads, beside `rule`, `format` and `nonfinite`."""

FORMATS: dict[str, tuple[str, ...]] = {
    "amax": ("float32", "e8m0", "e4m3", "ue4m3", "ue5m3", "binary16"),
    "te": ("float32", "e8m0"),
    "mx": ("e8m0",),
    "bfp": ("e8m0",),
    "nvfp4": ("e4m3", "ue4m3"),
    "double": ("dynamic8",),
    "coat": ("float32", "bfloat16"),
    "minmax": ("float32", "bfloat16"),
    "deviation": ("e8m0",),
}
"""Rule -> the formats of its stored scales; float32 for the others."""

MODES: dict[str, tuple[str, ...]] = {"bfp": ("floor", "ceil")}


@dataclass(frozen=True)
class Scale:
    """A scale rule. Fields that a rule does not read must keep their defaults (`__post_init__` says which one it is)."""

    rule: Rule = "amax"
    format: str = "float32"
    """Number format of the stored block scale: float32, e8m0 (powers of two), e4m3 (nvfp4, amax), dynamic8 (double), bfloat16 (coat, minmax)."""
    mode: Mode = "floor"
    """mx: how the exponent of amax becomes the shared exponent; floor is OCP MX v1.0, rceil NVIDIA's. bfp: floor or ceil."""
    pow2: Pow2 = "none"
    """Round the rule's primary scale to a power of two: the decode scale for `amax`, the encode scale for `te`. nearest: the nearest exponent."""
    target: float | None = None
    """The element value that amax is mapped to; None: the largest value of the element format (`narrow` respected), 2^15 for s2fp8."""
    eps: float = 0.0
    """Lower bound of amax (amax, te, double), of the mean (absmean, quartic), of the step (learned), of the scale (affine); bfp, coat, moments
    and two_eps add it, minmax to the range."""
    apply: Apply = "divide"
    """x / s, x * fl32(1 / s); for nvfp4 the double reciprocal of TransformerEngine or the quotient of torchao."""
    multiplier: float = 1.0
    """Elements are multiplied by this after scaling, and the tensor scale is fl32(1 / multiplier): 3/4 makes MXFP4 + SR unbiased."""
    history: Literal["current", "delayed", "hindsight"] = "current"
    """current: from the tensor itself. delayed: te, flexpoint, overflow_rate keep a history. hindsight: the ranges of the steps before (amax,
    affine, minmax), or the scales of the last search (clip)."""
    window: int = 1024
    """delayed: length of the history. overflow_rate, clip: steps between changes."""
    algo: Literal["max", "most_recent"] = "max"
    margin: int = 0
    """te: the encode scale is divided by 2^margin."""
    value: float = 1.0
    """constant: the scale. learned: the scale where no state holds one yet. fan_in: the step of the elements."""
    nonfinite: NonFinite = "propagate"
    """NaN or infinity in a block: what the rule's page says; `ignore`: statistics over the finite elements; `raise`: NonFiniteError;
    `saturate` (mx): infinity is the next power of two above float32, and saturates."""
    select: Select = "none"
    """nvfp4: try amax at 4 as well as at 6 in every block and keep what has the smaller mean absolute or squared error."""
    scale_max: float = 448.0
    """nvfp4: the E4M3 value that the largest block scale is mapped to; 256 leaves room for the block scales of amax at 4."""
    group: int = 256
    """double: block scales that share a second-level scale. shift: number of different scales."""
    span: Span = "extremes"
    """minmax: what the codes reach from and to: the block's extremes, +-max|x|, or the mean of the rows' extremes."""
    zero: Literal["round", "widen"] = "round"
    """affine: round the zero point and let the ends saturate, or widen the range until it is an integer and nothing saturates."""
    momentum: float = 0.9
    """hindsight: share of the range before in the next one; 0 is the range of the step before."""
    limit: float = 1e-4
    """overflow_rate: the share of overflowed elements that is let pass."""
    criterion: Criterion = "mse"
    """clip: what the best threshold minimizes, or percentile."""
    steps: int = 16
    """clip: candidates, evenly spaced below amax."""
    share: float = 0.999
    """clip, percentile: the share of the elements that is kept."""
    threshold: float = 0.7
    """twn: Delta over the mean magnitude."""
    alpha: float = 2.0
    """flexpoint: headroom factor of Autoflex."""
    beta: float = 3.0
    """flexpoint: standard deviations added to the largest entry of the history."""
    gamma: float = 100.0
    """flexpoint: present scales added to the largest entry of the history."""
    ridge: float = 1e-8
    """trit_planes: lambda of the least squares."""
    iterations: int = 50
    """trit_planes: rounds of alternation at most."""

    std: float = 1.0
    """deviation: the multiple of the standard deviation under the scale's power of two."""
    rms: float = 0.0
    """moments: the multiple of the root of the mean square in the clipping level."""
    mean: float = 0.0
    """moments: the multiple of the mean magnitude in the clipping level; SAWB's is negative."""
    center: bool = False
    """absmean, signs: the block's mean is subtracted before the sign is taken (BitNet)."""
    high: int = 8
    """double_rounding: bits of the codes that are stored."""

    @property
    def learned(self) -> bool:
        """Whether the scale is a parameter."""
        return self.rule in ("learned", "double_rounding")

    def __post_init__(self) -> None:
        problems = []
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                near = nearest(str(value), choices, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(choices)}"
                problems.append(f"scale.{name}: unknown {value!r}; {hint}")
        if not problems:
            problems = [*self._unread(), *self._inconsistent(), *self._out_of_range()]
        if problems:
            raise SpecError(problems)

    def _unread(self) -> list[str]:
        """Fields that were set, but that the rule does not read."""
        reads = READS[self.rule] | {"rule", "format", "nonfinite"}
        changed = [f.name for f in fields(self) if f.name not in reads and getattr(self, f.name) != f.default]
        readers = lambda name: [rule for rule, names in READS.items() if name in names]  # noqa: E731
        return [
            f"scale.{name}: rule {self.rule!r} does not read it; leave it out, or use rule {' or '.join(readers(name))}"
            for name in changed
        ]

    def _inconsistent(self) -> list[str]:
        """Combinations without a meaning."""
        allowed, problems = FORMATS.get(self.rule, ("float32",)), []
        if self.format not in allowed:
            problems.append(f"scale.format: rule {self.rule!r} stores its scales as {' or '.join(allowed)}, not {self.format!r}")
        if self.rule in ("amax", "te") and self.format == "e8m0" and self.pow2 == "none":
            problems.append("scale.pow2: 'none', but e8m0 scales are powers of two; use up, down or nearest")
        if (self.apply in ("te_nvfp4", "torchao")) != (self.rule == "nvfp4"):
            problems.append(
                f"scale.apply: 'te_nvfp4' and 'torchao' go with rule 'nvfp4' only, and it with no other; got {self.apply!r} with {self.rule!r}"
            )
        if self.rule == "te" and self.apply != "mul_inverse":
            problems.append("scale.apply: rule 'te' multiplies by the encode scale; write mul_inverse")
        if self.rule in ("flexpoint", "overflow_rate") and self.history != "delayed":
            problems.append(f"scale.history: rule {self.rule!r} makes its scale from a history; write delayed")
        remembered = {"delayed": ("te", "flexpoint", "overflow_rate"), "hindsight": ("amax", "affine", "minmax", "clip")}
        if self.history != "current" and self.rule not in remembered[self.history]:
            problems.append(f"scale.history: {self.history!r} goes with rule {' or '.join(remembered[self.history])}, not {self.rule!r}")
        if self.mode not in MODES.get(self.rule, _CHOICES["mode"]):
            problems.append(f"scale.mode: rule {self.rule!r} knows {' and '.join(MODES[self.rule])}, not {self.mode!r}")
        if self.apply == "torchao" and (self.select != "none" or self.scale_max != 448):
            problems.append("scale.apply: 'torchao' has neither select nor scale_max; use te_nvfp4")
        if self.scale_max not in (448, 256):
            problems.append(f"scale.scale_max: {self.scale_max!r}; E4M3 block scales reach up to 448, or 256 with select")
        if self.rule == "moments" and not self.rms:
            problems.append("scale.rms: 0, but rule 'moments' clips at a multiple of the RMS; write it (QuEST, SAWB: see the rule's page)")
        if not 2 <= self.high <= 16:
            problems.append(f"scale.high: {self.high!r}; stored codes have 2 to 16 bits")
        if self.scale_max == 256 and self.select == "none":
            problems.append("scale.scale_max: 256 goes with select mae or mse; without it leave 448")
        if self.nonfinite == "saturate" and self.rule != "mx":
            problems.append(f"scale.nonfinite: 'saturate' is defined for rule 'mx', not {self.rule!r}; use propagate, ignore or raise")
        return problems

    def _out_of_range(self) -> list[str]:
        positive = ("multiplier", "value", "std", "threshold", "alpha")
        problems = [f"scale.{n}: {getattr(self, n)!r} is not a positive number" for n in positive if not _number(getattr(self, n), above=True)]
        zero_up = ("eps", "beta", "gamma", "ridge", "rms")
        problems += [f"scale.{n}: {getattr(self, n)!r} is not a number >= 0" for n in zero_up if not _number(getattr(self, n))]
        if self.target is not None and not _number(self.target, above=True):
            problems.append(f"scale.target: {self.target!r} is not a positive number")
        shares = (("momentum", self.momentum), ("limit", self.limit))
        problems += [f"scale.{name}: {share!r} is not in [0, 1)" for name, share in shares if not _number(share) or share >= 1]
        if not _number(self.share, above=True) or self.share > 1:
            problems.append(f"scale.share: {self.share!r} is not in (0, 1]")
        for name in ("window", "group", "iterations", "steps"):
            value: Any = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                problems.append(f"scale.{name}: {value!r} is not a positive integer")
        return problems


def _number(value: float, above: bool = False) -> bool:
    return math.isfinite(value) and (value > 0 if above else value >= 0)

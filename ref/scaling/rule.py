"""`Scale`: which scale a block gets, as data. The rules themselves are the pages beside this one (`amax`, `te`, `mx`, `nvfp4`, ...)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lpref.ref.errors import SpecError, nearest

Rule = Literal["none", "amax", "te", "mx", "nvfp4", "absmean", "learned", "constant"]
Mode = Literal["floor", "ceil", "rceil", "even"]
Pow2 = Literal["none", "up", "down"]
Apply = Literal["divide", "mul_inverse", "te_nvfp4"]
NonFinite = Literal["propagate", "ignore", "raise"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "rule": ("none", "amax", "te", "mx", "nvfp4", "absmean", "learned", "constant"),
    "mode": ("floor", "ceil", "rceil", "even"),
    "pow2": ("none", "up", "down"),
    "apply": ("divide", "mul_inverse", "te_nvfp4"),
    "history": ("current", "delayed"),
    "algo": ("max", "most_recent"),
    "nonfinite": ("propagate", "ignore", "raise"),
}


@dataclass(frozen=True)
class Scale:
    """A scale rule. Fields that a rule does not read must keep their defaults (`__post_init__` says which one it is)."""

    rule: Rule = "amax"
    format: str = "float32"
    """Number format of the stored block scale: float32, e8m0 (powers of two) or e4m3 (nvfp4)."""
    mode: Mode = "floor"
    """mx only: how the exponent of amax becomes the shared exponent; floor is OCP MX v1.0, rceil NVIDIA's."""
    pow2: Pow2 = "none"
    """Round the rule's primary scale to a power of two: the decode scale for `amax`, the encode scale for `te`."""
    target: float | None = None
    """The element value that amax is mapped to; None: the largest value of the element format (`narrow` respected)."""
    eps: float = 0.0
    """Lower bound of amax (amax, te), of the mean (absmean), of the step (learned)."""
    apply: Apply = "divide"
    """x / s, x * fl32(1 / s), or the double reciprocal of TransformerEngine's NVFP4."""
    multiplier: float = 1.0
    """Elements are multiplied by this after scaling, and the tensor scale is fl32(1 / multiplier): 3/4 makes MXFP4 + SR unbiased."""
    history: Literal["current", "delayed"] = "current"
    window: int = 1024
    """delayed: length of the amax history."""
    algo: Literal["max", "most_recent"] = "max"
    margin: int = 0
    """te: the encode scale is divided by 2^margin."""
    value: float = 1.0
    """constant: the scale. learned: the scale where no state holds one yet."""
    nonfinite: NonFinite = "propagate"
    """NaN or infinity in a block: what the rule's page says; `ignore`: statistics over the finite elements; `raise`: NonFiniteError."""

    def __post_init__(self) -> None:
        problems = []
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                near = nearest(str(value), choices, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(choices)}"
                problems.append(f"scale.{name}: unknown {value!r}; {hint}")
        if not problems:
            problems = self._inconsistent()
        if problems:
            raise SpecError(problems)

    def _inconsistent(self) -> list[str]:
        formats = {"mx": ("e8m0",), "nvfp4": ("e4m3", "ue4m3"), "amax": ("float32", "e8m0"), "te": ("float32", "e8m0")}
        allowed, problems = formats.get(self.rule, ("float32",)), []
        if self.format not in allowed:
            problems.append(f"scale.format: rule {self.rule!r} stores its scales as {' or '.join(allowed)}, not {self.format!r}")
        if self.rule in ("amax", "te") and self.format == "e8m0" and self.pow2 == "none":
            problems.append("scale.pow2: 'none', but e8m0 scales are powers of two; use up or down")
        if self.pow2 != "none" and self.rule not in ("amax", "te"):
            problems.append(f"scale.pow2: rule {self.rule!r} does not read it")
        if (self.apply == "te_nvfp4") != (self.rule == "nvfp4"):
            problems.append(f"scale.apply: 'te_nvfp4' goes with rule 'nvfp4' only, and it with no other; got {self.apply!r} with {self.rule!r}")
        if self.rule == "te" and self.apply != "mul_inverse":
            problems.append("scale.apply: rule 'te' multiplies by the encode scale; write mul_inverse")
        if self.history == "delayed" and self.rule != "te":
            problems.append(f"scale.history: 'delayed' is defined for rule 'te', not {self.rule!r}")
        if self.multiplier != 1.0 and self.rule != "mx":
            problems.append(f"scale.multiplier: rule {self.rule!r} does not read it")
        for name in ("multiplier", "value"):
            number = getattr(self, name)
            if not (math.isfinite(number) and number > 0):
                problems.append(f"scale.{name}: {number!r} is not a positive number")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            problems.append(f"scale.eps: {self.eps!r} is not a number >= 0")
        if self.target is not None and not (math.isfinite(self.target) and self.target > 0):
            problems.append(f"scale.target: {self.target!r} is not a positive number")
        if self.window < 1:
            problems.append(f"scale.window: {self.window!r} is not a positive integer")
        return problems

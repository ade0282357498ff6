"""`Quantizer`: format x blocks x scale rule x rounding x overflow x gradient rule, as data; no behaviour lives here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lpref.ref.errors import LprefError, SpecError
from lpref.ref.formats import VECTOR_FORMATS, Format, VectorFormat
from lpref.ref.formats import format as format_named
from lpref.ref.hashed import hashed_once
from lpref.ref.rounding import overflow as overflow_named
from lpref.ref.rounding import rounding as rounding_named
from lpref.ref.scaling import Blocks, Scale

PER_TENSOR, AMAX = Blocks(), Scale()
TAILS = ("error", "pad_zero", "partial")
Gradient = Literal["ste", "clipped_ste", "zero", "trust", "dge", "tanh", "dsq", "ewgs", "lsq", "lsq_plus", "pact", "affine", "xnor"]
GRADIENTS: tuple[str, ...] = get_args(Gradient)


@dataclass(frozen=True)
class GradRule:
    """What the backward pass puts in place of the derivative of rounding: the pages of `lpref.ref.recipes.gradients`, and their settings.

    ste: 1 everywhere. clipped_ste: 0 where the element saturated. zero: no gradient. trust: 1 where the rounding error is small. dge, tanh, dsq:
    derivatives of surrogates. ewgs: scaled by the rounding error. lsq: a learned step; lsq_plus: and offset; affine: and zero point; pact: a
    learned clipping level; xnor: of a scaled sign.
    """

    kind: Gradient = "ste"
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.kind not in GRADIENTS:
            raise SpecError([f"gradient.kind: unknown {self.kind!r}; known: {', '.join(GRADIENTS)}"])


def _element_format(name: Any) -> Format | VectorFormat:
    """The format of that name, of numbers or of vectors."""
    return VECTOR_FORMATS[name] if name in VECTOR_FORMATS else format_named(name)


@hashed_once
@dataclass(frozen=True)
class Quantizer:
    """How a tensor becomes codes and scales.

    format     name of the element format
    blocks     elements that share a scale, relative to the contraction axis
    scale      the scale rule
    rounding   name of a rounding; stochastic ones take `word_bits` bits per element (None: the format's default)
    overflow   name of an overflow preset, for elements beyond the format's range after scaling
    narrow     integers: codes stay in +-(2^(b-1) - 1)
    tail       an axis that is no multiple of the block: error; pad_zero (stored layouts are padded with zero codes to whole blocks);
               partial (stored layouts stay ragged). Padding never enters statistics, codes or the word index.
    outlier    elements beyond the range: saturate
    gradient   the gradient rule
    """

    format: str
    blocks: Blocks = PER_TENSOR
    scale: Scale = AMAX
    rounding: str = "nearest_even"
    word_bits: int | None = None
    overflow: str = "saturate"
    narrow: bool = True
    tail: Literal["error", "pad_zero", "partial"] = "error"
    outlier: Literal["saturate"] = "saturate"
    gradient: GradRule = GradRule()
    name: str = ""
    revision: int = 1
    standard: str = ""

    def __post_init__(self) -> None:
        problems = [*self._unknown_names()]
        if not problems:
            problems = self._inconsistent()
        if problems:
            raise SpecError(problems, where=f"quantizer {self.name}".strip())

    def _unknown_names(self) -> list[str]:
        problems = []
        for field_name, resolve in (("format", _element_format), ("rounding", rounding_named), ("overflow", overflow_named)):
            try:
                resolve(getattr(self, field_name))
            except LprefError as error:  # an unknown name, or a family's parameters out of range
                problems.append(f"{field_name}: {error}")
        for field_name, known in (("tail", TAILS), ("outlier", ("saturate",))):
            if getattr(self, field_name) not in known:
                problems.append(f"{field_name}: unknown {getattr(self, field_name)!r}; known: {', '.join(known)}")
        return problems

    def _inconsistent(self) -> list[str]:
        fmt, rule, problems = _element_format(self.format), self.scale.rule, []
        if self.word_bits not in (None, 8, 16, 32):
            problems.append(f"word_bits: {self.word_bits!r}; an element takes 8, 16 or 32 random bits (null: the format's default)")
        if (rule == "quartic") != isinstance(fmt, VectorFormat):
            return [f"scale.rule: 'quartic' goes with format complex_quartic, and it with no other; got {rule!r} with {self.format}"]
        if isinstance(fmt, VectorFormat):
            return [*problems, *self._quartic_problems()]
        problems += self._element_problems(fmt)
        if rule == "nvfp4" and self.format != "e2m1":
            problems.append(f"scale.rule: 'nvfp4' scales e2m1 elements, not {self.format}")
        if rule == "mx" and fmt.precision is None:
            problems.append(f"scale.rule: 'mx' needs a float or integer format, not the code book {self.format}")
        if rule != "none" and fmt.bits > 16:
            problems.append(f"format: {self.format} has {fmt.bits} bits; scaled elements have at most 16 (rule none casts)")
        if self.scale.history == "hindsight" and rule != "clip" and self.blocks != PER_TENSOR:
            problems.append("scale.history: 'hindsight' keeps one range per tensor; use blocks {other: all, k: all}")
        if self.scale.span == "rows" and self.blocks != PER_TENSOR:
            problems.append("scale.span: 'rows' makes one range of all rows; use blocks {other: all, k: all}")
        if rule == "s2fp8" and self.blocks != PER_TENSOR:
            problems.append("blocks: 's2fp8' has one shift and squeeze per tensor; use blocks {other: all, k: all}")
        if self.scale.history == "delayed" and self.blocks != PER_TENSOR:
            problems.append("scale.history: 'delayed' keeps one amax per tensor; use blocks {other: all, k: all}")
        if isinstance(self.revision, bool) or not isinstance(self.revision, int) or self.revision < 1:
            problems.append(f"revision: {self.revision!r} is not a positive integer")
        return problems

    def _quartic_problems(self) -> list[str]:
        """What classifying vectors does not read."""
        found = [] if self.blocks == PER_TENSOR else ["blocks: 'quartic' has two scales per tensor; use blocks {other: all, k: all}"]
        for name, only in (("rounding", "nearest_even"), ("overflow", "saturate"), ("word_bits", None)):
            if getattr(self, name) != only:
                found.append(f"{name}: 'quartic' classifies and rounds nothing; leave {only!r}, not {getattr(self, name)!r}")
        if self.scale.nonfinite != "propagate":
            found.append(f"scale.nonfinite: 'quartic' refuses NaN, and infinity makes NaN; leave 'propagate', not {self.scale.nonfinite!r}")
        if self.gradient.kind not in ("ste", "zero"):
            found.append(f"gradient.kind: rule 'quartic' has no clipping range; use ste, not {self.gradient.kind!r}")
        return found

    def _element_problems(self, fmt: Format) -> list[str]:
        """Elements that the rule cannot scale, and gradients that it does not have."""
        rule, problems = self.scale.rule, []
        integers = getattr(fmt, "is_signed", None) is not None and fmt.min_subnormal == 1.0
        if rule == "affine" and not integers:
            problems.append(f"scale.rule: 'affine' has zero points, so it needs an integer format (uint4, int8, ...), not {self.format}")
        if rule in ("bfp", "flexpoint") and not (integers and fmt.signed and self.narrow):
            problems.append(f"scale.rule: {rule!r} needs signed integers with narrow: true, not {self.format}")
        ternary = (fmt.min, fmt.max) == (-1.0, 1.0) or (self.format == "int2" and self.narrow)
        if rule in ("twn", "trit_planes") and not (ternary and fmt.bits == 2):
            problems.append(f"scale.rule: {rule!r} makes -1, 0 and 1: use format ternary, or int2 with narrow: true, not {self.format}")
        if rule == "s2fp8" and fmt.precision is None:
            problems.append(f"scale.rule: 's2fp8' needs a float format such as e5m2, not the code book {self.format}")
        if rule == "minmax" and not (integers and not fmt.signed):
            problems.append(f"scale.rule: 'minmax' counts from the smallest element; use an unsigned integer format, not {self.format}")
        if self.scale.center and fmt.bits != 1:
            problems.append(f"scale.center: goes with signs (format int1 or binary), not with {self.format}")
        if rule == "double_rounding" and not (integers and fmt.signed and not self.narrow and fmt.bits <= self.scale.high):
            problems.append(f"scale.rule: 'double_rounding' needs signed integers of at most {self.scale.high} bits (scale.high) with narrow: false")
        if rule in ("affine", "minmax", "s2fp8", "trit_planes", "twn") and self.gradient.kind in ("clipped_ste", "lsq", "lsq_plus"):
            problems.append(f"gradient.kind: rule {rule!r} has no clipping range; use ste, not {self.gradient.kind!r}")
        return problems

"""`Quantizer`: format x blocks x scale rule x rounding x overflow x gradient rule, as data; no behaviour lives here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lpref.ref.errors import SpecError
from lpref.ref.scaling import Blocks, Scale

GRADIENTS = ("ste", "clipped_ste", "lsq", "trust", "dge", "pact", "tanh", "zero")


@dataclass(frozen=True)
class GradRule:
    """What the backward pass puts in place of the derivative of rounding.

    ste: 1 everywhere. clipped_ste: 0 where the element saturated. lsq: clipped_ste for x, and the learned-step gradient for the scale.
    trust: 1 where ``|q - x| <= threshold``. dge, pact, tanh: surrogates with `params`. zero: no gradient.
    """

    kind: Literal["ste", "clipped_ste", "lsq", "trust", "dge", "pact", "tanh", "zero"] = "ste"
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.kind not in GRADIENTS:
            raise SpecError([f"gradient.kind: unknown {self.kind!r}; known: {', '.join(GRADIENTS)}"])


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
    blocks: Blocks = Blocks()
    scale: Scale = Scale()
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

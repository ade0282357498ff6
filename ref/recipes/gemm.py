"""What one GEMM of a training step computes: its two operands (`Slot`), transforms, terms, sampling, accumulation and epilogue.

Axes are relative to the GEMM: k is contracted, `other` is the operand's own. The GEMM maps ``a [other_a, k]`` and ``b [other_b, k]``
to ``[other_a, other_b]``:

    GEMM    a             b            k   output
    fprop   X  [M, K]     W [N, K]     K   Y  [M, N]
    dgrad   dY [M, N]     W [N, K]     N   dX [M, K]
    wgrad   dY [M, N]     X [M, K]     M   dW [N, K]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lpref.ref.errors import SpecError
from lpref.ref.linalg import Accumulate
from lpref.ref.quantize import Blocks, GradRule, Quantizer
from lpref.ref.recipes.transform import Transform

PER_TENSOR, STE, FLOAT32 = Blocks(), GradRule(), Accumulate()
GEMMS = ("fprop", "dgrad", "wgrad")
# slot -> the tensor that it holds
TENSORS = {"fprop.a": "x", "fprop.b": "w", "dgrad.a": "dy", "dgrad.b": "w", "wgrad.a": "dy", "wgrad.b": "x"}


@dataclass(frozen=True)
class PlannedQuantizer:
    """A quantizer whose mechanism is not in the library yet: written down exactly, refused when a step would run it.

    missing     the mechanism, in words
    statistic   the scale as a formula over the block
    parameters  the formula's constants
    """

    missing: str
    format: str
    statistic: str
    blocks: Blocks = PER_TENSOR
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    rounding: str = "nearest_even"
    word_bits: int | None = None
    gradient: GradRule = STE


@dataclass(frozen=True)
class Split:
    """An operand as a sum of parts, each with a quantizer's worth of bits; the GEMM becomes the sum of its `terms`.

    digits    x scaled so that amax maps to `target`; hi = round(clamp(x / radix, -limit, limit)), lo = round(x - radix hi), clamped alike
    residual  hi = Q(x), lo = x - hi where |x| is beyond `target` quantiles
    complex   real and imaginary part
    """

    kind: Literal["digits", "residual", "complex"]
    parts: tuple[str, ...]
    radix: float = 1.0
    limit: int = 0
    target: float = 0.0
    rounding: tuple[str, ...] = ()
    stacked: bool = False
    """The parts are stacked as more rows (before sampling), instead of being multiplied one by one."""


@dataclass(frozen=True)
class Expression:
    """A weight slot that holds an expression in parameters instead of a parameter.

    low_rank   W + alpha B A, with A [rank, K] and B [N, rank]
    """

    kind: Literal["low_rank"]
    rank: int
    alpha: float = 1.0
    trained: tuple[str, ...] = ("a", "b")
    frozen: tuple[str, ...] = ("w",)


@dataclass(frozen=True)
class Slot:
    """One operand of a GEMM.

    source      hp                the high-precision tensor
                requant           the values of codes that exist already (`of`), quantized again; without a quantizer: those values
                reuse             the very codes, contracted along the axis that they were made for
                reuse_transposed  the very codes, contracted along their other axis (square blocks and whole tensors only)
    of          whose codes: an entry of `save`, or ``dgrad.a``. Empty: `w`, `x`, or for dY ``dgrad.a``
    quantizer   null keeps high precision
    transforms  applied in order before quantization; the GEMM's paired transform comes last
    """

    source: Literal["hp", "requant", "reuse", "reuse_transposed"] = "hp"
    of: str = ""
    quantizer: Quantizer | PlannedQuantizer | None = None
    transforms: tuple[Transform, ...] = ()
    split: Split | None = None
    expression: Expression | None = None


@dataclass(frozen=True)
class Term:
    """One product of a sum of GEMMs: factor x (part of a) x (part of b), added to the part `output` of the result."""

    a: str = ""
    b: str = ""
    factor: float = 1.0
    output: str = ""


@dataclass(frozen=True)
class Sampling:
    """Rows of the stacked operands that take part.

    leverage   row i with probability p_i, capped at 1 with the rest redistributed, kept rows times 1 / p_i: unbiased
    top        the rows with the largest p_i, not rescaled: biased
    p_i is proportional to the product of the norms of the rows that `norms` names; they add up to share x rows.
    """

    kind: Literal["leverage", "top"] = "leverage"
    axis: Literal["k", "other"] = "k"
    share: float = 0.5
    norms: tuple[str, ...] = ("a", "b")


@dataclass(frozen=True)
class Epilogue:
    """One step between the accumulator and the output, in the order of the list.

    scale     times `factor`
    mask      keep what the saved mask `mask` lets pass, +0 elsewhere (whatever stood there), in the basis in which the mask was made
    inverse   undo `transform` along the axis that the output has from operand `side` (a: rows, b: columns)
    combine   add the parts of a stacked operand
    quantize  to codes of `quantizer` and back, as the result is stored; words ``site/gemm/output/rounding``, element index row-major in
              the output (dY's and X's counting for Y and dX: micro-batches one behind the other)
    """

    kind: Literal["scale", "mask", "inverse", "combine", "quantize"]
    factor: float = 1.0
    mask: str = ""
    side: Literal["a", "b"] = "b"
    transform: Transform | None = None
    quantizer: Quantizer | None = None

    def __post_init__(self) -> None:
        problems = []
        if (self.kind == "quantize") != (self.quantizer is not None):
            problems.append("quantizer: a quantize step has one, and no other step does")
        if (self.kind == "mask") != bool(self.mask):
            problems.append("mask: a mask step names a saved mask, and no other step does")
        if (self.kind == "inverse") != (self.transform is not None):
            problems.append("transform: an inverse step names the transform to undo, and no other step does")
        if problems:
            raise SpecError(problems)


@dataclass(frozen=True)
class GemmSpec:
    """One GEMM. `transform` is paired: along k, on both operands, after the slots' own transforms."""

    a: Slot = Slot()
    b: Slot = Slot()
    transform: Transform | None = None
    terms: tuple[Term, ...] = ()
    sampling: Sampling | None = None
    accumulate: Accumulate = FLOAT32
    epilogue: tuple[Epilogue, ...] = ()
    output: str = "float32"
    """Format of the result, rounded to nearest even: float32, bfloat16, binary16, …"""

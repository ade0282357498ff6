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
    """An operand as a sum of parts; the GEMM becomes the sum of its `terms`, or one product of the stacked parts (`stacked`).

    residual  p_1 = Q_1(x), p_2 = Q_2(x - p_1), ...: each part quantizes what the parts before it have left. With `target`, z = x target / amax
              is split, and the product is divided by fl32(target / amax): parts in constant steps are the digits of z.
    fallback  p_1 = Q_1(x), p_2 = Q_2(x - p_1) in those blocks of Q_1 whose amax is above `threshold`, and 0 in the others
    outliers  c = clamp(x, lo, hi), p_1 = Q_1(c), p_2 = Q_2(x - c); hi and lo are the elements with the ranks floor(keep (n - 1)) and
              ceil((1 - keep)(n - 1)) of the n elements in ascending order: keep 1 clamps nothing
    samples   p_i = Q_i(x), with random words of its own for every part
    complex   p_1, p_2 = real and imaginary parts, which stand side by side in the tensor (see `parts`); Q_i quantizes each
    """

    kind: Literal["residual", "fallback", "outliers", "samples", "complex"]
    parts: tuple[str, ...]
    quantizers: tuple[Quantizer | PlannedQuantizer | None, ...] = ()
    """One for each part; null keeps it in high precision. Left out: the slot's, for every part."""
    target: float | None = None
    keep: float = 1.0
    threshold: float = 0.0
    band: tuple[float, ...] = ()
    step: float = 1.3
    """fallback: the share of blocks that fall back is held between the two numbers of `band` by a threshold of the layer's own, which `threshold`
    starts and which is multiplied or divided by `step` between steps (`lpref.ref.recipes.fallback`)."""
    stacked: bool = False
    """The parts are stacked as more rows (before sampling), instead of being multiplied one by one."""

    def __post_init__(self) -> None:
        problems = []
        if len(set(self.parts)) != len(self.parts) or len(self.parts) < (1 if self.kind == "residual" else 2):
            problems.append(f"parts: {', '.join(self.parts) or 'none'}; a {self.kind} split has parts of different names, two at least")
        if self.kind in ("fallback", "outliers", "complex") and len(self.parts) != 2:
            problems.append(f"parts: {self.kind} makes two parts, not {len(self.parts)}")
        if self.quantizers and len(self.quantizers) != len(self.parts):
            problems.append(f"quantizers: {len(self.quantizers)} for {len(self.parts)} parts")
        if self.target is not None and (self.kind != "residual" or self.target <= 0):
            problems.append(f"target: {self.target!r}; the number above 0 that amax becomes in a residual split")
        if not 0.5 < self.keep <= 1 or (self.keep != 1 and self.kind != "outliers"):
            problems.append(f"keep: {self.keep!r}; the quantile, above 0.5 and up to 1, of an outliers split")
        if self.threshold < 0 or (self.threshold and self.kind != "fallback"):
            problems.append(f"threshold: {self.threshold!r}; the amax of a block, at least 0, of a fallback split")
        if self.band and (self.kind != "fallback" or len(self.band) != 2 or not 0 <= self.band[0] < self.band[1] <= 1 or self.threshold <= 0):
            problems.append(f"band: {self.band!r}; two shares in ascending order, of a fallback split that starts with a threshold above 0")
        if self.step <= 1:
            problems.append(f"step: {self.step!r}; the factor above 1 of a threshold that moves")
        if problems:
            raise SpecError(problems)


@dataclass(frozen=True)
class Mixing:
    """Rows mixed before quantization and unmixed after it: x^ = T^-1 Q(T x), with a matrix T that the tensor chooses.

    householder  rows are sorted by range (max - min + eps); the rows with the largest ranges lead a group each, the small rows are dealt out in
                 proportion to the leader's range; T is diag(s) times a reflection in each group, see `lpref.ref.recipes.mixing`
    """

    kind: Literal["householder"] = "householder"
    eps: float = 1e-8


@dataclass(frozen=True)
class Expression:
    """A weight slot that holds an expression in parameters instead of a parameter (`lpref.ref.recipes.expression`).

    low_rank   W + alpha B A, with A [rank, K] and B [N, rank]; place inside: quantized as a whole; outside: B A is added to the quantized W
    """

    kind: Literal["low_rank"] = "low_rank"
    rank: int = 4
    alpha: float = 1.0
    place: Literal["inside", "outside"] = "inside"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise SpecError([f"rank: {self.rank} is not a positive integer"])


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
    split       the operand in parts, after the transforms
    mixing      rows mixed and unmixed around the quantizer
    fade        forward slots: the operand is (1 - fade) v + fade Q(v), in float32; 1: the codes themselves. Phases may raise it
    guided      fprop.b: round to the neighbour nearer to the weight's companion tensor, see `lpref.ref.recipes.guided`
    """

    source: Literal["hp", "requant", "reuse", "reuse_transposed"] = "hp"
    of: str = ""
    quantizer: Quantizer | PlannedQuantizer | None = None
    transforms: tuple[Transform, ...] = ()
    split: Split | None = None
    mixing: Mixing | None = None
    expression: Expression | None = None
    guided: bool = False
    fade: float = 1.0

    def quantizers(self) -> dict[str, Quantizer | PlannedQuantizer | None]:
        """Part -> its quantizer; the part of an operand that is not split is the empty name."""
        if self.split is None:
            return {"": self.quantizer}
        given = self.split.quantizers or (self.quantizer,) * len(self.split.parts)
        return dict(zip(self.split.parts, given, strict=True))


@dataclass(frozen=True)
class Term:
    """One product of a sum of GEMMs: factor x (part of a) x (part of b), added to the part `output` of the result."""

    a: str = ""
    b: str = ""
    factor: float = 1.0
    output: str = ""


@dataclass(frozen=True)
class Sampling:
    """Rows of the stacked operands that take part: the tokens, axis `other` of dgrad and `k` of wgrad.

    leverage   row i with probability p_i, capped at 1 with the rest redistributed, kept rows times 1 / p_i: unbiased
    top        the rows with the largest scores, not rescaled: biased
    p_i is proportional to the product of the scores of the rows that `norms` names; they add up to share x rows.
    """

    kind: Literal["leverage", "top"] = "leverage"
    axis: Literal["k", "other"] = "k"
    share: float = 0.5
    norms: tuple[Literal["a", "b"], ...] = ("a", "b")
    score: Literal["norm", "amax"] = "norm"
    """Of a row: the Euclidean norm, or the largest magnitude."""

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.share <= 1:
            problems.append(f"share: {self.share!r} of the rows; above 0, at most 1")
        if not self.norms or len(set(self.norms)) != len(self.norms):
            problems.append(f"norms: {', '.join(self.norms) or 'none'}; a, b, or both")
        if self.axis == "other" and "b" in self.norms:
            problems.append("norms: b; along the other axis of a, b has no rows to weigh")
        if problems:
            raise SpecError(problems)


@dataclass(frozen=True)
class Epilogue:
    """One step between the accumulator and the output, in the order of the list.

    scale     times `factor`, and times (length of the axis `size`)^`power` where there is a power: k is the contracted axis, a and b are the
              rows and columns of the output. ``{kind: scale, size: k, power: -0.5}`` keeps the variance of a product of unit variance.
    mask      keep what the saved mask `mask` lets pass, +0 elsewhere (whatever stood there), in the basis in which the mask was made
    inverse   undo `transform` along the axis that the output has from operand `side` (a: rows, b: columns)
    combine   add the parts of a stacked operand
    quantize  to codes of `quantizer` and back, as the result is stored; words ``site/gemm/output/rounding``, element index row-major in
              the output (dY's and X's counting for Y and dX: micro-batches one behind the other)
    """

    kind: Literal["scale", "mask", "inverse", "combine", "quantize"]
    factor: float = 1.0
    size: Literal["k", "a", "b"] = "k"
    power: float = 0.0
    mask: str = ""
    side: Literal["a", "b"] = "b"
    transform: Transform | None = None
    quantizer: Quantizer | None = None

    def __post_init__(self) -> None:
        problems = []
        if (self.kind == "quantize") != (self.quantizer is not None):
            problems.append("quantizer: a quantize step has one, and no other step does")
        if self.kind != "scale" and (self.power or self.factor != 1):
            problems.append("power: only a scale step has a factor or a power")
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

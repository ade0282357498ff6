r"""Operations that are no linear layer under a recipe: `OpRecipe` says what is done around them, `Operation` does it.

An operation y = f(x_1, .., p_1, ..) of activations x and parameters p (p are never quantized) becomes

    x_i' = Q_input(x_i) * scale_in_i        y' = Q_output(f(x', p) * scale_out)
    kept for the backward pass: Q_saved(x_i') (x_i' where there is no such quantizer), and all that f keeps of its own
    g' = Q_gradient(g)                      dx_i = f_i'(g'; kept) * scale_grad_i,  dp likewise

Quantizers pass gradients straight through, and no factor is differentiated: what the backward pass is multiplied with is `scale_grad`
alone. So the forward and the backward pass may have factors of their own (unit scaling), and a saved copy may be coarse while the forward
pass is exact, bit for bit (compressed activations). What f keeps of its own with a row for every row of x (attention probabilities) is
saved under Q_saved too; statistics of rows (a norm's 1 / rms) stay exact. An operation whose derivative only asks for the sign of x (relu)
keeps one bit an element where `saved` is given, and is then exact.

`smooth` (SwiGLU only) quantizes the result channel by channel without giving each a scale of its own in the codes:
y' = Q_output(y * s_i) / s_i with s_i = 1 / max |linear branch of channel i| over the rows (1 where that is 0), so that one channel whose two
weights have aligned does not set the scale of all. In exact arithmetic and without Q it is the identity. Source: arXiv 2409.12517, section 4.4.

Arrays are matrices here: [rows, last axis], contracted over the last axis. Random words (N1): streams ``site/input/i/rounding``,
``site/output/rounding``, ``site/saved/i/rounding``, ``site/gradient/rounding``; rows count those of the global batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lpref.ref.arrays import wide
from lpref.ref.attention.dense import OPERANDS
from lpref.ref.errors import nearest
from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.context import Context
from lpref.ref.recipes.factors import FACTORS, factor
from lpref.ref.recipes.gemm import PlannedQuantizer
from lpref.ref.rounding import is_stochastic

OPERATIONS: dict[str, int] = {
    "embedding": 0, "norm": 1, "activation": 1, "silu": 1, "mul": 2, "residual_split": 1, "residual_add": 2, "attention": 1, "loss": 1,
}  # fmt: skip
"""Kind -> how many of its first inputs are activations. ``activation`` is GELU, ReLU, or SwiGLU as a whole; where a recipe names ``silu`` or
``mul``, SwiGLU runs in these two parts. ``residual_split`` stands where a residual branch leaves the stream (outputs: stream, branch)."""

_QUANTIZERS = ("input", "output", "saved", "gradient")
Factor = float | str


@dataclass(frozen=True)
class OpRecipe:
    """An operation that is no linear layer.

    input, output   quantizers of the activations that enter and of the result
    saved           of the activations that are kept for the backward pass
    gradient        of the gradient that comes in
    scale_in        a factor for each activation, before the operation
    scale_out       a factor for the result
    scale_grad      a factor for the gradient of each input, parameters included; fewer: 1 for the rest
    derivative      of GELU and SiLU (kinds activation, silu): bits of the piece of `lpref.ref.nn.few_bit` that is saved instead of x; 0: none. SwiGLU
                    as a whole has no such derivative: a recipe names silu
    smooth          of SwiGLU and its product: the output is quantized with each channel over its linear branch's largest magnitude
    operands        of attention: "bfloat16" permits a backend of grade fast to round the factors of its products to that; grade exact rounds none
    Factors are numbers, or names of `lpref.ref.recipes.factors`.
    """

    input: Quantizer | PlannedQuantizer | None = None
    output: Quantizer | PlannedQuantizer | None = None
    saved: Quantizer | PlannedQuantizer | None = None
    gradient: Quantizer | PlannedQuantizer | None = None
    scale_in: tuple[Factor, ...] = ()
    scale_out: Factor = 1.0
    scale_grad: tuple[Factor, ...] = ()
    derivative: int = 0
    smooth: bool = False
    operands: Literal["float32", "bfloat16"] = "float32"


def operation_problems(operations: Mapping[str, OpRecipe]) -> Iterator[str]:
    """V9: kinds that exist, factors that exist and have an input, quantizers that an operation can have."""
    for kind, recipe in operations.items():
        where = f"operations.{kind}"
        if kind not in OPERATIONS:
            near = nearest(kind, OPERATIONS)
            yield f"{where}: no such operation; {f'did you mean {near[0]!r}?' if near else 'known: ' + ', '.join(OPERATIONS)}"
            continue
        for name in _QUANTIZERS:
            yield from _quantizer(f"{where}.{name}", getattr(recipe, name))
        if len(recipe.scale_in) > OPERATIONS[kind]:
            yield f"{where}.scale_in: {len(recipe.scale_in)} factors, but {kind} has {OPERATIONS[kind]} activations"
        if recipe.derivative and (kind not in ("activation", "silu") or recipe.derivative not in range(1, 5) or recipe.saved is not None):
            yield f"{where}.derivative: {recipe.derivative!r}; activation and silu may have one of 1 to 4 bits, and then save nothing else"
        if recipe.smooth and (kind not in ("activation", "mul") or recipe.output is None):
            yield f"{where}.smooth: the product of SwiGLU (activation, mul) is smoothed where its output is quantized"
        if recipe.operands != "float32" and (kind != "attention" or recipe.operands not in OPERANDS):
            yield f"{where}.operands: {recipe.operands!r}; only attention has them, of {' or '.join(OPERANDS)}"
        for value in (*recipe.scale_in, recipe.scale_out, *recipe.scale_grad):
            if isinstance(value, str) and value not in FACTORS:
                yield f"{where}: no factor {value!r}; known: {', '.join(FACTORS)}"


def _quantizer(where: str, q: Quantizer | PlannedQuantizer | None) -> Iterator[str]:
    if not isinstance(q, Quantizer):
        return
    if q.scale.learned or q.scale.history != "current":
        yield f"{where}.scale: operations keep no quantizer state; use a scale of the present tensor"
    if q.gradient.kind != "ste":
        yield f"{where}.gradient.kind: {q.gradient.kind!r}; quantizers of operations pass gradients straight through (ste)"


def operation_sites(recipe: OpRecipe, kind: str, site: str) -> list[str]:
    """The site paths whose random words an operation draws."""
    inputs = range(OPERATIONS[kind])
    paths = {**{f"input/{i}": recipe.input for i in inputs}, "output": recipe.output, "gradient": recipe.gradient}
    paths |= {f"saved/{i}": recipe.saved for i in inputs} | ({"saved/own": recipe.saved} if kind == "attention" else {})
    return [f"{site}/{path}/rounding" for path, q in paths.items() if q is not None and is_stochastic(q.rounding)]


@dataclass(frozen=True)
class Operation:
    """An operation of a kind under its recipe, at the site and step of `ctx`; `sizes` are what its factors read beside rows and features."""

    kind: str
    recipe: OpRecipe
    ctx: Context
    sizes: Mapping[str, float]

    @property
    def activations(self) -> int:
        """How many of the first inputs are activations."""
        return OPERATIONS[self.kind]

    @property
    def bare(self) -> bool:
        """Whether nothing is done around the operation: the recipe at most permits something (`OpRecipe.operands`)."""
        return replace(self.recipe, operands="float32") == OpRecipe()

    def enter(self, arrays: Sequence[Any], ops: Any) -> list[Any]:
        """The inputs as the operation sees them."""
        made = list(arrays) if self.bare else [wide(a, ops) for a in arrays]
        for i in range(self.activations):
            made[i] = self.quantized(f"input.{i}", self.recipe.input, made[i], ops)
            if i < len(self.recipe.scale_in):
                made[i] = self.scaled(made[i], self.recipe.scale_in[i], made[i].shape, ops)
        return made

    def leave(self, y: Any, arrays: Sequence[Any], ops: Any) -> Any:
        """The result: its factor (of the sizes of the first of the inputs `arrays`), then its quantizer."""
        y = self.scaled(y, self.recipe.scale_out, tuple(arrays[0].shape), ops)
        if not self.recipe.smooth or not (self.kind == "mul" or self.sizes.get("gated")):
            return self.quantized("output", self.recipe.output, y, ops)
        linear = arrays[1] if self.kind == "mul" else arrays[0][..., y.shape[-1] :]
        top = ops.amax(linear.reshape((-1, linear.shape[-1])), axis=0, keepdims=True)
        one = y.dtype.type(1)
        s = ops.div(one, ops.where(ops.equal(top, y.dtype.type(0)), one, top))
        return ops.div(self.quantized("output", self.recipe.output, ops.mul(y, s), ops), s)

    def incoming(self, g: Any, ops: Any) -> Any:
        """The gradient that the operation's derivative is applied to."""
        return g if self.bare else self.quantized("gradient", self.recipe.gradient, wide(g, ops), ops)

    def outgoing(self, gradients: Sequence[Any], shape: tuple[int, ...], ops: Any) -> list[Any]:
        """The gradients of the inputs with their factors (of the sizes of the first input's `shape`)."""
        factors = [*self.recipe.scale_grad, *(1.0,) * len(gradients)]
        return [None if g is None else self.scaled(g, f, shape, ops) for g, f in zip(gradients, factors, strict=False)]

    def keep(self, arrays: Sequence[Any], ops: Any) -> list[Any]:
        """The inputs as they are saved: activations in codes, parameters as they are."""
        if self.recipe.saved is None:
            return list(arrays)
        codes = [self.codes(f"saved.{i}", a, ops) for i, a in enumerate(arrays[: self.activations])]
        return [*codes, *arrays[self.activations :]]

    def codes(self, slot: str, array: Any, ops: Any) -> Saved:
        """`array` in the codes of `saved`."""
        q = self.recipe.saved
        self.ctx.saves("saved", array.size)
        matrix = array.reshape((-1, array.shape[-1]))
        return Saved(
            ops.quantize(matrix, q, words=self._words(slot, q, array), k_axis=1), tuple(array.shape), array.dtype
        )

    def quantized(self, slot: str, q: Any, array: Any, ops: Any) -> Any:
        """The values of `array` under q; None leaves it."""
        if q is None:
            return array
        matrix = array.reshape((-1, array.shape[-1])) if array.ndim else array.reshape((1, 1))
        return ops.qdq(matrix, q, words=self._words(slot, q, array), k_axis=1).reshape(array.shape)

    def only(self, output: int) -> Operation:
        """The operation for one of two outputs, which has the gradient factor of that number."""
        factors = self.recipe.scale_grad[output : output + 1]
        return replace(self, recipe=replace(self.recipe, scale_grad=factors))

    def scaled(self, array: Any, value: Factor, shape: tuple[int, ...], ops: Any) -> Any:
        """`array` times a factor; 1 leaves it."""
        number = factor(value, {"rows": math.prod(shape[:-1]), "features": shape[-1] if shape else 1, **self.sizes})
        return array if number == 1.0 else ops.mul(array, array.dtype.type(number))

    def _words(self, slot: str, q: Any, array: Any) -> Any:
        """Random words; those of a later micro-batch begin behind the elements of the earlier ones."""
        if not is_stochastic(q.rounding):
            return None
        address = self.ctx.words(slot, "rounding")
        return replace(address, start=self.ctx.micro * array.size) if self.ctx.micro else address


@dataclass(frozen=True)
class Saved:
    """An activation in the codes of `saved`."""

    codes: Any
    shape: tuple[int, ...]
    dtype: Any

    def restored(self) -> Any:
        """Its values, in the shape that it had."""
        return self.codes.dequantize(self.dtype).reshape(self.shape)


def restored(kept: Sequence[Any]) -> list[Any]:
    """What was kept, as arrays."""
    return [a.restored() if isinstance(a, Saved) else a for a in kept]

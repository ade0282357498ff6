"""The linear layer of a recipe: Y = X W^T and its two gradients, from the recipe's data.

    fprop   Y  = A B^T   A = Q(X T)     B = Q(W T)      contracts K
    dgrad   dX = A B^T   A = Q(dY T)    B = Q(W^T T)    contracts N
    wgrad   dW = A B^T   A = Q(dY^T T)  B = Q(X^T T)    contracts M

with each Q, T (transforms) and source as the recipe says, then the epilogue in order, then one rounding to the output format. `ops` is the
backend: `operand` transforms and quantizes, `gemm` multiplies, `cast` rounds. Nothing is mutated but ``ctx.observed``; state is read.

Random words (N1): rounding ``site/gemm/slot/rounding``, signs ``site/STREAM/transform/signs`` (STREAM is the GEMM unless the transform
names another), element i of a slot is the row-major index in the slot's tensor (X [M, K], W [N, K], dY [M, N]) whatever axis is contracted.
M counts the tokens of the global batch: the rows of micro-batch i begin at i M', M' the rows of a micro-batch.
A pass that is recomputed with an equal context sees the same words and the same state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from lpref.ref import random
from lpref.ref.errors import ShapeError, SpecError
from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.context import Context
from lpref.ref.recipes.executable import missing_in_linear
from lpref.ref.recipes.gemm import TENSORS, Epilogue
from lpref.ref.recipes.gradient import Mask, initial_step, mask_of
from lpref.ref.recipes.observe import observe
from lpref.ref.recipes.recipe import LinearRecipe
from lpref.ref.recipes.sources import made_in_forward, maker, origin, saved_tensor
from lpref.ref.recipes.transform import Transform
from lpref.ref.rounding import is_stochastic

# slot -> axis of its tensor (X [M, K], W [N, K], dY [M, N]) that the GEMM contracts
K_AXIS = {"fprop.a": 1, "fprop.b": 1, "dgrad.a": 1, "dgrad.b": 0, "wgrad.a": 0, "wgrad.b": 0}


@dataclass(frozen=True)
class LinearGrads:
    """dx [M, K], dw [N, K], and the gradients of the recipe's learned parameters by name."""

    dx: Any
    dw: Any
    dparams: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """What the forward pass saved: name in `save` -> tensor, operand or `Mask`; and the learned parameters that it used."""

    entries: Mapping[str, Any]
    params: Mapping[str, Any]


def linear_forward(
    x: Any, w: Any, recipe: LinearRecipe, ctx: Context, ops: Any, params: Mapping[str, Any] | None = None
) -> tuple[Any, Kept]:
    """y [M, N] = x [M, K] w[N, K]^T under the recipe, and what the backward pass needs.

    Raises SpecError for a recipe that this version cannot run, ShapeError for shapes that do not fit.
    """
    _require(recipe)
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        raise ShapeError(f"x is {tuple(x.shape)}, w is {tuple(w.shape)}", where=ctx.site or "linear_forward", remedy="x [M, K] and w [N, K]")
    params = {} if params is None else params
    layer = _Layer(recipe, ctx, ops, params)
    tensors = {"x": x, "w": w}
    operands = {path: layer.operand(path, tensors[TENSORS[path]]) for path in ("fprop.a", "fprop.b")}
    y = layer.product("fprop", operands["fprop.a"], operands["fprop.b"])
    return layer.finish("fprop", y, {}), Kept(_saved(layer, tensors, operands), params)


def linear_backward(dy: Any, saved: Kept, recipe: LinearRecipe, ctx: Context, ops: Any) -> LinearGrads:
    """dx [M, K] and dw [N, K] of ``dy`` [M, N], and the gradients of learned parameters."""
    layer = _Layer(recipe, ctx, ops, saved.params)
    dparams: dict[str, Any] = {}
    made: dict[str, Any] = {}
    gemms = ("dgrad", "wgrad")
    for path in (f"{gemm}.{side}" for gemm in gemms for side in "ab"):
        made[path] = layer.backward_operand(path, dy, saved, made)
    products = ops.gemms([(made[f"{gemm}.a"], made[f"{gemm}.b"], recipe.gemm(gemm).accumulate) for gemm in gemms])
    results = {gemm: layer.finish(gemm, product, saved.entries, dparams) for gemm, product in zip(gemms, products, strict=True)}
    return LinearGrads(results["dgrad"], results["wgrad"], dparams)


def linear_parameters(x: Any, w: Any, recipe: LinearRecipe, ops: Any) -> dict[str, Any]:
    """Learned parameters of the layer by name, from its first input: ``x_step`` and ``w_step`` for LSQ, none for most recipes."""
    tensors, found = {"x": x, "w": w}, {}
    for path in ("fprop.a", "fprop.b"):
        q = recipe.slot(path).quantizer
        if isinstance(q, Quantizer) and q.gradient.kind == "lsq":
            found[f"{TENSORS[path]}_step"] = initial_step(tensors[TENSORS[path]], q, ops)
    return found


@dataclass(frozen=True)
class _Layer:
    """A recipe at a site: how its slots become operands, and its products outputs."""

    recipe: LinearRecipe
    ctx: Context
    ops: Any
    params: Mapping[str, Any]

    def operand(self, path: str, tensor: Any) -> Any:
        """The operand of the slot `path`, made from `tensor`; what it observed goes to ``ctx.observed``."""
        ctx, q = self.ctx, self.recipe.slot(path).quantizer
        words = self.words(path, TENSORS[path], tensor, q)
        transforms = self.transforms(path, tensor.shape)
        collect = ctx.collect and q is not None
        made = self.ops.operand(
            tensor, q, k_axis=K_AXIS[path], transforms=transforms, words=words, state=self.state(path), collect=collect
        )
        if q is not None:
            observe(ctx.observed, ctx.key(path), made.observed)
        return made

    def words(self, slot: str, name: str, tensor: Any, q: Any) -> Any:
        """Random words for rounding `tensor` (x, w or dy) at `slot`, None where `q` takes none.

        x and dy of a later micro-batch begin behind the elements of the earlier ones; w is the same tensor in each.
        """
        if q is None or not is_stochastic(q.rounding):
            return None
        address = self.ctx.words(slot, "rounding")
        return address if name == "w" or not self.ctx.micro else replace(address, start=self.ctx.micro * tensor.size)

    def state(self, path: str) -> Mapping[str, Any] | None:
        """State of the slot's quantizer: its learned step, or what ``ctx.state`` holds."""
        step = self.params.get(f"{TENSORS[path]}_step") if path.startswith("fprop") else None
        q = self.recipe.slot(path).quantizer
        if isinstance(q, Quantizer) and q.scale.rule == "learned" and step is not None:
            return {"scale": step}
        return self.ctx.state.get(self.ctx.key(path))

    def transforms(self, path: str, shape: tuple[int, ...]) -> tuple[tuple[Transform, Any], ...]:
        """The slot's transforms, then the GEMM's paired one, each fitted to its axis and with its signs."""
        gemm, k_axis = path.partition(".")[0], K_AXIS[path]
        paired = self.recipe.gemm(gemm).transform
        wanted = (*self.recipe.slot(path).transforms, *([paired] if paired is not None else []))
        return tuple(self.fitted(t, gemm, shape[k_axis if t.axis == "k" else 1 - k_axis]) for t in wanted)

    def fitted(self, transform: Transform, gemm: str, length: int) -> tuple[Transform, Any]:
        """The transform on an axis of `length`, and its signs."""
        fit = transform.fitted(length, f"{self.ctx.site}.{gemm}")
        if fit.signs == "none":
            return fit, None
        if fit.signs == "fixed":
            return fit, fit.vector
        return fit, random.signs(self.ctx.words(f"{fit.stream or gemm}.transform", "signs"), fit.size)

    def backward_operand(self, path: str, dy: Any, saved: Kept, made: Mapping[str, Any]) -> Any:
        """The operand of a backward slot from its declared source."""
        slot, tensor = self.recipe.slot(path), TENSORS[path]
        if slot.source == "hp":
            if tensor != "dy" and made_in_forward(self.recipe, path):
                return _entry(saved, self.recipe, lambda s: s.what == "codes" and s.quantizer is None and s.of == path)
            return self.operand(path, dy if tensor == "dy" else _tensor(saved, self.recipe, tensor))
        of = origin(self.recipe, path)
        codes = made[of] if of in made else saved.entries[of]
        if slot.source == "requant":
            return self.operand(path, codes.dequantize(dy.dtype))
        return replace(codes, k_axis=K_AXIS[path])

    def product(self, gemm: str, a: Any, b: Any) -> Any:
        """The accumulator of the GEMM: float32 [other_a, other_b]."""
        return self.ops.gemm(a, b, self.recipe.gemm(gemm).accumulate)

    def finish(self, gemm: str, y: Any, entries: Mapping[str, Any], dparams: dict[str, Any] | None = None) -> Any:
        """The epilogue in order, then the output format. LSQ's step gradient is taken where its mask is applied."""
        for step in self.recipe.gemm(gemm).epilogue:
            if step.kind == "mask":
                mask: Mask = entries[step.mask]
                if mask.name and dparams is not None:
                    dparams[mask.name] = mask.step_gradient(y, self.ops)
                y = self.ops.where(mask.inside, y, y.dtype.type(0))
            else:
                y = self.epilogue(step, gemm, y)
        output = self.recipe.gemm(gemm).output
        return y if output == "float32" else self.ops.cast(y, output)

    def epilogue(self, step: Epilogue, gemm: str, y: Any) -> Any:
        """A scale, or the inverse of a transform."""
        if step.kind == "scale":
            return self.ops.mul(y, y.dtype.type(step.factor))
        if step.transform is None:
            raise SpecError([f"{gemm}.epilogue: {step.kind!r} has no transform"])
        axis = 0 if step.side == "a" else 1
        fit, signs = self.fitted(step.transform, gemm, y.shape[axis])
        return self.ops.hadamard_inverse(y, fit.size, axis=axis, signs=signs)


def _saved(layer: _Layer, tensors: Mapping[str, Any], operands: Mapping[str, Any]) -> dict[str, Any]:
    """Every entry of `save`."""
    found = {}
    for name, saved in layer.recipe.save.items():
        tensor = tensors[saved_tensor(name, saved)]
        if saved.what in ("hp", "reference"):
            found[name] = tensor
        elif saved.what == "mask":
            found[name] = mask_of(layer, saved.of, tensor, operands[saved.of])
        elif saved.quantizer is not None:
            words = layer.words(f"save.{name}", saved_tensor(name, saved), tensor, saved.quantizer)
            found[name] = layer.ops.operand(tensor, saved.quantizer, k_axis=1, words=words)
        else:
            path = maker(layer.recipe, name)
            found[name] = operands[path] if path in operands else layer.operand(path, tensor)
    return found


def _entry(saved: Kept, recipe: LinearRecipe, wanted: Any) -> Any:
    """The first saved entry whose declaration `wanted` accepts; the validator has shown that there is one."""
    return next(saved.entries[name] for name, declared in recipe.save.items() if wanted(declared))


def _tensor(saved: Kept, recipe: LinearRecipe, tensor: str) -> Any:
    """x or w in high precision."""
    names = [n for n, s in recipe.save.items() if s.what in ("hp", "reference") and saved_tensor(n, s) == tensor]
    return saved.entries[names[0]]


@lru_cache(maxsize=256)
def _missing(recipe: LinearRecipe) -> tuple[str, ...]:
    return tuple(missing_in_linear(recipe))


def _require(recipe: LinearRecipe) -> None:
    lacking = _missing(recipe)
    if lacking:
        raise SpecError([f"needs {mechanism}, which this version does not have" for mechanism in lacking], where="linear_forward")

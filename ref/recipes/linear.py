"""The linear layer of a recipe: Y = X W^T and its two gradients, from the recipe's data.

    fprop   Y  = A B^T   A = Q(X T)     B = Q(W T)      contracts K
    dgrad   dX = A B^T   A = Q(dY T)    B = Q(W^T T)    contracts N
    wgrad   dW = A B^T   A = Q(dY^T T)  B = Q(X^T T)    contracts M

A split operand makes the product a sum (`products`). With complex algebra X, dY and Y hold pairs (`parts`), and W is [N, K / 2].

With each Q, T (transforms) and source as the recipe says, then the epilogue in order, then one rounding to the output format. `ops` is the
backend: `operand` transforms and quantizes, `gemm` multiplies, `cast` rounds. Nothing is mutated but ``ctx.observed``; state is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from lpref.ref.errors import ShapeError, SpecError
from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.context import Context
from lpref.ref.recipes.epilogue import finish
from lpref.ref.recipes.executable import missing_in_linear
from lpref.ref.recipes.expression import factor_gradients, merged
from lpref.ref.recipes.layer import Layer
from lpref.ref.recipes.learned import first_parameters
from lpref.ref.recipes.products import arguments, is_whole, product
from lpref.ref.recipes.recipe import LinearRecipe
from lpref.ref.recipes.saved import Kept, at_hand, backward_operand, saved_by, with_input
from lpref.ref.recipes.sixteen import entered
from lpref.ref.recipes.sources import made_in_forward

FIRST = Context()
GRADIENTS = ("dgrad", "wgrad")


@dataclass(frozen=True)
class LinearGrads:
    """dx [M, K], dw [N, K], and the gradients of the recipe's learned parameters by name."""

    dx: Any
    dw: Any
    dparams: dict[str, Any] = field(default_factory=dict)


def linear_forward(
    x: Any, w: Any, recipe: LinearRecipe, ctx: Context, ops: Any, params: Mapping[str, Any] | None = None, bias: Any = None, keep: bool = True
) -> tuple[Any, Kept]:
    """y [M, N] = x [M, K] w[N, K]^T + bias [N] under the recipe, and what the backward pass needs; without `keep` there is none, and nothing is made
    for it.

    The bias b, rounded to the output format, is added behind the epilogue: y = r(r32(acc + r(b))), r rounding to the output format, r32 to float32.
    Source: cuBLASLt, CUBLASLT_EPILOGUE_BIAS with a bias of the output's type (NVIDIA cuBLAS documentation, cublasLtEpilogue_t).

    Raises SpecError for a recipe that this version cannot run, ShapeError for shapes that do not fit.
    """
    _require(recipe)
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != recipe.stored * w.shape[1] or w.shape[0] % recipe.stored:
        width = "K" if recipe.stored == 1 else f"K / {recipe.stored}"
        raise ShapeError(f"x is {tuple(x.shape)}, w is {tuple(w.shape)}", where=ctx.site or "linear_forward", remedy=f"x [M, K] and w [N, {width}]")
    params = {} if params is None else params
    layer, x = Layer(recipe, ctx, ops, params, keep=keep), entered(recipe, x, ops)
    tensors = {"x": x, "w": merged(layer, w)}
    q, weight = recipe.fprop.b.quantizer, None
    scaled = isinstance(q, Quantizer) and q.scale.rule != "none" and tensors["w"] is w  # worth it: more than a cast
    if scaled and ops.arrays.branch.apart:  # w, made ahead, before x, whose kernel may then multiply the scales of both
        weight = ops.arrays.branch.ahead(lambda: layer.made("fprop.b", w))
    beside = {} if weight is None else {"fprop.a": weight.operand}
    layer.prepare(x, {"fprop.a": False} | ({"wgrad.b": True} if keep and made_in_forward(recipe, "wgrad.b") else {}), beside)
    made = {"fprop.a": layer.made("fprop.a", x)}
    made["fprop.b"] = layer.made("fprop.b", tensors["w"]) if weight is None else weight
    y = product(layer, "fprop", made["fprop.a"].operand, made["fprop.b"].operand, bias)
    return finish(layer, "fprop", y, x.shape[1], {}, bias=bias), Kept(saved_by(layer, tensors, made) if keep else {}, params)


def linear_backward(dy: Any, saved: Kept, recipe: LinearRecipe, ctx: Context, ops: Any) -> LinearGrads:
    """dx [M, K] and dw [N, K] of ``dy`` [M, N], and the gradients of learned parameters.

    Where the backend has a branch, dw and what follows from it are made there (`lpref.ref.branch`): the same operations on the same operands.
    """
    layer, dy = Layer(recipe, ctx, ops, saved.params), entered(recipe, dy, ops)
    layer.prepare(dy, {"dgrad.a": False, "wgrad.a": False}, {f"{gemm}.a": at_hand(saved, recipe, f"{gemm}.b") for gemm in GRADIENTS})
    return (_apart if ops.arrays.branch.apart else _together)(layer, dy, saved)


def linear_backward_later(dy: Any, saved: Kept, recipe: LinearRecipe, ctx: Context, ops: Any) -> tuple[Any, Callable[[Any], Any]]:
    """dx [M, K], and the function that makes dw [N, K] of x [M, K], once that is there: `linear_backward` of what was saved `without_input`."""
    layer, dy = Layer(recipe, ctx, ops, saved.params), entered(recipe, dy, ops)
    layer.prepare(dy, {"dgrad.a": False, "wgrad.a": False}, {f"{gemm}.a": at_hand(saved, recipe, f"{gemm}.b") for gemm in GRADIENTS})
    made = _operands(layer, ("dgrad",), dy, saved, {})

    def weight(x: Any) -> Any:
        whole = with_input(saved, recipe, x, ops)
        return ops.arrays.branch(lambda: _weight(layer, dy, whole, made)[0], dy, x)

    return _finished(layer, "dgrad", product(layer, "dgrad", made["dgrad.a"], made["dgrad.b"]), dy, saved, {}), weight


def _together(layer: Layer, dy: Any, saved: Kept) -> LinearGrads:
    """Both products in one call, which a backend may run at once."""
    recipe, made = layer.recipe, _operands(layer, GRADIENTS, dy, saved, {})
    if all(is_whole(recipe.gemm(gemm)) for gemm in GRADIENTS):
        products = layer.ops.gemms([arguments(recipe, gemm, made[f"{gemm}.a"], made[f"{gemm}.b"]) for gemm in GRADIENTS])
    else:
        products = [product(layer, gemm, made[f"{gemm}.a"], made[f"{gemm}.b"]) for gemm in GRADIENTS]
    dparams: dict[str, Any] = {}
    dx, dw = (_finished(layer, gemm, y, dy, saved, dparams) for gemm, y in zip(GRADIENTS, products, strict=True))
    return LinearGrads(dx, dw, dparams | factor_gradients(layer, products[1], dw))


def _apart(layer: Layer, dy: Any, saved: Kept) -> LinearGrads:
    """dx on the main line, all else on the branch."""
    made, learned = _operands(layer, ("dgrad",), dy, saved, {}), {}  # type: ignore[var-annotated]
    dw, found = layer.ops.arrays.branch(lambda: _weight(layer, dy, saved, made), dy)
    dx = _finished(layer, "dgrad", product(layer, "dgrad", made["dgrad.a"], made["dgrad.b"]), dy, saved, learned)
    return LinearGrads(dx, dw, learned | found)


def _weight(layer: Layer, dy: Any, saved: Kept, made: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """dw and the gradients of what else is learned. made: operands of dgrad; those of wgrad are added, which holds them as long as the work is under
    way: some were made on the main line."""
    made.update(_operands(layer, ("wgrad",), dy, saved, made))
    found: dict[str, Any] = {}
    y = product(layer, "wgrad", made["wgrad.a"], made["wgrad.b"])
    dw = _finished(layer, "wgrad", y, dy, saved, found)
    return dw, found | factor_gradients(layer, y, dw)


def _operands(layer: Layer, gemms: Sequence[str], dy: Any, saved: Kept, made: Mapping[str, Any]) -> dict[str, Any]:
    """The operands of these products, in order; made: others, whose codes they may take."""
    found = dict(made)
    for path in (f"{gemm}.{side}" for gemm in gemms for side in "ab"):
        found[path] = backward_operand(layer, path, dy, saved, found)
    return found


def _finished(layer: Layer, gemm: str, y: Any, dy: Any, saved: Kept, dparams: dict[str, Any]) -> Any:
    return finish(layer, gemm, y, dy.shape[0 if gemm == "wgrad" else 1], saved.entries, dparams)


def linear_parameters(x: Any, w: Any, recipe: LinearRecipe, ops: Any, ctx: Context = FIRST) -> dict[str, Any]:
    """Learned parameters of the layer by name, from its first input: ``x_step`` and ``w_step`` for LSQ, none for most recipes."""
    return first_parameters(Layer(recipe, ctx, ops, {}), {"x": entered(recipe, x, ops), "w": w})


def layer_weight(w: Any, recipe: LinearRecipe, ctx: Context, ops: Any, params: Mapping[str, Any]) -> Any:
    """The values of the weight [N, K] that the forward pass multiplies, in the basis of its slot."""
    layer = Layer(recipe, replace(ctx, observed={}, collect=False), ops, params)
    return layer.operand("fprop.b", merged(layer, w)).dequantize(w.dtype)


@lru_cache(maxsize=256)
def _missing(recipe: LinearRecipe) -> tuple[str, ...]:
    return tuple(missing_in_linear(recipe))


def _require(recipe: LinearRecipe) -> None:
    lacking = _missing(recipe)
    if lacking:
        raise SpecError(
            [f"needs {mechanism}, which this version does not have" for mechanism in lacking], where="linear_forward"
        )

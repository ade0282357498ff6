"""Linear layer y = x wᵀ, in high precision or under a recipe; conv2d as im2col and a linear layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lpref.autodiff import plain as F
from lpref.autodiff.fused import Fused, formats, kept_in
from lpref.autodiff.primitives import im2col_shape
from lpref.autodiff.tensor import Node, Shape, Tensor, apply, make, mode
from lpref.ref.errors import GraphError, ShapeError, WordsError
from lpref.ref.recipes import LinearRecipe, linear_backward, linear_forward
from lpref.ref.recipes.linear import linear_backward_later
from lpref.ref.recipes.saved import from_input, without_input
from lpref.ref.recipes.sixteen import rounds_gradient


def flat(x: Any) -> Any:
    """x [..., K] as [M, K]."""
    return x if x.ndim == 2 else x.reshape((-1, x.shape[-1]))


def forward(B: Any, x: Any, w: Any) -> tuple[Any, Any]:
    """y [..., N] = x [..., K] w[N, K]ᵀ."""
    y = B.gemm(B.operand(flat(x), k_axis=1), B.operand(w, k_axis=1))
    return y.reshape((*x.shape[:-1], w.shape[0])), None


def backward(B: Any, dy: Any, saved: Any, xs: tuple, wants: list[bool]) -> tuple[Any, ...]:
    """dx = dy w, dw = dyᵀ x."""
    x, w = xs
    dy = flat(dy)
    if wants[1] and B.arrays.branch.apart:
        dw = B.arrays.branch(lambda: B.gemm(B.operand(dy, k_axis=0), B.operand(flat(x), k_axis=0)), dy)
        return (B.gemm(B.operand(dy, k_axis=1), B.operand(w, k_axis=0)).reshape(x.shape) if wants[0] else None), dw
    products = [
        (B.operand(dy, k_axis=1), B.operand(w, k_axis=0)) if wants[0] else None,
        (B.operand(dy, k_axis=0), B.operand(flat(x), k_axis=0)) if wants[1] else None,
    ]
    made = iter(B.gemms([product for product in products if product is not None]))
    dx, dw = (None if product is None else next(made) for product in products)
    return None if dx is None else dx.reshape(x.shape), dw


def composite(x: Tensor, w: Tensor) -> Tensor:
    """reshape(x) wᵀ, reshaped back."""
    y = F.matmul(F.reshape(x, (-1, x.shape[-1])), w.T)
    return F.reshape(y, (*x.shape[:-1], w.shape[0]))


LINEAR = Fused("linear", forward, backward, composite)


@dataclasses.dataclass(frozen=True)
class QuantizedLinear:
    """The linear layer of a recipe: `ref.recipes.linear_forward` and `linear_backward` on the tensor's backend.

    Its node keeps what the recipe saves and no input: memory is the recipe's. Its backward is the recipe's gradient
    rule, not the derivative of its forward (which is zero almost everywhere), so there is no second order.

    The gradient of the bias is the sum of dY over rows. Where the recipe's products read dY rounded to bfloat16, so does the sum, as in mixed
    precision, whose gradients are of bfloat16; `back` is then the format in which dY is handed to the products (float32: as it came).
    """

    name = "quantized linear"
    always_expands = False
    gathers = None

    def __call__(
        self, x: Tensor, w: Tensor, recipe: Any, ctx: Any, params: Mapping[str, Tensor], bias: Tensor | None = None, back: str = "float32"
    ) -> Tensor:
        """Run the recipe's forward; a recomputed forward observes nothing (its words are the same)."""
        backend = x.backend
        quiet = dataclasses.replace(ctx, collect=False, observed={}) if mode.recomputing else ctx
        arrays = {name: p.data for name, p in params.items()}
        parents = (x.node, w.node, *[p.node for p in params.values()], *(() if bias is None else (bias.node,)))
        recorded = mode.recording and any(parents)
        added = None if bias is None else bias.data
        y, saved = linear_forward(flat(x.data), w.data, recipe, quiet, backend, arrays, added, keep=recorded)
        y = y.reshape((*x.shape[:-1], w.shape[0]))
        if not recorded:
            return make(y, backend)
        node = Node(self, parents, (Shape(x.shape), *params, *(() if bias is None else (BIAS,))), (recipe, ctx, back), y.shape)
        node.saved = without_input(saved, recipe) if waits(x, w, recipe) else saved
        return make(y, backend, node)

    def pull(self, node: Node, g: Tensor, wants: list[bool]) -> list[Tensor | None]:
        """dx, dw and the gradients of the recipe's own parameters and of the bias; None for those that belong to another phase or pass."""
        recipe, ctx, back = node.params
        shape, *names = node.inputs
        dy, extra = flat(g.data), {}
        if BIAS in names:
            read = g.backend.cast(dy, "bfloat16", **kept_in(formats("float32", back), "back")) if rounds_gradient(recipe) else dy
            extra[BIAS] = g.backend.arrays.branch(lambda: g.backend.tree_sum(read, axis=0), read)
            dy = dy if back == "float32" else read
        if all(name in node.saved.entries for name in recipe.save):
            grads = linear_backward(dy, node.saved, recipe, ctx, g.backend)
            dx, dw, made = grads.dx, grads.dw, {**grads.dparams, **extra}
        else:
            dx, dw, made = *self.later(node, dy, g.backend, wants), extra
        arrays = [dx.reshape(shape.shape) if wants[0] else None, dw, *[made.get(n) for n in names]]
        return [make(d, g.backend) if want and d is not None else None for d, want in zip(arrays, wants, strict=True)]

    def later(self, node: Node, dy: Any, backend: Any, wants: list[bool]) -> tuple[Any, Any]:
        """dx; and dw, which waits for who made x, if that one is going to be visited (None)."""
        (maker, w), (recipe, ctx, _) = node.parents[:2], node.params
        dx, weight = linear_backward_later(dy, node.saved, recipe, ctx, backend)
        if not wants[1] or maker is None or w is None:
            return dx, None
        if not wants[0]:
            return dx, weight(flat(maker.op.remade(maker, backend)))
        maker.waiting = [*(maker.waiting or ()), (w, lambda x: weight(flat(x)))]
        return dx, None

    def expand(self, node: Node) -> Tensor:
        """Refused: rounding has no second derivative."""
        raise GraphError("a linear layer under a recipe has no second derivative", where="backward",
                         remedy="differentiate the model built with recipe None (high precision)")  # fmt: skip


def waits(x: Tensor, w: Tensor, recipe: LinearRecipe) -> bool:
    """Whether x is not kept: who made it makes it again in its own backward, and the gradient of the weight w, a parameter, waits for that."""
    maker, least = x.node, x.backend.arrays.again
    if least is None or maker is None or w.node is None or w.node.op is not None or not getattr(maker.op, "again", False):
        return False
    return maker.params.get("store") == "bfloat16" and x.data.nbytes >= least and from_input(recipe)


BIAS = "bias"
"""The bias among what a layer learns; the recipe's own parameters have names of two parts (`x_step`)."""
QUANTIZED_LINEAR = QuantizedLinear()
HIGH_PRECISION = LinearRecipe()


def linear(
    x: Tensor, w: Tensor, *, recipe: Any = None, ctx: Any = None, params: Any = None, bias: Tensor | None = None, back: str = "float32"
) -> Tensor:
    """y = x wᵀ + bias; x [..., K], w [N, K] ([N, K / 2] where the recipe's algebra is complex), bias [N].

    `recipe` (a LinearRecipe) says how the three GEMMs are quantized; it needs `ctx`, the Context at this layer's site
    (seed, step, state, observations). `params`: the recipe's learned tensors by name. None, or the recipe that
    quantizes nothing: high precision, which has second derivatives. Under a recipe the bias is added before the product is rounded to its output
    format (`linear_forward`) and its gradient reads dY as the products do (`QuantizedLinear`); back: the format in which dY is kept then.
    """
    stored = 1 if recipe is None else recipe.stored
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != stored * w.shape[1]:
        raise ShapeError(f"x of shape {x.shape} and w of shape {w.shape}", where="autodiff.linear",
                         remedy="x [..., K] and w [N, K]" if stored == 1 else f"x [..., K] and w [N, K / {stored}]")  # fmt: skip
    if recipe is None or recipe == HIGH_PRECISION:
        y = LINEAR(x, w)
    elif ctx is None:
        raise WordsError("a recipe needs a Context (seed, step, site)", where="autodiff.linear", remedy="pass ctx=")
    else:
        if bias is not None:
            F.check_last_axis("linear", Shape((*x.shape[:-1], w.shape[0])), bias)
        return QUANTIZED_LINEAR(x, w, recipe, ctx, params or {}, bias, back)
    if bias is None:
        return y
    F.check_last_axis("linear", y, bias)
    return y + bias


def conv2d(
    x: Tensor, w: Tensor, *, stride: int = 1, padding: int = 0, recipe: Any = None, ctx: Any = None, params: Any = None,
    bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Cross-correlation as a GEMM: im2col [N·OH·OW, C·kh·kw] times w [O, C·kh·kw]ᵀ; y [N, O, OH, OW].

    x [N, C, H, W], w [O, C, kh, kw]; same stride and zero padding on both axes; recipe and ctx as for `linear`.
    """
    if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1]:
        raise ShapeError(f"x of shape {x.shape} and w of shape {w.shape}", where="autodiff.conv2d",
                         remedy="x [N, C, H, W] and w [O, C, kh, kw]")  # fmt: skip
    o, _, kh, kw = w.shape
    oh, ow = im2col_shape(x.shape, kh, kw, stride, padding)
    columns = apply("im2col", x, kh=kh, kw=kw, stride=stride, padding=padding)
    y = linear(columns, w.reshape((o, -1)), recipe=recipe, ctx=ctx, params=params, bias=bias)
    return y.reshape((x.shape[0], oh, ow, o)).transpose((0, 3, 1, 2))

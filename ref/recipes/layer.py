"""`Layer`: a recipe at a site. How its slots become operands: transforms, splits, mixing, state, random words.

Random words (N1): rounding ``site/gemm/slot/rounding``, signs ``site/STREAM/transform/signs`` (STREAM is the GEMM unless the transform
names another), element i of a slot is the row-major index in the slot's tensor (X [M, K], W [N, K], dY [M, N]) whatever axis is contracted.
M counts the tokens of the global batch: the rows of micro-batch i begin at i M', M' the rows of a micro-batch.
A pass that is recomputed with an equal context sees the same words and the same state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.context import Context
from lpref.ref.recipes.expression import adapter
from lpref.ref.recipes.gemm import TENSORS
from lpref.ref.recipes.guided import guided
from lpref.ref.recipes.learned import learned_state, slot_parameters
from lpref.ref.recipes.mixing import mixed_operand
from lpref.ref.recipes.observe import observe
from lpref.ref.recipes.parts import split_operand
from lpref.ref.recipes.recipe import LinearRecipe
from lpref.ref.recipes.shared import SharedBlocks
from lpref.ref.recipes.sources import turned_later
from lpref.ref.recipes.transform import Transform
from lpref.ref.rounding import is_stochastic

# slot -> axis of its tensor (X [M, K], W [N, K], dY [M, N]) that the GEMM contracts
K_AXIS = {"fprop.a": 1, "fprop.b": 1, "dgrad.a": 1, "dgrad.b": 0, "wgrad.a": 0, "wgrad.b": 0}

Transforms = tuple[tuple[Transform, Any], ...]


@dataclass(frozen=True)
class Made:
    """What became of a slot's tensor: the GEMM's `operand`, and what the quantizer made (`quantized`; mostly the same)."""

    operand: Any
    quantized: Any


@dataclass(frozen=True)
class Layer:
    """A recipe at a site: how its slots become operands, and its products outputs."""

    recipe: LinearRecipe
    ctx: Context
    ops: Any
    params: Mapping[str, Any]
    ahead: dict[str, Any] = field(default_factory=dict)
    """Slot -> operand that was made together with another one."""
    keep: bool = True
    """Whether a backward pass will follow."""

    def prepare(self, tensor: Any, paths: Mapping[str, bool], beside: Mapping[str, Any] | None = None) -> None:
        """Operands of one tensor that a backend makes from one read (`Arrays.operands`). paths: slot -> whether its operand is kept for later;
        beside: slot -> the other operand of its product, where that is there already."""
        wanted = [
            (self.recipe.slot(path).quantizer, self.options(path, tensor) | {"beside": (beside or {}).get(path)}, kept)
            for path, kept in paths.items() if self._only_quantized(path)
        ]  # fmt: skip
        made = self.ops.arrays.operands(tensor, wanted) if len(wanted) > 1 else None
        if made is not None:
            self.ahead.update(zip((path for path in paths if self._only_quantized(path)), made, strict=True))

    def _only_quantized(self, path: str) -> bool:
        slot, q = self.recipe.slot(path), self.recipe.slot(path).quantizer
        whole = slot.split is None and slot.mixing is None and slot.source == "hp" and slot.fade == 1.0
        return whole and isinstance(q, Quantizer) and not q.scale.learned

    def options(self, path: str, tensor: Any) -> dict[str, Any]:
        """The options of `operand` for the slot `path`, its own quantizer and transforms."""
        q, transforms = self.recipe.slot(path).quantizer, self.transforms(path, tensor.shape)
        words = self.words(path, TENSORS[path], tensor, q)
        return {"k_axis": K_AXIS[path], "transforms": transforms, "words": words, "state": self.state(path), "collect": self.ctx.collect}

    def operand(self, path: str, tensor: Any) -> Any:
        """The operand of the slot `path`, made from `tensor`; what it observed goes to ``ctx.observed``."""
        return self.made(path, tensor).operand

    def made(self, path: str, tensor: Any) -> Made:
        """The operand of the slot `path`, and what the slot's quantizer made.

        They differ, and the product is one of float32 values, where the slot does something to the values: a learned offset b is subtracted
        before quantization and added to them; then quantization is faded in; then a product of low rank is added to the weight.
        """
        slot, transforms = self.recipe.slot(path), self.transforms(path, tensor.shape)
        if slot.split is not None or slot.mixing is not None or any(t.rank for t, _ in transforms):
            operand = self._of_parts(path, self.transformed(path, tensor, transforms))
            return Made(operand, operand)
        offset, outside = self.offset(path, tensor.shape), adapter(self, "outside") if path == "fprop.b" else None
        if offset is None:
            quantized = self.quantized(path, tensor, slot.quantizer, transforms=transforms)
        else:
            quantized = self.quantized(path, self.plain(path, tensor), slot.quantizer)
        if offset is None and outside is None and slot.fade == 1.0:
            return Made(quantized, quantized)
        values = quantized.dequantize(tensor.dtype)
        values = values if offset is None else self.ops.add(values, offset)
        values = values if slot.fade == 1.0 else self.faded(path, tensor, values)
        values = values if outside is None else self.ops.add(values, outside)
        return Made(self.ops.operand(values, None, k_axis=K_AXIS[path]), quantized)

    def faded(self, path: str, tensor: Any, values: Any) -> Any:
        """(1 - fade) v + fade Q(v), the two products rounded to float32 first; v in the slot's basis."""
        fade, ops, number = self.recipe.slot(path).fade, self.ops, tensor.dtype.type
        v = ops.operand(tensor, None, k_axis=K_AXIS[path], transforms=self.transforms(path, tensor.shape)).dequantize(tensor.dtype)
        return ops.add(ops.mul(v, number(1.0 - fade)), ops.mul(values, number(fade)))

    def _of_parts(self, path: str, tensor: Any) -> Any:
        """The operand of a tensor that is already in the slot's basis."""
        slot = self.recipe.slot(path)
        if slot.mixing is not None:
            return mixed_operand(self, path, tensor)
        return self.quantized(path, tensor, slot.quantizer) if slot.split is None else split_operand(self, path, tensor)

    def plain(self, path: str, tensor: Any) -> Any:
        """What the slot's quantizer sees: the tensor in the slot's basis, a learned offset subtracted."""
        v = self.ops.operand(tensor, None, k_axis=K_AXIS[path], transforms=self.transforms(path, tensor.shape)).dequantize(tensor.dtype)
        offset = self.offset(path, tensor.shape)
        return v if offset is None else self.ops.sub(v, offset)

    def offset(self, path: str, shape: tuple[int, int]) -> Any:
        """The learned offset of the slot `path`, spread over its elements; None where it learns none."""
        q = self.recipe.slot(path).quantizer
        offset = slot_parameters(self.params, path, q).get("offset")
        return None if offset is None or not isinstance(q, Quantizer) else SharedBlocks.of(q, shape, self.ops).spread(offset)

    def quantized(self, path: str, tensor: Any, q: Any, part: str = "", transforms: Transforms = ()) -> Any:
        """The operand that `q` makes of `tensor`, or of what a split gives to one `part` of the slot."""
        ctx, made = self.ctx, self.ahead.pop(path, None)
        if made is not None:
            observe(ctx.observed, ctx.key(path), made.observed)
            return made
        words = self.words(f"{path}.{part}" if part else path, TENSORS[path], tensor, q)
        if path == "fprop.b" and isinstance(q, Quantizer) and self.recipe.slot(path).guided and ctx.site in ctx.companions:
            tensor = guided(tensor, ctx.companions[ctx.site], q, self.ops)
        collect = ctx.collect and q is not None
        both = {"both": True} if self.ops.arrays.both and self.keep and turned_later(self.recipe, path) else {}
        made = self.ops.operand(
            tensor, q, k_axis=K_AXIS[path], transforms=transforms, words=words, state=self.state(path), collect=collect, **both
        )
        if q is not None:
            observe(ctx.observed, ctx.key(path), made.observed)
        return made

    def transformed(self, path: str, x: Any, transforms: Transforms) -> Any:
        """x after every transform in order; one of lower rank leaves fewer elements."""
        for transform, signs in transforms:
            axis = self.k_axis(path) if transform.axis == "k" else 1 - self.k_axis(path)
            x = self.ops.hadamard(x, transform.size, axis=axis, signs=signs)
            if transform.rank:
                kept = self.ops.arrays.make(transform.kept(x.shape[axis]))
                x = x[kept] if axis == 0 else x[:, kept]
        return x

    def k_axis(self, path: str) -> int:
        """The axis of the slot's tensor that its GEMM contracts."""
        return K_AXIS[path]

    def words(self, slot: str, name: str, tensor: Any, q: Any) -> Any:
        """Random words for rounding `tensor` (x, w or dy) at `slot`, None where `q` takes none.

        x and dy of a later micro-batch begin behind the elements of the earlier ones; w is the same tensor in each.
        """
        if q is None or not is_stochastic(q.rounding):
            return None
        address = self.ctx.words(slot, "rounding")
        return address if name == "w" or not self.ctx.micro else replace(address, start=self.ctx.micro * tensor.size)

    def state(self, path: str) -> Mapping[str, Any] | None:
        """State of the slot's quantizer: its learned parameters, or what ``ctx.state`` holds."""
        learned = learned_state(self.params, path, self.recipe.slot(path).quantizer, self.ops)
        return self.ctx.state.get(self.ctx.key(path)) if learned is None else learned

    def transforms(self, path: str, shape: tuple[int, ...]) -> Transforms:
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
        return fit, self.ctx.signs(f"{fit.stream or gemm}.transform", fit.size)

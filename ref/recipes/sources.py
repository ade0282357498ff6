"""Where each operand of the backward pass comes from: what is saved, which slot's codes, in which orientation and basis."""

from __future__ import annotations

from functools import lru_cache

from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.basis import AXES, Word, letter, reduced
from lpref.ref.recipes.gemm import TENSORS, PlannedQuantizer
from lpref.ref.recipes.recipe import LinearRecipe, Saved

AnyQuantizer = Quantizer | PlannedQuantizer


def origin(linear: LinearRecipe, path: str) -> str:
    """What the slot at `path` reuses or requantizes: an entry of `save`, or the slot ``dgrad.a``; empty for source hp."""
    slot = linear.slot(path)
    if slot.source == "hp":
        return ""
    return slot.of or ("dgrad.a" if TENSORS[path] == "dy" else TENSORS[path])


def saved_tensor(name: str, saved: Saved) -> str:
    """x or w: the tensor that an entry of `save` is about."""
    return TENSORS.get(saved.of, saved.of or name)


def maker(linear: LinearRecipe, of: str) -> str:
    """The slot that makes the codes named by `of` (an entry of `save`, or a slot); empty where a quantizer of its own makes them."""
    if of in AXES:
        return of
    entry = linear.save.get(of)
    return entry.of if entry is not None and entry.of in AXES and entry.quantizer is None else ""


def code_quantizer(linear: LinearRecipe, of: str) -> AnyQuantizer | None:
    """The quantizer of the codes named by `of`."""
    made = maker(linear, of)
    if made:
        return effective(linear, made)
    return linear.save[of].quantizer if of in linear.save else None


def effective(linear: LinearRecipe, path: str) -> AnyQuantizer | None:
    """The quantizer whose codes the GEMM multiplies at `path`; None for high precision."""
    slot = linear.slot(path)
    if slot.source in ("reuse", "reuse_transposed"):
        of = origin(linear, path)
        return None if maker(linear, of) == path else code_quantizer(linear, of)
    return next((q for q in slot.quantizers().values() if q is not None), None)


def code_axis(linear: LinearRecipe, of: str) -> str:
    """The axis (K, M or N) along which the codes named by `of` were made to be contracted."""
    made = maker(linear, of)
    if made:
        return AXES[made][0]
    return "K"


def bases(linear: LinearRecipe, path: str) -> dict[str, Word]:
    """Axis -> reduced word: the basis in which the operand at `path` enters its GEMM."""
    slot, gemm = linear.slot(path), path.partition(".")[0]
    words: dict[str, Word] = dict.fromkeys(AXES[path], ())
    of = origin(linear, path)
    made = maker(linear, of) if of else ""
    if made and made != path:
        words.update({axis: word for axis, word in bases(linear, made).items() if axis in words})
    k, other = AXES[path]
    for transform in slot.transforms:
        axis = k if transform.axis == "k" else other
        words[axis] = (*words[axis], letter(transform, gemm))
    paired = linear.gemm(gemm).transform
    if paired is not None:
        words[k] = (*words[k], letter(paired, gemm))
    return {axis: reduced(word) for axis, word in words.items()}


def made_in_forward(linear: LinearRecipe, path: str) -> bool:
    """Whether the forward pass already makes and keeps the operand of the backward slot `path`."""
    return any(s.what == "codes" and s.quantizer is None and s.of == path for s in linear.save.values())


def has_high_precision(linear: LinearRecipe, tensor: str) -> bool:
    """Whether the backward pass has the tensor itself."""
    return tensor == "dy" or any(s.what in ("hp", "reference", "projection") and saved_tensor(n, s) == tensor for n, s in linear.save.items())


@lru_cache(maxsize=1024)
def turned_later(linear: LinearRecipe, path: str) -> bool:
    """Whether a backward slot takes the codes of the slot `path` along their other axis."""
    users = [p for p in AXES if linear.slot(p).source == "reuse_transposed"]
    return linear.slot(path).split is None and any(maker(linear, origin(linear, p)) == path for p in users)


@lru_cache(maxsize=1024)
def only_turned(linear: LinearRecipe, of: str) -> bool:
    """Whether all that the backward pass does with the saved codes `of` is to contract them along their other axis."""
    sources = [linear.slot(p).source for p in AXES if origin(linear, p) == of]
    return bool(sources) and all(source == "reuse_transposed" for source in sources)

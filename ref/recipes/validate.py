"""The symbolic check of a recipe: every problem, each with the path of its field.

V1  transforms: along k both operands of a GEMM are in the same basis; what stays on the output is undone by the epilogue
V2  masks: applied in the basis in which they were made, on the gradient of the tensor that they belong to, and where (and only
    where) the forward quantizer's gradient rule asks for one
V3  sources: what a backward slot reads is saved, or made before it
V4  reuse: codes are contracted along the axis they were made for, or the blocks are transpose-closed
V5  formats: a signed tensor gets a signed format, dY no learned scale; stochastic rounding takes 8, 16 or 32 bits a word
V6  tails: two operands that are blocked along k pad alike
V7  sums: see `validate_sums`
V8  rules, schedule and `executable` agree with the rest
V9  gradient rules (`lpref.ref.recipes.validate_gradient`)
V10 weights: what is stored has a sign and needs no state, an update of codes has its integers and their unit, a fixed grid an amax
V11 operations: kinds, factors and quantizers that exist (`operation_problems`)
V12 what changes while a recipe runs makes a sound recipe at every moment (`lpref.ref.recipes.run_time`)
V13 a guided slot is fprop.b, without transforms, and its quantizer keeps values that are on its grid
V14 fading is of a forward quantizer; loss hooks are known (`lpref.ref.recipes.loss_hooks`); only fprop.b holds an expression, a real one
V15 a gate's candidates are sound and keep nothing (`lpref.ref.recipes.candidates`)
"""

from __future__ import annotations

from collections.abc import Iterator

from lpref.ref.errors import LprefError, nearest
from lpref.ref.formats import VECTOR_FORMATS, VectorFormat
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.basis import AXES, Word, inverse, letter, reduced, shown
from lpref.ref.recipes.candidates import gate_problems
from lpref.ref.recipes.executable import missing_mechanisms
from lpref.ref.recipes.gemm import GEMMS, TENSORS, Slot
from lpref.ref.recipes.gradient import learned_names
from lpref.ref.recipes.guided import cannot_guide
from lpref.ref.recipes.loss_hooks import hook_problems
from lpref.ref.recipes.operation import operation_problems
from lpref.ref.recipes.recipe import EXEMPT, LinearRecipe, Recipe
from lpref.ref.recipes.run_time import run_time_problems
from lpref.ref.recipes.sources import (
    AnyQuantizer,
    bases,
    code_axis,
    code_quantizer,
    effective,
    has_high_precision,
    made_in_forward,
    maker,
    origin,
    saved_tensor,
)
from lpref.ref.recipes.validate_gradient import gradient_problems
from lpref.ref.recipes.validate_sums import split_problems, sum_problems
from lpref.ref.rounding import is_stochastic

OFFSETS = ("affine", "minmax")  # scale rules that say what code 0 stands for
# GEMM of a gradient -> the forward slot whose tensor it is the gradient of
GRADIENT_OF = {"dgrad": "fprop.a", "wgrad": "fprop.b"}


def problems_of(recipe: Recipe) -> list[str]:
    """Everything wrong with a recipe; empty when it is sound."""
    found = [f"linear.{p}" for p in linear_problems(recipe.linear)]
    for name, variant in recipe.variants.items():
        if variant != recipe.linear and variant != EXEMPT:
            found += [f"variants.{name}.{p}" for p in linear_problems(variant)]
    return [*found, *operation_problems(recipe.operations), *hook_problems(recipe.loss_hooks), *_recipe_level(recipe)]


def linear_problems(linear: LinearRecipe) -> list[str]:
    """Everything wrong with a linear recipe."""
    found = [*_saves(linear), *(p for path in AXES for p in _slot(linear, path))]
    if found:  # bases are defined only where sources are
        return found
    return [p for gemm in GEMMS for p in [*_transforms(linear, gemm), *_masks(linear, gemm), *_tails(linear, gemm), *sum_problems(linear, gemm)]]


def _saves(linear: LinearRecipe) -> Iterator[str]:
    """V3 for the entries of `save`."""
    for name, saved in linear.save.items():
        where = f"save.{name}"
        if saved.what in ("codes", "mask") and saved.quantizer is None and saved.of not in AXES:
            yield f"{where}.of: {saved.what} belong to a slot (fprop.a, …), not to {saved.of!r}"
        elif saved.what == "codes" and TENSORS.get(saved.of) == "dy":
            yield f"{where}.of: dY does not exist yet when the forward pass saves"
        elif saved_tensor(name, saved) not in ("x", "w"):
            yield f"{where}.of: what is saved is x, w, or a slot that holds one, not {saved.of or name!r}"
        elif saved.what == "reference" and saved_tensor(name, saved) != "w":
            yield f"{where}.what: only the weight outlives the forward pass; x is saved as hp or codes"
        elif saved.what == "projection" and (saved_tensor(name, saved) != "x" or saved.ratio < 1):
            yield f"{where}: a projection is of x, with ratio 1 or more; got {saved_tensor(name, saved)} and {saved.ratio}"


def _slot(linear: LinearRecipe, path: str) -> Iterator[str]:
    slot, tensor = linear.slot(path), TENSORS[path]
    yield from _source(linear, path, slot, tensor)
    if slot.guided:
        why = cannot_guide(slot.quantizer) if path == "fprop.b" else "only the forward weight slot has a companion tensor"
        if slot.transforms or slot.split is not None or linear.fprop.transform is not None:
            why = "the companion tensor is whole and in the plain basis, the slot is transformed or split"
        if why:
            yield f"{path}.guided: {why}"
    if slot.fade != 1.0 and not (path.startswith("fprop") and slot.quantizer and slot.split is None and slot.mixing is None and 0 <= slot.fade < 1):
        yield f"{path}.fade: {slot.fade!r}; a number from 0 to 1, of a forward slot with a quantizer, whole and unmixed"
    if slot.expression is not None and (path != "fprop.b" or linear.algebra != "real" or slot.split is not None):
        yield f"{path}.expression: an expression stands in the forward weight slot (fprop.b) of a real layer, whole"
    for index, q in enumerate(slot.quantizers().values()):
        where = f"{path}.split.quantizers.{index}" if slot.split is not None and slot.split.quantizers else f"{path}.quantizer"
        if isinstance(q, Quantizer):
            yield from _quantizer(where, q, tensor, backward=not path.startswith("fprop"))
    yield from split_problems(linear, path)


def _source(linear: LinearRecipe, path: str, slot: Slot, tensor: str) -> Iterator[str]:
    """V3 and V4."""
    if path.startswith("fprop") or path == "dgrad.a":
        if slot.source != "hp":
            yield f"{path}.source: {slot.source!r}, but nothing was quantized before this slot; use hp"
        return
    if slot.source == "hp":
        if not has_high_precision(linear, tensor) and not made_in_forward(linear, path):
            yield f"{path}.source: hp, but save keeps neither {tensor} in high precision nor the codes of {path}; save one of them"
        return
    of = origin(linear, path)
    if not (of in linear.save and linear.save[of].what == "codes") and of != ("dgrad.a" if tensor == "dy" else ""):
        yield f"{path}.of: {of!r} are no saved codes; save has {', '.join(f'{n} ({s.what})' for n, s in linear.save.items())}"
        return
    q = code_quantizer(linear, of)
    if q is None:
        yield f"{path}.source: {slot.source!r}, but {maker(linear, of) or of} has no quantizer and so no codes; use hp"
    elif slot.source != "requant":
        yield from _reuse(linear, path, slot, of, q)


def _reuse(linear: LinearRecipe, path: str, slot: Slot, of: str, q: AnyQuantizer) -> Iterator[str]:
    """V4."""
    if slot.quantizer is not None:
        yield f"{path}.quantizer: {slot.source} takes the codes as they are; leave the quantizer out, or use requant"
    if slot.transforms or linear.gemm(path.partition(".")[0]).transform is not None:
        yield f"{path}.source: codes cannot be transformed; use requant or hp"
    made, wanted = code_axis(linear, of), AXES[path][0]
    if slot.source == "reuse" and made != wanted:
        yield f"{path}.source: reuse, but these codes are blocked for a contraction over {made}, {path} contracts over {wanted}; use requant or hp"
    closed = q.blocks.transpose_closed or (isinstance(q, Quantizer) and q.scale.rule == "none")
    if slot.source == "reuse_transposed" and not closed:
        size = f"{q.blocks.other or 'all'} x {q.blocks.k or 'all'}"
        yield f"{path}.source: codes in blocks of {size} (other x k) cannot be reused transposed; use square blocks, requant or hp"


def _quantizer(where: str, q: Quantizer, tensor: str, backward: bool) -> Iterator[str]:
    """V5."""
    try:
        form = VECTOR_FORMATS.get(q.format) or format_named(q.format)
    except LprefError as error:
        yield f"{where}.format: {error}"
        return
    if isinstance(form, VectorFormat):
        return
    if not form.signed and tensor in ("w", "dy") and q.scale.rule not in OFFSETS and not {"offset", "zero"} & set(learned_names(q)):
        yield f"{where}.format: {q.format} has no sign, and {tensor} has negative values; use a signed format"
    yield from gradient_problems(where, q, tensor, backward)
    if is_stochastic(q.rounding) and q.word_bits not in (None, 8, 16, 32):
        yield f"{where}.word_bits: {q.word_bits}; a word has 8, 16 or 32 bits"
    if not is_stochastic(q.rounding) and q.word_bits is not None:
        yield f"{where}.word_bits: rounding {q.rounding!r} takes no random bits; leave word_bits out"


def _transforms(linear: LinearRecipe, gemm: str) -> Iterator[str]:
    """V1, and V2's basis: walks the epilogue with the basis of the output's two axes."""
    a, b = bases(linear, f"{gemm}.a"), bases(linear, f"{gemm}.b")
    k, row = AXES[f"{gemm}.a"]
    column = AXES[f"{gemm}.b"][1]
    if a[k] != b[k]:
        where, remedy = f"{gemm}: along the contraction axis {k}", f"use {gemm}.transform, which is of both"
        yield f"{where}, a is in {shown(a[k])} and b in {shown(b[k])}: their product is not that of the plain operands; {remedy}"
    here = {row: a[row], column: b[column]}
    for index, step in enumerate(linear.gemm(gemm).epilogue):
        where = f"{gemm}.epilogue.{index}"
        if step.kind == "inverse" and step.transform is not None:
            axis = row if step.side == "a" else column
            here[axis] = reduced((*here[axis], inverse(letter(step.transform, gemm))))
        elif step.quantizer is not None:
            yield from _output(f"{where}.quantizer", step.quantizer)
        elif step.kind == "mask":
            yield from _mask_basis(linear, step.mask, here, where)
    for axis, word in here.items():
        if word:
            side = "a" if axis == row else "b"
            remedy = f"undo it with a step {{kind: inverse, side: {side}, transform: …}}"
            yield f"{gemm}.epilogue: axis {axis} of the output stays in {shown(word)}; {remedy}"


def _output(where: str, q: Quantizer) -> Iterator[str]:
    """V5 for what a product is stored as."""
    if q.scale.history != "current" or q.scale.learned:
        yield f"{where}.scale: its scale needs a state, which outputs do not have; use history current"
    if not format_named(q.format).signed and q.scale.rule not in OFFSETS:
        yield f"{where}.format: {q.format} has no sign, and products have negative values; use a signed format"


def _mask_basis(linear: LinearRecipe, name: str, here: dict[str, Word], where: str) -> Iterator[str]:
    saved = linear.save.get(name)
    if saved is None or saved.what != "mask":
        masks = [n for n, s in linear.save.items() if s.what == "mask"]
        yield f"{where}.mask: {name!r} is no saved mask; save has {', '.join(masks) or 'none'}"
        return
    made = bases(linear, saved.of)
    if set(made) != set(here):
        yield f"{where}.mask: {name!r} has the axes {' x '.join(made)}, the output {' x '.join(here)}"
        return
    for axis, word in here.items():
        if made[axis] != word:
            yield f"{where}.mask: {name!r} was made in {shown(made[axis])} along {axis}, here the output is in {shown(word)}"


def _masks(linear: LinearRecipe, gemm: str) -> Iterator[str]:
    """V2: the gradient rule of the forward quantizer and the masks of the backward GEMM agree."""
    if gemm not in GRADIENT_OF:
        return
    path = GRADIENT_OF[gemm]
    q = linear.slot(path).quantizer
    kind = "none" if q is None else q.gradient.kind
    wanted = kind not in ("none", "ste")
    used = [s.mask for s in linear.gemm(gemm).epilogue if s.kind == "mask" and s.mask in linear.save and linear.save[s.mask].of == path]
    if wanted and not used:
        yield f"{gemm}.epilogue: the gradient rule {kind!r} of {path} needs its mask; save {{what: mask, of: {path}}} and apply it"
    if used and not wanted:
        yield f"{gemm}.epilogue: {path} has the gradient rule {kind!r}, which leaves gradients as they are; leave the mask out"


def _tails(linear: LinearRecipe, gemm: str) -> Iterator[str]:
    """V6."""
    quantizers = [effective(linear, f"{gemm}.{side}") for side in "ab"]
    tails = {q.tail for q in quantizers if isinstance(q, Quantizer) and q.blocks.k is not None}
    if len(tails) > 1:
        yield f"{gemm}: the operands' tails differ ({' and '.join(sorted(tails))}), so their padded lengths do; give both the same tail"


def _recipe_level(recipe: Recipe) -> Iterator[str]:
    """V8."""
    for index, rule in enumerate(recipe.rules):
        if rule.use != "exempt" and rule.use not in recipe.variants:
            names = ["exempt", *recipe.variants]
            near = nearest(rule.use, names)
            yield f"rules.{index}.use: no variant {rule.use!r}; {f'did you mean {near[0]!r}?' if near else 'known: ' + ', '.join(names)}"
    yield from run_time_problems(recipe)
    yield from recipe.weights.problems()
    yield from gate_problems(recipe)
    lacking = missing_mechanisms(recipe)
    if recipe.executable and lacking:
        yield f"executable: true, but this version lacks {'; '.join(lacking)}"
    if recipe.executable == bool(recipe.missing):
        yield "missing: names the mechanisms that keep a recipe from being executable, and only then"

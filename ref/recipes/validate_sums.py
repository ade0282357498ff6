"""The symbolic check of split, mixed and sampled operands (V7): every problem, each with the path of its field.

V7  every term names parts of its operands, and none is missing; parts have no state and no gradient rule but straight through; only parts that
    were stacked are combined; rows are sampled where rows are tokens; complex layers split all six operands
"""

from __future__ import annotations

from collections.abc import Iterator

from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.basis import AXES
from lpref.ref.recipes.gemm import GemmSpec, Slot
from lpref.ref.recipes.recipe import LinearRecipe

ROWS = {"dgrad": "other", "wgrad": "k"}
"""GEMM -> the axis of dY that counts tokens."""


def split_problems(linear: LinearRecipe, path: str) -> Iterator[str]:
    """Of one slot."""
    slot = linear.slot(path)
    if (slot.split is not None and slot.split.kind == "complex") != (linear.algebra == "complex"):
        yield f"{path}.split: algebra {linear.algebra}, but the operand is {'not ' if linear.algebra == 'complex' else ''}split into complex parts"
    if slot.mixing is not None and (slot.split is not None or slot.quantizer is None):
        yield f"{path}.mixing: rows are mixed around one quantizer; give a quantizer and no split"
    if slot.split is not None:
        yield from _split(path, slot)


def _split(path: str, slot: Slot) -> Iterator[str]:
    split, given = slot.split, slot.quantizers()
    assert split is not None
    if split.stacked and path not in ("dgrad.a", "wgrad.a"):
        yield f"{path}.split.stacked: only parts of dY become more rows"
    if split.kind in ("residual", "fallback", "samples") and slot.source in ("hp", "requant") and None in list(given.values())[: len(given) - 1]:
        yield f"{path}.split.quantizers: a {split.kind} split needs a quantizer for every part but the last"
    for name, q in given.items():
        if isinstance(q, Quantizer) and q.gradient.kind != "ste":
            yield f"{path}.split: the part {name!r} has the gradient rule {q.gradient.kind!r}; parts know only ste"
        if isinstance(q, Quantizer) and (q.scale.history != "current" or q.scale.learned):
            yield f"{path}.split: the part {name!r} has a scale with state; parts keep none"


def sum_problems(linear: LinearRecipe, gemm: str) -> list[str]:
    """Of one GEMM."""
    spec = linear.gemm(gemm)
    return [*_terms(gemm, spec), *_stack(gemm, spec)]


def _terms(gemm: str, spec: GemmSpec) -> Iterator[str]:
    sides = [(side, getattr(spec, side).split) for side in "ab"]
    for side, split in sides:
        parts = split.parts if split is not None else ("",)
        for index, term in enumerate(spec.terms):
            name = getattr(term, side)
            if name not in parts:
                given = f"the parts {', '.join(parts)}" if split is not None else "no parts"
                yield f"{gemm}.terms.{index}.{side}: {name!r}, but {gemm}.{side} has {given}"
        if split is not None and not split.stacked and not spec.terms:
            yield f"{gemm}.terms: {gemm}.{side} is split into {', '.join(split.parts)}; say which products are added"
    if spec.terms and _stacks(spec):
        yield f"{gemm}.terms: the parts of {gemm}.a are stacked into one product; leave the terms out, or stacked"


def _stacks(spec: GemmSpec) -> bool:
    return (spec.a.split is not None and spec.a.split.stacked) or spec.sampling is not None


def _stack(gemm: str, spec: GemmSpec) -> Iterator[str]:
    """Stacked parts and sampled rows."""
    stacked = spec.a.split is not None and spec.a.split.stacked
    combines = [i for i, step in enumerate(spec.epilogue) if step.kind == "combine"]
    if combines and not (stacked and gemm == "dgrad"):
        why = "no operand is stacked" if not stacked else f"{AXES['wgrad.a'][0]} is contracted, so the product has added them"
        yield f"{gemm}.epilogue: combine adds stacked parts, and {why}"
    elif stacked and gemm == "dgrad" and combines != [0]:
        yield f"{gemm}.epilogue: the product has a stack of rows for every part; begin with a step {{kind: combine}}"
    if spec.sampling is None:
        return
    if ROWS.get(gemm) != spec.sampling.axis:
        wanted = f"{ROWS[gemm]!r} here" if gemm in ROWS else "sampled in dgrad and wgrad only"
        yield f"{gemm}.sampling.axis: {spec.sampling.axis!r}; the rows are tokens, {wanted}"
    if spec.a.split is not None and not stacked:
        yield f"{gemm}.sampling: rows of split operands are sampled from the stack of the parts; write stacked: true"

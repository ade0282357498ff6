"""V9: a gradient rule has settings that it knows, learns what its scale rule lets it learn, and fits its format."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from lpref.ref.errors import nearest
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer
from lpref.ref.recipes.gradient import levels
from lpref.ref.recipes.gradients import RULES
from lpref.ref.recipes.gradients.dge import MOST_LEVELS

UNIFORM = ("dsq", "ewgs", "lsq", "lsq_plus", "affine", "pact")
"""Rules of grids with one step."""


def gradient_problems(where: str, q: Quantizer, tensor: str, backward: bool) -> Iterator[str]:
    """What is wrong with the gradient rule of a slot's quantizer; `tensor` is x, w or dy."""
    kind, rule, learned = q.gradient.kind, RULES[q.gradient.kind], q.scale.learned
    if backward and learned:
        yield f"{where}.scale.rule: a learned scale belongs to the forward pass; here nothing would train it"
    if backward and kind != "ste":
        yield f"{where}.gradient.kind: {kind!r} belongs to the forward pass; nothing is differentiated here"
        return
    if learned and not rule.learned:
        learners = ", ".join(name for name, other in RULES.items() if other.learned)
        yield f"{where}.gradient.kind: {kind!r} trains no scale, and the scale is learned; use one of {learners}"
    if rule.learned and not learned and kind != "ewgs":
        yield f"{where}.gradient.kind: {kind!r} goes with a learned scale; write scale: {{rule: learned}}"
    if learned and tensor == "x" and q.blocks.other is not None:
        yield f"{where}.blocks.other: {q.blocks.other}; activations differ from batch to batch, so a learned scale spans all tokens (all)"
    yield from _settings(where, q)
    yield from _format(where, q)


def _settings(where: str, q: Quantizer) -> Iterator[str]:
    rule = RULES[q.gradient.kind]
    settings = [*rule.defaults, *(["label"] if rule.learned else [])]
    for name in q.gradient.params:
        if name not in settings:
            near = nearest(name, settings)
            known = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(settings) or 'none'}"
            yield f"{where}.gradient.params.{name}: {q.gradient.kind!r} has no such setting; {known}"
            return
    label = q.gradient.params.get("label", "")
    if not (isinstance(label, str) and (label == "" or label.isidentifier())):
        yield f"{where}.gradient.params.label: {label!r} is not a name of letters, digits and underscores"
    try:
        found = rule.problems(rule.settings(q))
    except TypeError:
        found = [f"{name}: {value!r} has the wrong type" for name, value in q.gradient.params.items()]
    yield from (f"{where}.gradient.params.{problem}" for problem in found)


def _format(where: str, q: Quantizer) -> Iterator[str]:
    kind, form = q.gradient.kind, format_named(q.format)
    if kind == "dge" and (form.bits > 8 or len(levels(q)) > MOST_LEVELS):
        yield f"{where}.gradient.kind: 'dge' reads every interval between levels, of at most {MOST_LEVELS} levels; {q.format} has more"
    if kind in UNIFORM and form.bits <= 8:
        steps = {b - a for a, b in pairwise(levels(q))}
        if steps - {1.0}:
            yield f"{where}.gradient.kind: {kind!r} is defined for integers; the levels of {q.format} are not 1 apart"

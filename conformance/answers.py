"""Asking a cast for its codes: a `Target` of `lpref diff`, a callable, or one of lpref's own backends by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.conformance.targets.base import CastCase, Target, TargetRefused
from lpref.ref.errors import ShapeError, UnknownNameError
from lpref.ref.formats import format as format_of
from lpref.ref.rounding import default_word_bits, is_stochastic

OWN = ("cpu", "reference")


@dataclass(frozen=True)
class Ask:
    """`ask(patterns, word)`: the answer to float32 patterns, every element under the same word."""

    name: str
    version: str
    cast: Callable[[np.ndarray, np.ndarray | None], Any]

    def __call__(self, patterns: np.ndarray, word: int | None) -> np.ndarray:
        """uint codes or float values, of the patterns' shape.

        Raises: ShapeError for an answer of another shape; what the cast raises.
        """
        words = None if word is None else np.full(patterns.shape, word, np.uint32)
        got = np.asarray(self.cast(patterns.view(np.float32), words))
        if got.shape != patterns.shape:
            raise ShapeError(f"the cast returned shape {got.shape} for an input of shape {patterns.shape}", where=self.name,
                             remedy="it must keep the shape")  # fmt: skip
        return got


def asking(target: Any, case: CastCase) -> Ask:
    """What `target` answers to `case`.

    Raises: UnknownNameError for a name that is no backend of ours, TargetRefused where a target does not implement the case.
    """
    if isinstance(target, str):
        return own(target, case)
    if isinstance(target, Target):
        refusal = target.available or target.refuses(case)
        if refusal:
            raise TargetRefused(refusal, where=target.name)
        return Ask(target.name, target.version, lambda x, words: target.cast(x, case, words))
    name = getattr(target, "__qualname__", type(target).__name__)
    if is_stochastic(case.rounding):
        return Ask(name, "", lambda x, words: target(x, words))
    return Ask(name, "", lambda x, words: target(x))


def own(name: str, case: CastCase) -> Ask:
    """`cpu`: the kernels of the CPU backend; `reference`: the definition's own code."""
    from lpref import __version__

    if name not in OWN:
        raise UnknownNameError("backend", name, OWN, where="prove")
    f = format_of(case.format)
    bits = (case.word_bits or default_word_bits(f.bits)) if is_stochastic(case.rounding) else None
    if name == "reference":
        return Ask(name, __version__, lambda x, words: f.encode(x, case.rounding, case.overflow, words, bits))
    from lpref.accel.cpu.cast import encode

    return Ask(name, __version__, lambda x, words: encode(x, f, case.rounding, case.overflow, words, bits))

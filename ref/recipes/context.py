"""`Context`: everything that a linear layer needs beside its tensors: seed, step, site, state, and where observations go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lpref.ref import random
from lpref.ref.random import WordAddress


@dataclass(frozen=True)
class Context:
    """Where and when a layer runs.

    seed, step, update   of the run; random words depend on seed and step
    site                 the layer's name: ``h.0.attn.qkv``
    pass_                number of the forward pass within the step, where a recipe has several. A recomputed pass keeps its number,
                         and so sees the same random words.
    micro                number of the micro-batch within the step. Micro-batches are equal parts of the global batch, in order: the rows of
                         X and dY of part i follow those of part i - 1, and their random words are those of the global batch (N1)
    state                quantizer state by ``site/gemm/slot``, read only
    companions           companion tensor of the weight by site, for guided slots
    observed             the one mutable thing: collects {"amax": …, "count": …, …} by ``site/gemm/slot`` for `update_state`
    fresh                slots whose key begins so draw other random words: a probe of one tensor
    sizes                where it is a dict: counts the elements that are saved for the backward pass, by ``site/save/x`` or ``site/saved``
    collect              also collect error statistics (mse, sqnr_db, overflowed, underflowed, …) of every quantized operand
    init                 a forward pass that only makes learned parameters
    """

    seed: int = 0
    step: int = 0
    update: int = 0
    site: str = ""
    pass_: int = 0
    micro: int = 0
    state: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    companions: Mapping[str, Any] = field(default_factory=dict)
    observed: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    collect: bool = False
    fresh: str = ""
    sizes: dict[str, int] | None = None
    init: bool = False

    def at(self, site: str) -> Context:
        """The context of the layer `site`."""
        return replace(self, site=site)

    def key(self, slot: str) -> str:
        """Key of the quantizer in ``fprop.a``, …: ``site/fprop/a``."""
        return f"{self.site}/{slot.replace('.', '/')}"

    def saves(self, slot: str, elements: int) -> None:
        """Counts elements that are saved, where somebody asks."""
        if self.sizes is not None:
            self.sizes[self.key(slot)] = self.sizes.get(self.key(slot), 0) + elements

    def words(self, slot: str, purpose: str) -> WordAddress:
        """Address of the random words of a slot: stream ``site/gemm/slot/purpose``, with ``@pass`` from the second pass on; fresh: ``#``."""
        suffix = f"@{self.pass_}" if self.pass_ else ""
        suffix += "#" if self.fresh and self.key(slot).startswith(self.fresh) else ""
        return WordAddress(self.seed, self.step, f"{self.key(slot)}/{purpose}{suffix}")

    def signs(self, slot: str, n: int) -> Any:
        """n random signs of a slot, float32: those of the stream ``site/gemm/slot/signs``."""
        return random.signs(self.words(slot, "signs"), n)

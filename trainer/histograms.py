"""How often each point of a format's grid is used by inputs, weights and gradients: one more forward and backward pass that looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from lpref.ref.backend import Backend, Kernel
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import QTensor, Quantizer

SITES = 3  # linear layers shown, the first quantized ones
SLOTS = ("fprop/a", "fprop/b", "dgrad/a", "wgrad/a")  # X, W, and the two of dY
MOST_BITS = 8


def code_histogram(t: QTensor) -> dict[str, Any]:
    """{format, grid, share}: the format's finite values (−0 and 0 are one), and the share of the elements on each.

    A NaN or an infinity among the elements is on no point, so that the shares then add up to less than one.
    """
    f = format_named(t.quantizer.format)
    grid = np.unique(np.asarray(f.table()[0], np.float64) + 0.0)
    values = np.asarray(f.decode(t.unpacked()), np.float64).reshape(-1)
    place = np.searchsorted(grid, values[np.isfinite(values)])
    counts = np.bincount(place, minlength=grid.size)
    return {"format": f.name, "grid": grid.tolist(), "share": (counts / max(values.size, 1)).tolist()}


class LookingBackend(Backend):
    """`inner`, whose quantized operands of at most `MOST_BITS` bits also observe their histogram; values and words are `inner`'s."""

    def __init__(self, inner: Backend, exact: Backend) -> None:
        """exact: the same backend in grade exact, whose operands are codes."""
        self._codes = exact.kernels["operand"].function
        super().__init__(
            inner.name,
            inner.numerics,
            [replace(k, function=self._look(k)) if k.op == "operand" else k for k in inner.kernels.values()],
            inner.arrays,
        )

    def _look(self, kernel: Kernel) -> Any:
        def operand(x: Any, quantizer: Any = None, **kwargs: Any) -> Any:
            made = kernel.function(x, quantizer, **kwargs)
            if not isinstance(quantizer, Quantizer) or format_named(quantizer.format).bits > MOST_BITS:
                return made
            if isinstance(made, QTensor):  # counted where it is shown
                return replace(made, observed={**made.observed, "histogram": partial(self._counted, made)})
            histogram = self._counted(self._codes(x, quantizer, **kwargs))
            return replace(made, observed={**made.observed, "histogram": lambda: histogram})

        return operand

    def _counted(self, codes: Any) -> dict[str, Any]:
        return code_histogram(self.arrays.host(codes))


def histograms(observed: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """{site/gemm/slot: histogram} of the first `SITES` layers that have any, from the observations of a step on a `LookingBackend`."""
    found = {place: seen[0]["histogram"] for place, seen in observed.items() if "histogram" in seen[0]}
    sites = list(dict.fromkeys(place.rsplit("/", 2)[0] for place in found))[:SITES]
    places = [f"{site}/{slot}" for site in sites for slot in SLOTS]
    return {place: found[place]() for place in places if place in found}

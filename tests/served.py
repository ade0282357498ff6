"""Which recipes a GPU has kernels for, found on the host: every quantizer that they name; and which of them grade fast can follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from lpref.accel.cuda import plans
from lpref.ref.errors import BackendError
from lpref.ref.quantize import Quantizer
from lpref.ref.recipes import GEMMS, Recipe


def quantizers(value: Any) -> Iterator[Quantizer]:
    """Every quantizer anywhere in a recipe."""
    if isinstance(value, Quantizer):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from quantizers(getattr(value, field.name))
    elif isinstance(value, Mapping | tuple | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from quantizers(inner)


def served(recipe: Recipe) -> bool:
    """Whether nothing that the recipe names lacks a kernel. Complex tensors are made of two halves in host memory, whatever the backend."""
    for q in quantizers(recipe):
        try:
            if q.scale.rule not in ("none", "quartic"):
                plans.check(q)
        except BackendError:
            return False
    return True


def fast(recipe: Recipe) -> bool:
    """Whether grade fast can follow its sums; else it refuses them."""
    linears = [recipe.linear, *recipe.variants.values()]
    return all(linear.gemm(name).accumulate.float32_sums for linear in linears for name in GEMMS)

"""Which share of a model's GEMM work runs in low precision, per GEMM kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lpref.ref.formats import format as format_named
from lpref.ref.recipes.gemm import GEMMS
from lpref.ref.recipes.recipe import LinearRecipe, Recipe
from lpref.ref.recipes.sources import effective


def operand_bits(linear: LinearRecipe, gemm: str) -> int:
    """Bits of the wider operand of a GEMM: 32 where one is not quantized."""
    quantizers = [effective(linear, f"{gemm}.{side}") for side in "ab"]
    return max(32 if q is None else format_named(q.format).bits for q in quantizers)


def gemm_flop_share(recipe: Recipe, sites: Iterable[Any], bits: int = 4) -> dict[str, float]:
    r"""GEMM kind -> share of its floating-point operations whose two operands have at most `bits` bits; ``all`` is the three together.

    `sites` are linear layers with name, role, index, count, n, k and, where they differ, rows (of M per sample). Every one of a site's
    three GEMMs costs $2 M N K$ operations, so the shares do not depend on the batch.
    """
    work = dict.fromkeys(GEMMS, 0)
    low = dict.fromkeys(GEMMS, 0)
    for site in sites:
        linear = recipe.for_layer(site.name, site.role, site.index, site.count)
        operations = 2 * getattr(site, "rows", 1) * site.n * site.k
        for gemm in GEMMS:
            work[gemm] += operations
            low[gemm] += operations if operand_bits(linear, gemm) <= bits else 0
    shares = {gemm: low[gemm] / work[gemm] if work[gemm] else 0.0 for gemm in GEMMS}
    return {**shares, "all": sum(low.values()) / max(sum(work.values()), 1)}

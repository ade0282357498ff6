"""Where the matrix-multiplication work of a training step is done: the share of each GEMM kind in formats of at most four bits."""

from __future__ import annotations

from typing import Any

from lpref.ref.formats import format as format_named
from lpref.trainer.quantizers import TENSOR
from lpref.trainer.spec import TrainSpec

GEMMS = ("fprop", "dgrad", "wgrad")


def operand_bits(linear: Any, gemm: str, slot: str) -> int:
    """Bits of an element of one operand; 32 in high precision. Reused codes have the bits of the slot that made them."""
    found = getattr(getattr(linear, gemm), slot)
    if found.quantizer is None and found.source != "hp":
        tensor = TENSOR[gemm, slot]
        makers = [getattr(getattr(linear, g), s).quantizer for (g, s), t in TENSOR.items() if t == tensor]
        saved = [entry.quantizer for entry in linear.save.values() if entry.of == tensor]
        quantizer = next((q for q in [*makers, *saved] if q is not None), None)
    else:
        quantizer = found.quantizer
    return 32 if quantizer is None else format_named(quantizer.format).bits


def shares(sites: list[Any], recipes: dict[str, Any], bits: int = 4) -> dict[str, float]:
    """{fprop, dgrad, wgrad, all}: share of the FLOPs of all linear layers whose both operands have at most `bits` bits."""
    low, total = dict.fromkeys(GEMMS, 0), 0
    for site in sites:
        work = 2 * site.rows * site.n * site.k
        total += work
        for gemm in GEMMS:
            linear = recipes[site.name]
            if linear is not None and max(operand_bits(linear, gemm, slot) for slot in ("a", "b")) <= bits:
                low[gemm] += work
    return {**{gemm: low[gemm] / total for gemm in GEMMS}, "all": sum(low.values()) / (3 * total)}


def fp4_share(spec: TrainSpec, data: Any) -> dict[str, float]:
    """The shares of a spec's model under its recipe."""
    from lpref.trainer.setup import build_model, load_backend, load_recipe

    model = build_model(spec, load_recipe(spec), load_backend(spec), data)
    return shares(model.linear_sites(), model.recipes)
